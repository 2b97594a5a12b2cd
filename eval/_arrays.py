"""Array types and the checks of arguments that every part of the package shares."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]

# Numbers in one block of rows: small enough to stay in a core's cache, large enough to hide the cost of the loop.
_BLOCK = 2**18


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices that cut ``rows`` rows of ``columns`` numbers into blocks of bounded memory."""
    step = max(1, _BLOCK // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def first_row(bad: npt.ArrayLike) -> int:
    """The first row where ``bad`` holds."""
    return int(np.flatnonzero(bad)[0])


def as_vector(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A ``(N,)`` float64 array of at least one finite number; ValueError otherwise."""
    array = np.asarray(values, dtype=np.float64)
    _check_vector(name, array)
    bad = ~np.isfinite(array)
    if bad.any():
        row = first_row(bad)
        raise ValueError(f"Expected `{name}` to hold finite numbers, but row {row} is {array[row]}.")
    return array


def as_classes(name: str, values: npt.ArrayLike, num_classes: int | None = None) -> IntArray:
    """A ``(N,)`` int64 array of at least one class in ``0 .. num_classes - 1``; ValueError otherwise."""
    array = np.asarray(values)
    _check_vector(name, array)
    if array.dtype.kind not in "iu":
        raise ValueError(f"Expected `{name}` to hold integer classes, but its dtype is {array.dtype}.")
    classes = array.astype(np.int64, copy=False)
    bad = classes < 0 if num_classes is None else (classes < 0) | (classes >= num_classes)
    if bad.any():
        row = first_row(bad)
        allowed = "0 or larger" if num_classes is None else f"in 0..{num_classes - 1}"
        raise ValueError(f"Expected every class of `{name}` to be {allowed}, but row {row} is {classes[row]}.")
    return classes


def as_distribution(name: str, values: npt.ArrayLike) -> FloatArray:
    """A ``(N, K)`` floating array with ``N >= 1`` and ``K >= 2``; ValueError otherwise."""
    array = np.asarray(values)
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2:
        raise ValueError(f"Expected `{name}` of shape (N, K) with N >= 1 and K >= 2, but got {array.shape}.")
    return array


def check_rows(name: str, array: npt.NDArray[Any], other: str, rows: int) -> None:
    """ValueError unless ``array`` has one entry for each of the ``rows`` rows of ``other``."""
    if array.shape != (rows,):
        raise ValueError(f"Expected `{name}` of shape ({rows},) as `{other}` has {rows} rows, but got {array.shape}.")


def _check_vector(name: str, array: npt.NDArray[Any]) -> None:
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"Expected `{name}` of shape (N,) with N >= 1, but got {array.shape}.")
