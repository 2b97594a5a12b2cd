"""Every distinct image is decoded once, by all cores, into one uint8 array on disk that is memory-mapped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from ..images import to_channels
from ..parallel import in_order
from ..transforms import resize
from .cache import META, cache_root, entry_name, explained, settings_name, sweep
from .contents import Contents
from .stream import Streamed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..progress import Reporter
    from ..transforms import ImageSpec
    from .manifest import Manifest

__all__ = ["ImageStore", "open_images"]

THUMB = 16  # side in pixels of the grey miniatures that near-identical images are found by
DISK_SHARE = 0.5  # of the free disk that decoded images may take unasked


@dataclass(frozen=True)
class ImageStore:
    """The images of a manifest.

    Attributes:
        images: ``(M, size, size, chans)`` uint8, every distinct content once: a memory map when they came from files,
            or what decodes them when they are needed where they are too many to keep.
        row: ``(N,)`` where each sample of the manifest stands in ``images``.
        digests: ``(N,)`` hexadecimal hash of each file's bytes (of the pixels for arrays); equal means identical; empty
            for a file that cannot be read.
        errors: ``(N,)`` why an image could not be used, empty where it could.
        about: ``(M,)`` records of the distinct contents with the fields ``width``, ``height``, ``mode``, ``format``,
            ``orientation`` (see `ImageInfo`) and ``thumb``, ``(16, 16)`` uint8, a grey miniature.
    """

    images: NDArray[np.uint8] | Streamed
    row: NDArray[np.int64]
    digests: NDArray[np.str_]
    errors: NDArray[np.str_]
    about: NDArray[Any]


ABOUT = np.dtype(
    [
        ("width", np.int32),
        ("height", np.int32),
        ("mode", "U8"),
        ("format", "U8"),
        ("orientation", np.uint8),
        ("thumb", np.uint8, (THUMB, THUMB)),
    ]
)


def open_images(
    manifest: Manifest, spec: ImageSpec, reporter: Reporter, *, limit_gb: float | None = None
) -> ImageStore:
    """Return the manifest's images as ``spec`` wants them, from the cache where they have been decoded before.

    Args:
        manifest: the samples.
        spec: size, channels and geometry.
        reporter: shows the progress.
        limit_gb: decoded sets larger than so many gigabytes are not kept but decoded anew whenever they are needed;
            half of the free disk without it.
    """
    if manifest.images is not None:
        return _of_arrays(manifest.images, spec)
    contents = manifest.contents
    digests, problems = _digests(contents, manifest.source, reporter)
    distinct, first, row = np.unique(digests, return_index=True, return_inverse=True)
    row = row.reshape(-1).astype(np.int64)
    entry = cache_root() / "images" / entry_name(spec, distinct.tolist())
    with explained():
        entry.parent.mkdir(parents=True, exist_ok=True)
        job = _Job(entry, spec, contents, distinct, first, manifest.source, reporter)
        if not (entry / META).exists():
            sweep()
            with _alone(entry, reporter):
                if not (entry / META).exists():  # else another run has built it while this one waited
                    job.build(keep=_fits(len(distinct), spec, limit_gb))
        kept = (entry / "images.npy").exists()
        if not kept and _fits(len(distinct), spec, limit_gb):  # it was too large once, and is not any more
            with _alone(entry, reporter):
                job.build(keep=True)
            kept = True
        os.utime(entry / META)  # when it was last used
        index = np.load(entry / "index.npz", allow_pickle=False)
        errors, about = index["errors"], index["about"]
        # Copy-on-write rather than read-only: torch warns of arrays that it cannot write to, though nobody writes.
        images = np.load(entry / "images.npy", mmap_mode="c", allow_pickle=False) if kept else None
    if images is None:
        gigabytes = _bytes(len(distinct), spec) / 1e9
        reporter.note(
            f"{len(distinct):,} images would take {gigabytes:.1f} GB decoded, more than the limit "
            f"({'half of the free disk' if limit_gb is None else f'{limit_gb:g} GB'}; --cache-limit): "
            f"decoded anew in every epoch by {os.cpu_count()} worker processes"
        )
        return ImageStore(Streamed(contents, first, spec), row, digests, _joined(problems, errors[row]), about)
    return ImageStore(images, row, digests, _joined(problems, errors[row]), about)


def _joined(problems: NDArray[np.str_], errors: NDArray[np.str_]) -> NDArray[np.str_]:
    return np.where(problems != "", problems, errors)


def _bytes(images: int, spec: ImageSpec) -> int:
    return images * spec.size * spec.size * spec.chans


def _fits(images: int, spec: ImageSpec, limit_gb: float | None) -> bool:
    limit = DISK_SHARE * shutil.disk_usage(cache_root()).free if limit_gb is None else limit_gb * 1e9
    return _bytes(images, spec) <= limit


@contextmanager
def _alone(entry: Path, reporter: Reporter) -> Iterator[None]:
    """Let one process at a time build an entry; the others wait and find it there. The lock dies with its process."""
    lock = FileLock(entry.parent / f".{entry.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.note("another run is decoding these images; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _digests(contents: Contents, source: str, reporter: Reporter) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return the hash of each content, and why it cannot be read where it cannot."""
    stamp = contents.stamp()
    listing = None if stamp is None else cache_root() / "listings" / f"{stamp}.npz"
    if listing is not None and listing.exists():
        with explained():
            saved = np.load(listing, allow_pickle=False)
            return saved["digests"], saved["problems"]
    digests = np.zeros(len(contents), "U32")
    problems = [""] * len(contents)

    def read(rows: range) -> range:
        for row in rows:
            try:
                digests[row] = hashlib.blake2b(contents.read(row), digest_size=16).hexdigest()
            except (OSError, ValueError) as error:  # ValueError: a path with a NUL
                problems[row] = getattr(error, "strerror", None) or str(error)
        return rows

    with reporter.bar("reading files", len(contents)) as bar:
        for rows in in_order(read, len(contents)):
            bar.advance(len(rows))
    found = digests, np.array(problems, np.str_)
    if listing is not None:
        with explained():
            listing.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=listing.parent)
            with os.fdopen(handle, "wb") as file:
                np.savez(file, digests=found[0], problems=found[1])
            os.replace(part, listing)
    return found


