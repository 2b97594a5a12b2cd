"""From ages to classes: which classes the model learns, and which bins it is judged on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ordage.eval import OrdinalScale

from ..errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .manifest import Manifest

__all__ = ["choose_bins", "choose_classes", "class_of", "named_bins"]


def choose_bins(manifest: Manifest, spec: str | None) -> OrdinalScale:
    """Return the bins that results are judged on.

    Args:
        manifest: the samples.
        spec: ``0-10,11-20,21+``; ``10``, that many of equal width; ``width:5``, of so many years; ``quantile:8``; or
            ``years``. Without one the data's own classes or intervals, else tens as far as the ages go, the last one
            open.

    Raises:
        UsageError: ``spec`` cannot be read.
    """
    if spec is None:
        if own := manifest.scale or _own_intervals(manifest):
            return own
        # Below eleven years tens would be one bin, which nothing can be judged on.
        spec = OrdinalScale.tens(_oldest(manifest)).spec if _oldest(manifest) > 10 else "years"
    try:
        if spec.startswith("quantile:"):
            return _quantiles(manifest, _whole(spec.removeprefix("quantile:")))
        return named_bins(spec, _youngest(manifest), _oldest(manifest))
    except ValueError as error:
        raise UsageError(f"--bins {spec}: {error}") from None


def named_bins(spec: str, youngest: int, oldest: int) -> OrdinalScale:
    """Return the bins that ``spec`` names for ages from ``youngest`` to ``oldest``: all forms but quantiles.

    Raises:
        ValueError: ``spec`` cannot be read.

    Example:
        >>> named_bins("3", 0, 59).spec, named_bins("width:25", 0, 59).spec
        ('0-19,20-39,40+', '0-24,25-49,50+')
    """
    if spec == "years":
        return OrdinalScale.years(youngest, oldest)
    if spec.startswith("width:"):
        return OrdinalScale.equal_width(_whole(spec.removeprefix("width:")), oldest)
    return OrdinalScale.equal_count(int(spec), youngest, oldest) if spec.isdigit() else OrdinalScale.parse(spec)


def _whole(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f"expected a whole number, but got {text!r}")
    return int(text)


def choose_classes(manifest: Manifest, bins: OrdinalScale, train_on: str | None) -> OrdinalScale:
    """Return the classes that the model learns: years where exact ages are known, the bins otherwise.

    Raises:
        UsageError: years are asked for and the data has none.
    """
    if train_on == "years" and not manifest.exact:
        raise UsageError(f"--train-on years: {manifest.source} has intervals or classes, not exact ages")
    if train_on == "bins" or not manifest.exact:
        return bins
    # The bins' own edges are included, so that every bin is a sum of years.
    return OrdinalScale.years(min(_youngest(manifest), int(bins.lows[0])), max(_oldest(manifest), int(bins.lows[-1])))


def class_of(manifest: Manifest, scale: OrdinalScale) -> NDArray[np.int64]:
    """Return each sample's class ``(N,)``, or -1 for an age outside all classes or an interval across several."""
    low, high = manifest.table["low"].to_numpy(np.float64), manifest.table["high"].to_numpy(np.float64)
    if manifest.scale is not None and manifest.scale is not scale:
        if len(manifest.scale) != len(scale):
            raise UsageError(
                f"--bins: expected {len(manifest.scale)} bins, one for each class of {manifest.source}, "
                f"but got {len(scale)}"
            )
        return low.astype(np.int64)  # the data numbers its classes, the bins say what their intervals are
    end = np.where(np.isinf(high), low, high)
    first, last = scale.class_of(low), scale.class_of(end)
    inside = (first == last) & (np.isfinite(high) | (first == len(scale) - 1))
    inside &= scale.contains(low) & scale.contains(end)
    return np.where(inside, first, -1).astype(np.int64)


def _own_intervals(manifest: Manifest) -> OrdinalScale | None:
    if manifest.exact:
        return None
    pairs = sorted(set(zip(manifest.table["low"].tolist(), manifest.table["high"].tolist(), strict=True)))
    try:
        return OrdinalScale.from_intervals([pair for pair in pairs if pair[0] < pair[1]])
    except ValueError as error:
        raise DataError(
            f"{manifest.source}: its age intervals make no scale ({error}); give the bins by --bins"
        ) from None


def _quantiles(manifest: Manifest, count: int) -> OrdinalScale:
    if not manifest.exact:
        raise ValueError("quantiles need exact ages")
    if count < 2:
        raise ValueError(f"expected 2 or more bins, but got {count}")
    cuts = np.unique(np.ceil(np.quantile(manifest.ages, np.arange(1, count) / count)).astype(int)).tolist()
    lows = [_youngest(manifest), *(cut for cut in cuts if cut > _youngest(manifest))]
    highs = [low - 1 for low in lows[1:]] + [math.inf]
    return OrdinalScale.from_intervals(list(zip(lows, highs, strict=True)))


def _youngest(manifest: Manifest) -> int:
    return math.floor(manifest.table["low"].min())


def _oldest(manifest: Manifest) -> int:
    ends = manifest.table[["low", "high"]].to_numpy(np.float64)
    return math.floor(ends[np.isfinite(ends)].max())
