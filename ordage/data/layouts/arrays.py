"""Arrays as a Keras user has them: ``X, y`` or ``X_train, y_train, X_test, y_test``, in ``.npz`` or ``.npy``."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ordage.eval import OrdinalScale

from ...errors import DataError
from ..manifest import PARTS, Manifest, Rejections
from .base import MAX_AGE, Layout, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...config import DataConfig

IMAGE_NAMES = ("x", "images", "image", "faces", "data")
TARGET_NAMES = ("y", "ages", "age", "labels", "label", "target", "targets", "classes")
SUBJECT_NAMES = ("subject", "subjects", "person", "identity")
MAX_CLASSES = 20  # integers 0..m that are all there are classes when there are at most this many, ages otherwise


def _recognise(source: Source) -> str | None:
    if source.path.suffix.lower() == ".npz":
        return "it ends in .npz"
    return "the folder holds .npy files" if source.is_folder and source.files(".npy") else None


def _read(source: Source, options: DataConfig, reason: str) -> Manifest:
    path = source.path
    arrays = load_arrays(path)
    sets = {part: found for part in ("", *PARTS) if (found := _pick(arrays, part, path)) is not None}
    if ("" in sets) == ("train" in sets):
        raise DataError(f"{path}: expected arrays X and y, or X_train and y_train, but got {', '.join(arrays)}")
    images = _stack([_as_uint8(found.images, found.name, path) for found in sets.values()], path)
    targets = [_as_target(found.target, found.name, path) for found in sets.values()]
    target = np.concatenate([values for values, _ in targets])
    lengths = [len(found.images) for found in sets.values()]

    ids = [f"{part}[{row}]" for part, length in zip(sets, lengths, strict=True) for row in range(length)]
    table = pd.DataFrame({"id": ids, "low": target, "high": target})
    if "" not in sets:
        table["part"] = np.repeat(list(sets), lengths)
    subjects = [found.subject for found in sets.values() if found.subject is not None]
    if len(subjects) == len(sets):
        table["subject"] = np.concatenate([subject.astype(str) for subject in subjects])

    rejected, notes, scale = Rejections(), [], None
    good = np.isfinite(target) & (target >= 0) & (target <= MAX_AGE)
    for row in np.flatnonzero(~good):
        rejected.add(ids[row], f"{target[row]:g} is no age between 0 and {MAX_AGE:g}")
    classes = max(width for _, width in targets) or _count_classes(target[good])
    if classes:
        scale = OrdinalScale.from_labels([str(k) for k in range(classes)])
        notes.append(f"the target holds 0 to {classes - 1}: read as {classes} ordered classes, not as ages")
    manifest = Manifest(
        table=table,
        source=str(path),
        layout="npz",
        reason=reason,
        images=images,
        scale=scale,
        rejected=rejected,
        notes=notes,
    )
    return manifest if good.all() else manifest.keep(good)


LAYOUT = Layout("npz", _recognise, _read, "arrays X, y or X_train, y_train, X_test, y_test in .npz or .npy")


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a ``.npz`` or ``.npy`` file, or of all ``.npy`` files in a folder, by name.

    Raises:
        DataError: they cannot be read; nothing that could run code is.
    """
    try:
        if path.is_dir():
            return {file.stem: np.load(file, mmap_mode="c", allow_pickle=False) for file in sorted(path.glob("*.npy"))}
        if path.suffix.lower() == ".npy":
            return {path.stem: np.load(path, mmap_mode="c", allow_pickle=False)}
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as NumPy arrays: {' '.join(str(error).split())}") from None


@dataclass(frozen=True)
class _Set:
    """The arrays of one part, and what the images are called."""

    images: NDArray[Any]
    target: NDArray[Any]
    subject: NDArray[Any] | None
    name: str


def _pick(arrays: Mapping[str, NDArray[Any]], part: str, path: Path) -> _Set | None:
    """Return the arrays of one part, or of the whole set where ``part`` is empty."""
    by_lower = {name.lower(): name for name in arrays}

    def find(names: tuple[str, ...]) -> str | None:
        forms = [f"{name}_{part}" for name in names] + [f"{part}_{name}" for name in names] if part else list(names)
        return next((by_lower[form] for form in forms if form in by_lower), None)

    x, y, subject = find(IMAGE_NAMES), find(TARGET_NAMES), find(SUBJECT_NAMES)
    if x is None and y is None:
        return None
    if x is None or y is None:
        raise DataError(f"{path}: {x or y} stands alone; expected images and ages by names such as X_train and y_train")
    if np.ndim(arrays[x]) == 0 or np.ndim(arrays[y]) == 0 or len(arrays[x]) != len(arrays[y]):
        raise DataError(f"{path}: {x} has the shape {arrays[x].shape}, but {y} {arrays[y].shape}")
    return _Set(arrays[x], arrays[y], None if subject is None else arrays[subject], x)


def _as_uint8(x: NDArray[Any], name: str, path: Path) -> NDArray[np.uint8]:
    """Return images as ``(N, H, W, C)`` uint8, C one of 1 and 3; floats are taken to lie in [0, 1] or [0, 255]."""
    shape = x.shape
    if x.ndim == 4 and x.shape[-1] not in (1, 3, 4) and x.shape[1] in (1, 3):
        x = np.moveaxis(x, 1, -1)
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[-1] not in (1, 3, 4) or not x.size:
        raise DataError(f"{path}: expected {name} to be (N, H, W) or (N, H, W, 1 or 3), but got {shape}")
    x = x[..., :3] if x.shape[-1] == 4 else x
    if x.dtype == np.uint8:
        return x
    low, high = float(x.min()), float(x.max())
    if not 0 <= low <= high <= 255:
        raise DataError(f"{path}: expected {name} in [0, 1] or [0, 255], but it spans {low:g} to {high:g}")
    factor = 255.0 if high <= 1 and np.issubdtype(x.dtype, np.floating) else 1.0
    out = np.empty(x.shape, np.uint8)
    for start in range(0, len(x), 4096):  # in pieces: a float copy of the whole set would be four times its size
        out[start : start + 4096] = np.rint(np.asarray(x[start : start + 4096], np.float32) * factor)
    return out


def _stack(images: list[NDArray[np.uint8]], path: Path) -> NDArray[np.uint8]:
    if len({x.shape[1:] for x in images}) > 1:
        raise DataError(f"{path}: the parts differ in shape: {', '.join(str(x.shape[1:]) for x in images)}")
    return images[0] if len(images) == 1 else np.concatenate(images)


def _as_target(y: NDArray[Any], name: str, path: Path) -> tuple[NDArray[np.float64], int]:
    """Return the target as ``(N,)`` floats, and K where it came one-hot, as Keras' categorical loss wants it."""
    if y.ndim == 2 and y.shape[1] > 1:
        if not (np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all()):
            raise DataError(f"{path}: expected the targets of {name} to be (N,) or one-hot (N, K), but got {y.shape}")
        return y.argmax(1).astype(np.float64), y.shape[1]
    if not np.issubdtype(y.dtype, np.number) or y.size != len(y):
        raise DataError(f"{path}: expected the targets of {name} to be (N,) numbers, but got {y.dtype} {y.shape}")
    return y.reshape(-1).astype(np.float64), 0


def _count_classes(target: NDArray[np.float64]) -> int:
    """Return K where the targets are exactly the integers 0 to K - 1 and few, else 0."""
    present = np.unique(target)
    counted = 2 <= len(present) <= MAX_CLASSES and np.array_equal(present, np.arange(len(present)))
    return len(present) if counted else 0