@dataclass(frozen=True)
class _Job:
    """An entry that is to be built.

    Attributes:
        entry: its folder.
        spec: the image settings.
        contents: the encoded images.
        distinct: ``(M,)`` the hashes of the distinct contents, sorted.
        first: ``(M,)`` a row of ``contents`` that has each.
        source: the data's name, for `ordage cache list`.
        reporter: shows the progress.
    """

    entry: Path
    spec: ImageSpec
    contents: Contents
    distinct: NDArray[np.str_]
    first: NDArray[np.int64]
    source: str
    reporter: Reporter

    def build(self, *, keep: bool) -> None:
        """Decode into a folder beside the entry and rename it, so that an entry is there whole or not at all.

        Args:
            keep: whether to keep the pixels; without, they are only looked at.
        """
        work = Path(tempfile.mkdtemp(prefix=".building-", dir=self.entry.parent))
        try:
            errors, about = self._decode(work / "images.npy" if keep else None)
            np.savez(work / "index.npz", digests=self.distinct, errors=errors, about=about)
            meta = {"source": self.source, "images": len(self.distinct), "spec": self.spec.to_dict()}
            (work / META).write_text(json.dumps(meta, indent=2), encoding="utf-8")
            if self.entry.exists():
                shutil.rmtree(self.entry)
            work.rename(self.entry)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _decode(self, file: Path | None) -> tuple[NDArray[np.str_], NDArray[Any]]:
        """Decode all, write the pixels to ``file``, and return errors ``(M,)`` and what is known of the images."""
        size = len(self.distinct)
        shape = (size, self.spec.size, self.spec.size, self.spec.chans)
        earlier = _Earlier(self.entry.parent, self.spec, self.distinct)
        errors = np.zeros(size, object)
        about = np.zeros(size, ABOUT)

        def decode(rows: range) -> NDArray[np.uint8]:
            pixels = np.zeros((len(rows), *shape[1:]), np.uint8)
            new = []
            for place, row in enumerate(rows):
                if (held := earlier.find(row)) is None:
                    new.append(place)
                else:
                    pixels[place], errors[row], about[row] = held
            decoded = self.spec.decode_into(pixels, new, lambda place: self.contents.read(int(self.first[rows[place]])))
            for place, found in decoded.items():
                if isinstance(found, str):
                    errors[rows[place]] = found
                else:
                    errors[rows[place]] = ""
                    about[rows[place]] = (*found, 0)
            about["thumb"][rows.start : rows.stop] = _thumbs(pixels)
            return pixels

        # Written in order rather than into a memory map: mapped pages would count as this process's memory.
        with self.reporter.bar("decoding images", size) as bar, open(file or os.devnull, "wb") as out:
            np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for pixels in in_order(decode, size):
                out.write(pixels.data)
                bar.advance(len(pixels))
        return errors.astype(np.str_), about


