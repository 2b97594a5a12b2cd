"""Percentile bootstrap of means, by sample or by cluster of samples that belong together."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ._arrays import IntArray, check_rows, first_row

# Numbers in one block of resampled counts: 2 MiB, which bincount fills without leaving the cache.
_BLOCK = 2**18


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; the ends are NaN where no interval can be told."""

    value: float
    low: float
    high: float


def bootstrap_means(
    values: Mapping[str, npt.ArrayLike],
    *,
    cluster: npt.ArrayLike | None = None,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile intervals of the means of several per-sample statistics, all from the same resamples.

    Whole clusters are drawn with replacement, as many as there are; a resampled mean is the sum over the drawn
    clusters divided by the number of their samples. Efron and Tibshirani, "An Introduction to the Bootstrap" (1993).

    Args:
        values: Named arrays ``(N,)``; a mean of 0/1 is a share. NaN marks a sample that a statistic leaves out.
        cluster: ``(N,)`` what belongs together, such as the subject; by default each sample by itself.
        n_resamples: Number of resamples; 0 computes the means alone.
        confidence: Share of such intervals that cover the truth.
        seed: The same seed gives the same intervals.

    Returns:
        For each name its mean and interval. With a single cluster the interval is NaN.

    Raises:
        ValueError: The arrays are empty or differ in length, or an option is out of range.

    Example:
        >>> figures = bootstrap_means({"accuracy": [1, 1, 0, 1], "mae": [2.0, 4.0, 9.0, 1.0]})
        >>> figures["accuracy"].value, figures["mae"].value
        (0.75, 4.0)
    """
    return Resampled.of(values, cluster=cluster, n_resamples=n_resamples, seed=seed).intervals(confidence)


@dataclass(frozen=True, eq=False)
class Resampled:
    """Means of several statistics over the samples and over the same resamples of them.

    Args:
        names: ``(S,)`` names of the statistics.
        means: ``(S,)`` over all samples.
        draws: ``(R, S)`` over each resample; NaN where no sample of the statistic was drawn.
    """

    names: tuple[str, ...]
    means: npt.NDArray[np.float64]
    draws: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls,
        values: Mapping[str, npt.ArrayLike],
        *,
        cluster: npt.ArrayLike | None = None,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> Self:
        """Resample; the arguments and errors are those of `bootstrap_means`."""
        if not values:
            raise ValueError("Expected `values` to hold at least one array, but it is empty.")
        if n_resamples < 0:
            raise ValueError(f"Expected `n_resamples` to be 0 or larger, but got {n_resamples}.")
        arrays = {name: np.asarray(column, dtype=np.float64) for name, column in values.items()}
        rows = max(array.size for array in arrays.values())
        if rows == 0:
            raise ValueError("Expected `values` of at least one sample, but they are empty.")
        for name, array in arrays.items():
            check_rows(f"values[{name!r}]", array, "values", rows)
        codes = cluster_codes(cluster, rows)
        totals, counts = _cluster_sums(np.stack(list(arrays.values())), codes)
        draws = np.empty((n_resamples, len(arrays)))
        for block, drawn in resample_counts(len(totals), n_resamples, np.random.default_rng(seed)):
            draws[block] = _ratio(drawn @ totals, drawn @ counts)
        if len(totals) == 1:
            # Every resample of a single cluster is that cluster, which would look like certainty.
            draws[:] = math.nan
        return cls(tuple(arrays), _ratio(totals.sum(axis=0), counts.sum(axis=0)), draws)

    def intervals(self, confidence: float) -> dict[str, Interval]:
        """Each mean with its percentile interval."""
        check_confidence(confidence)
        return {
            name: Interval(float(self.means[i]), *quantile_interval(self.draws[:, i], confidence))
            for i, name in enumerate(self.names)
        }


def cluster_codes(cluster: npt.ArrayLike | None, rows: int) -> IntArray | None:
    """Number the clusters ``0 .. C - 1``; None where each of ``rows`` samples is its own.

    Raises:
        ValueError: ``cluster`` is not ``(rows,)`` or holds NaN.
    """
    if cluster is None:
        return None
    labels = np.asarray(cluster)
    check_rows("cluster", labels, "values", rows)
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError(f"Expected `cluster` without NaN, but row {first_row(np.isnan(labels))} is NaN.")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64, copy=False)


def cluster_totals(values: npt.NDArray[np.float64], codes: IntArray | None) -> npt.NDArray[np.float64]:
    """Sums over the samples of each cluster, ``(S, C)`` from ``(S, N)``."""
    if codes is None:
        return values
    totals = np.empty((len(values), int(codes.max()) + 1))
    for row, total in zip(values, totals, strict=True):
        total[:] = np.bincount(codes, weights=row)
    return totals


def resample_counts(
    clusters: int, n_resamples: int, rng: np.random.Generator
) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """How often each cluster is drawn in each resample, in blocks of bounded memory.

    Yields:
        The resamples of the block, and their counts ``(B, C)``, which sum to C in every row.
    """
    step = max(1, _BLOCK // clusters)
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        drawn = rng.integers(clusters, size=(size, clusters))
        drawn += clusters * np.arange(size)[:, np.newaxis]
        counts = np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters)
        yield slice(start, start + size), counts.astype(np.float64)


def quantile_interval(resampled: npt.NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The central interval that holds the share ``confidence`` of resampled values, NaN among them left out."""
    known = resampled[~np.isnan(resampled)]
    if known.size == 0:
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def check_confidence(confidence: float) -> None:
    """ValueError unless ``confidence`` lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"Expected `confidence` to be above 0 and below 1, but got {confidence}.")


def _cluster_sums(
    values: npt.NDArray[np.float64], codes: IntArray | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sums and numbers of the known values, each ``(C, S)`` from ``(S, N)``."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    return cluster_totals(filled, codes).T, cluster_totals(known.astype(np.float64), codes).T


def _ratio(totals: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    means = np.full(totals.shape, np.nan)
    np.divide(totals, counts, out=means, where=counts > 0)
    return means
