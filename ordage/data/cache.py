"""Every image is decoded once: one uint8 array on disk, memory-mapped, keyed by the files and the image settings."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..progress import Reporter
    from ..transforms import ImageSpec
    from .manifest import Manifest

__all__ = ["ImageStore", "cache_root", "open_images"]

FORMAT = 1  # raised when what an entry holds changes its meaning
CHUNK = 64  # images a worker decodes between two reports


@dataclass(frozen=True)
class ImageStore:
    """The decoded images of a manifest, in its order.

    Attributes:
        images: ``(N, size, size, chans)`` uint8; a memory map when they came from files.
        digests: ``(N,)`` hexadecimal hash of each file's bytes (of the pixels for arrays); equal means identical.
        errors: ``(N,)`` why an image could not be read, empty where it could.
    """

    images: NDArray[np.uint8]
    digests: NDArray[np.str_]
    errors: NDArray[np.str_]


def cache_root() -> Path:
    """Return the cache folder: ``$ORDAGE_CACHE``, else ``ordage`` in the user's cache folder."""
    if given := os.environ.get("ORDAGE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ordage"


def open_images(manifest: Manifest, spec: ImageSpec, reporter: Reporter) -> ImageStore:
    """Return the manifest's images as ``spec`` wants them, from the cache where they have been decoded before."""
    if manifest.images is not None:
        return _from_arrays(manifest.images, spec)
    entry = cache_root() / _key(manifest, spec)
    if not (entry / "meta.json").exists():
        _sweep()
        _build(entry, manifest, spec, reporter)
    index = np.load(entry / "index.npz", allow_pickle=False)
    # Copy-on-write rather than read-only: torch warns of arrays that it cannot write to, though nobody writes.
    images = np.load(entry / "images.npy", mmap_mode="c", allow_pickle=False)
    return ImageStore(images, index["digests"], index["errors"])


def _sweep() -> None:
    """Remove what a killed run left half built; a day is more than any build takes."""
    for work in cache_root().glob(".building-*"):
        if time.time() - work.stat().st_mtime > 86_400:
            shutil.rmtree(work, ignore_errors=True)


def _from_arrays(arrays: NDArray[Any], spec: ImageSpec) -> ImageStore:
    digests = np.array([hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).hexdigest() for row in arrays])
    images = arrays
    if arrays.shape[1:] != (spec.size, spec.size, spec.chans):
        images = np.empty((len(arrays), spec.size, spec.size, spec.chans), np.uint8)
        for row, array in enumerate(arrays):
            images[row] = spec.prepare(Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array))
    return ImageStore(images, digests, np.full(len(arrays), "", dtype="<U1"))


def _key(manifest: Manifest, spec: ImageSpec) -> str:
    """Name the entry by what the pixels depend on; size and time of change stand for a file's content."""
    digest = hashlib.blake2b(digest_size=16)
    settings = {"format": FORMAT, "size": spec.size, "chans": spec.chans, "fit": spec.fit, "by": spec.interpolation}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for path in manifest.table["path"]:
        try:
            status = os.stat(path)
            readable = os.access(path, os.R_OK)
            about = f"\0{path}\0{status.st_size}\0{status.st_mtime_ns}\0{readable}"
            digest.update(about.encode("utf-8", "surrogateescape"))
        except OSError:
            digest.update(f"\0{path}\0missing".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _build(entry: Path, manifest: Manifest, spec: ImageSpec, reporter: Reporter) -> None:
    """Decode into a folder beside the entry and rename it, so that an entry is there whole or not at all."""
    paths = list(manifest.table["path"])
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".building-", dir=entry.parent))
    except OSError as error:
        raise DataError(
            f"cache folder {entry.parent}: {error.strerror or error}; name another by ORDAGE_CACHE"
        ) from None
    try:
        shape = (len(paths), spec.size, spec.size, spec.chans)
        images = np.lib.format.open_memmap(work / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
        digests, errors = [""] * len(paths), [""] * len(paths)

        def decode(start: int) -> int:
            rows = range(start, min(start + CHUNK, len(paths)))
            for row in rows:
                try:
                    content = Path(paths[row]).read_bytes()
                    digests[row] = hashlib.blake2b(content, digest_size=16).hexdigest()
                    images[row] = spec.decode(content)
                except (OSError, ValueError) as error:
                    errors[row] = getattr(error, "strerror", None) or str(error)
            return len(rows)

        # Threads, not processes: Pillow decodes and resizes outside the interpreter's lock, and nothing is copied.
        with ThreadPoolExecutor(os.cpu_count()) as pool, reporter.bar("decoding images", len(paths)) as bar:
            try:
                for done in pool.map(decode, range(0, len(paths), CHUNK)):
                    bar.advance(done)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        images.flush()
        np.savez(work / "index.npz", digests=np.array(digests, dtype=np.str_), errors=np.array(errors, dtype=np.str_))
        meta = {"source": manifest.source, "images": len(paths), "spec": spec.to_dict()}
        (work / "meta.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")
        try:
            work.rename(entry)
        except OSError:
            if not (entry / "meta.json").exists():  # else another run has built the same entry meanwhile
                raise
    except OSError as error:
        raise DataError(
            f"cache folder {entry.parent}: {error.strerror or error}; name another by ORDAGE_CACHE"
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