class _Earlier:
    """The images that other entries with the same settings hold: a set that has changed a little costs a little."""

    def __init__(self, folder: Path, spec: ImageSpec, distinct: NDArray[np.str_]) -> None:
        """Look for ``distinct`` in all entries of ``folder``."""
        self._entry = np.full(len(distinct), -1)
        self._row = np.zeros(len(distinct), np.int64)
        self._open: list[tuple[NDArray[np.uint8], NDArray[np.str_], NDArray[Any]]] = []
        for path in sorted(folder.glob(f"{settings_name(spec)}-*")):
            try:
                index = np.load(path / "index.npz", allow_pickle=False)
                images = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
                row = np.searchsorted(index["digests"], distinct).clip(max=len(images) - 1)
                held = (index["digests"][row] == distinct) & (self._entry < 0)
                self._entry[held], self._row[held] = len(self._open), row[held]
                self._open.append((images, index["errors"], index["about"]))
            except (OSError, ValueError, KeyError):  # removed meanwhile, or without pixels
                continue

    def find(self, row: int) -> tuple[NDArray[np.uint8], str, Any] | None:
        """Return pixels, error and record of a distinct content, ``None`` where it has to be decoded."""
        if self._entry[row] < 0:
            return None
        images, errors, about = self._open[self._entry[row]]
        at = self._row[row]
        return images[at], str(errors[at]), about[at]


def _thumbs(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return grey miniatures ``(N, 16, 16)`` of ``(N, H, W, C)``."""
    return to_channels(resize(pixels, THUMB, THUMB, "bilinear"), 1)[..., 0]


def _of_arrays(arrays: NDArray[Any], spec: ImageSpec) -> ImageStore:
    """Return the store of a source that holds pixels; they are at hand, so nothing is written."""
    size, height, width, chans = arrays.shape
    digests = np.zeros(size, "U32")
    about = np.zeros(size, ABOUT)
    # Pixels in another order, as of channels that come first, are put in order once, not in each step of training.
    ready = arrays.shape[1:] == (spec.size, spec.size, spec.chans) and arrays.flags.c_contiguous
    images = arrays if ready else None
    made = np.empty((size, spec.size, spec.size, spec.chans), np.uint8) if images is None else images

    def fit(rows: range) -> None:
        span = slice(rows.start, rows.stop)
        for row in rows:
            digests[row] = hashlib.blake2b(np.ascontiguousarray(arrays[row]).data, digest_size=16).hexdigest()
        if images is None:
            made[span] = spec.fitted(to_channels(np.asarray(arrays[span]), spec.chans))
        about["thumb"][span] = _thumbs(np.asarray(made[span]))

    for _ in in_order(fit, size):
        pass
    about["width"], about["height"], about["orientation"] = width, height, 1
    about["mode"], about["format"] = {1: "L", 3: "RGB", 4: "RGBA"}[chans], "array"
    return ImageStore(made, np.arange(size), digests, np.zeros(size, "U1"), about)
