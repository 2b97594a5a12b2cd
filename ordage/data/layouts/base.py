"""One registry of the ways in which age data lies on disk; a layout says whether it fits and reads the table.

Other packages add layouts through the entry-point group ``ordage.layouts``, each entry a `Layout`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DataError, UsageError, did_you_mean
from ..ages import parse_age
from ..manifest import image_files

if TYPE_CHECKING:
    from ...config import DataConfig
    from ..manifest import Manifest

__all__ = ["MAX_AGE", "Layout", "Source", "age_row", "layouts", "read", "register"]

MAX_AGE = 120.0  # years; anything above is a stamp, an id or a typing error, not an age

_LAYOUTS: dict[str, Layout] = {}


class Source:
    """What the user named, looked at once however many layouts ask.

    Attributes:
        name: as the user wrote it.
        path: the same as a path.
    """

    def __init__(self, name: str) -> None:
        """Name it; nothing is read yet."""
        self.name = name
        self.path = Path(name)

    @functools.cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()

    @functools.cached_property
    def images(self) -> list[Path]:
        """All image files below the folder, sorted; none for a file."""
        return image_files(self.path) if self.is_folder else []

    def files(self, *suffixes: str) -> list[Path]:
        """Return the file itself, or the files right in the folder, whose names end so, case aside, sorted."""
        found = self.path.iterdir() if self.is_folder else [self.path]
        return sorted(file for file in found if file.name.lower().endswith(suffixes) and not file.name.startswith("."))

    def relative(self, file: Path) -> str:
        """Return what a sample of this file is called."""
        return file.relative_to(self.path).as_posix()


@dataclass(frozen=True)
class Layout:
    """A way in which data lies on disk.

    Attributes:
        name: what ``--layout`` calls it.
        recognise: takes the source, returns why it is this layout, or ``None`` when it is not.
        read: makes the manifest; the ``reason`` is passed through.
        summary: how the data lies, in one line.
    """

    name: str
    recognise: Callable[[Source], str | None]
    read: Callable[[Source, DataConfig, str], Manifest]
    summary: str


def register(layout: Layout) -> Layout:
    """Make a layout known; those registered first are tried first.

    Raises:
        ValueError: another layout has the name.
    """
    if layout.name in _LAYOUTS:
        raise ValueError(f"Expected a new layout name, but {layout.name!r} is taken")
    _LAYOUTS[layout.name] = layout
    return layout


@functools.cache
def layouts() -> dict[str, Layout]:
    """Return all layouts by name, those of other packages first: whoever installs one wants it to be tried."""
    found = {}
    for entry in entry_points(group="ordage.layouts"):
        try:
            layout = entry.load()
        except Exception as error:
            raise UsageError(f"layout {entry.name!r} of another package cannot be imported: {error}") from None
        if not isinstance(layout, Layout):
            raise UsageError(f"layout {entry.name!r} of another package is no Layout, but a {type(layout).__name__}")
        found[layout.name] = layout
    return {**found, **_LAYOUTS}


def read(options: DataConfig) -> Manifest:
    """Read the manifest of ``options.data`` in the layout named, else in the first one that recognises it.

    Raises:
        DataError: nothing there, or no layout fits.
        UsageError: no such layout.
    """
    source, known = Source(options.data), layouts()
    if options.layout is not None:
        if options.layout not in known:
            raise UsageError(
                f"--layout {options.layout}: expected one of {', '.join(known)}{did_you_mean(options.layout, known)}"
            )
        layout, reason = known[options.layout], "named by --layout"
    else:
        layout, reason = _recognise(source)
    return layout.read(source, options, reason)


def _recognise(source: Source) -> tuple[Layout, str]:
    for layout in layouts().values():
        try:
            if (reason := layout.recognise(source)) is not None:
                return layout, reason
        except OSError as error:
            raise DataError(f"{source.name}: {error.strerror or error}") from None
    path = source.path
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected a folder, a table, arrays, or 'demo'")
    if path.is_dir() and not any(path.iterdir()):
        raise DataError(f"{path}: the folder is empty; expected images whose age stands in a name, a folder or a table")
    raise DataError(
        f"{path}: not recognised as any of {', '.join(layouts())}; name its layout by --layout, or make a table with "
        "the columns image and age"
    )


def age_row(sample: str, text: str, **fields: object) -> dict[str, object]:
    """Return a row of the manifest's table for an age as written.

    Raises:
        ValueError: the text is no age, or none that a person can have; the message is a reason for ``rejected.csv``.
    """
    interval = parse_age(text)
    if interval is None:
        raise ValueError(f"no age in {text!r}")
    if interval[0] > MAX_AGE:
        raise ValueError(f"age {interval[0]:g} is above {MAX_AGE:g}")
    return {"id": sample, "low": interval[0], "high": interval[1], **fields}
