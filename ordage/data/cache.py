"""The folder of decoded images: what it holds, how big it is, and how to empty it.

``images/<settings>-<contents>/`` holds one uint8 array, every distinct content once, and an index of it; the name
follows from the image settings and the contents alone, so that a set that was copied, renamed or touched is not decoded
again. ``listings/`` remembers which content each file of a set had, by size and time of change, so that a second start
reads no file at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError

if TYPE_CHECKING:
    from ..transforms import ImageSpec

__all__ = ["Entry", "cache_root", "clear", "entries", "entry_name", "explained", "settings_name", "size_text", "sweep"]

FORMAT = 2  # raised when what an entry holds changes its meaning
META = "meta.json"
DAY = 86_400.0  # seconds; longer than any build takes, so what is half built and older was killed


def cache_root() -> Path:
    """Return the cache folder: ``$ORDAGE_CACHE``, else ``ordage`` in the user's cache folder."""
    if given := os.environ.get("ORDAGE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ordage"


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the file system refuses into one line that says which folder, and how to take another."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cache folder {cache_root()}: {error.strerror or error}; name another by ORDAGE_CACHE"
        ) from None


def settings_name(spec: ImageSpec) -> str:
    """Name what the pixels depend on besides the file.

    Example:
        >>> from ordage.transforms import ImageSpec
        >>> settings_name(ImageSpec(64, 3))
        '64x64x3-crop-bilinear-v2'
    """
    return f"{spec.size}x{spec.size}x{spec.chans}-{spec.fit}-{spec.interpolation}-v{FORMAT}"


def entry_name(spec: ImageSpec, digests: Sequence[str]) -> str:
    """Name the entry of the distinct contents ``digests``, which are sorted."""
    contents = hashlib.blake2b("".join(digests).encode(), digest_size=10).hexdigest()
    return f"{settings_name(spec)}-{contents}"


@dataclass(frozen=True)
class Entry:
    """One set of decoded images.

    Attributes:
        path: its folder.
        source: the data it was made from.
        images: how many distinct images it holds.
        size: in bytes.
        used: when it was last opened, in seconds since the epoch.
    """

    path: Path
    source: str
    images: int
    size: int
    used: float

    @property
    def settings(self) -> str:
        """The image settings, such as ``64x64x3-crop-bilinear``."""
        return re.sub(r"-v\d+-\w+$", "", self.path.name)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON holds it."""
        return {
            "name": self.path.name,
            "source": self.source,
            "images": self.images,
            "settings": self.settings,
            "bytes": self.size,
            "used": self.used,
        }


def entries() -> list[Entry]:
    """Return all entries, the one used last first. What is being built, or is not ours, is left out."""
    found = []
    for meta in cache_root().glob(f"images/*/{META}"):
        try:
            about = json.loads(meta.read_text(encoding="utf-8"))
            size = sum(file.stat().st_size for file in meta.parent.iterdir())
            found.append(Entry(meta.parent, str(about["source"]), int(about["images"]), size, meta.stat().st_mtime))
        except (OSError, ValueError, KeyError, TypeError):  # removed meanwhile, or half written by a full disk
            continue
    return sorted(found, key=lambda entry: -entry.used)


def clear(names: Sequence[str] = (), *, unused_days: float = 0.0) -> list[Entry]:
    """Delete entries, all of them without arguments, and what killed runs left half built.

    A run that has an entry open goes on: its memory map keeps the data until it ends.

    Args:
        names: entries by name, or by the beginning of it.
        unused_days: only those that nobody opened for so many days.

    Returns:
        What was deleted.

    Raises:
        UsageError: no entry has such a name.
    """
    known = entries()
    for name in names:
        if not any(entry.path.name.startswith(name) for entry in known):
            raise UsageError(f"{name}: no such entry; `ordage cache list` shows their names")
    before = time.time() - unused_days * DAY
    chosen = [
        entry
        for entry in known
        if entry.used <= before and (not names or any(entry.path.name.startswith(name) for name in names))
    ]
    with explained():
        for entry in chosen:
            shutil.rmtree(entry.path)
        sweep()
        if not names and not unused_days:
            shutil.rmtree(cache_root() / "listings", ignore_errors=True)
    return chosen


def size_text(size: int) -> str:
    """Return a number of bytes as people read it.

    Example:
        >>> size_text(235_000_000)
        '235 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000  # type: ignore[assignment]  # from here on a fraction
    return f"{size:.3g} TB"


def sweep() -> None:
    """Remove what a killed run left half built."""
    for work in cache_root().glob("images/.building-*"):
        if time.time() - work.stat().st_mtime > DAY:
            shutil.rmtree(work, ignore_errors=True)
