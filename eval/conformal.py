"""Intervals that hold the truth with a stated probability, whatever the model: split-conformal prediction."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from ._arrays import BoolArray, FloatArray, IntArray, as_classes, as_distribution, check_rows, row_blocks
from .bootstrap import Interval, bootstrap_means
from .groups import resample_groups
from .metrics import median
from .predictions import Predictions

Kind = Literal["tail", "distance"]


@dataclass(frozen=True)
class ConformalIntervals:
    """Prediction intervals of neighbouring classes that hold the true one with probability ``coverage`` or more.

    How well class k fits a sample is the smaller of P(y <= k) and P(y >= k): small far out in either tail. An interval
    holds the classes that fit as well as all but the worst 1 - ``coverage`` of the true classes of samples that the
    model was not trained on. The promise holds over samples that are exchangeable with those, for any model; the wider
    a distribution, the wider its interval. Chernozhukov, Wüthrich and Zhu, "Distributional conformal prediction"
    (2021), whose score |P(y <= k) - 1/2| this is, for classes. For a model that answers with a point (``"distance"``)
    the fit is the number of classes to its answer: Lei et al., "Distribution-free predictive inference for
    regression" (2018).

    Args:
        coverage: What the intervals promise.
        kind: What was measured, as above.
        threshold: Fit that a class needs to be in an interval; minus infinity takes all classes in.
        n: Samples that this rests on.
        by: Name of the column of groups, each of which has the promise for itself (Mondrian); None for one over all.
        thresholds: The fit needed in each group that was large enough; the others share ``threshold``.

    Example:
        >>> from ordage.eval import OrdinalScale
        >>> said = Predictions.from_probs([[0.6, 0.3, 0.1]] * 19, OrdinalScale.years(0, 2), target=[0] * 11 + [1] * 8)
        >>> intervals = ConformalIntervals.fit(said, coverage=0.9)
        >>> intervals(said.log_probs[:1])
        (array([0]), array([1]))
    """

    coverage: float
    kind: Kind
    threshold: float
    n: int
    by: str | None = None
    thresholds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def fit(cls, predictions: Predictions, *, coverage: float = 0.9, by: str | None = None) -> Self:
        """Learn from samples that the model was neither trained nor is judged on.

        Args:
            predictions: Of such samples.
            coverage: Probability with which an interval shall hold the true class.
            by: Name of one of the predictions' columns of groups, to keep the promise within each group. A group of
                fewer than 1 / (1 - ``coverage``) - 1 samples cannot have a promise of its own.

        Raises:
            ValueError: ``coverage`` does not lie between 0 and 1, or there is no such column.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"Expected `coverage` above 0 and below 1, but got {coverage}.")
        kind: Kind = "distance" if predictions.meta.get("point_predictor", False) else "tail"
        fits = _FITS[kind].of_class(predictions.log_probs, predictions.target)
        thresholds = {}
        if by is not None:
            names = _column(predictions, by)
            for name in np.unique(names).tolist():
                own = _threshold(fits[names == name], coverage)
                if math.isfinite(own):
                    thresholds[name] = own
        return cls(coverage, kind, _threshold(fits, coverage), len(predictions), by, thresholds)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` wrote.

        Raises:
            ValueError: A field is missing.
        """
        missing = sorted({"coverage", "kind", "threshold", "n", "by", "thresholds"} - set(data))
        if missing:
            raise ValueError(f"Expected intervals with coverage, kind and so on, but {missing} are missing.")
        threshold = -math.inf if data["threshold"] is None else data["threshold"]
        return cls(data["coverage"], data["kind"], threshold, data["n"], data["by"], dict(data["thresholds"]))

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON holds it; a threshold of minus infinity is None."""
        threshold = self.threshold if math.isfinite(self.threshold) else None
        fields = {name: getattr(self, name) for name in ("coverage", "kind", "n", "by")}
        return {**fields, "threshold": threshold, "thresholds": dict(self.thresholds)}

    def __call__(self, log_probs: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> tuple[IntArray, IntArray]:
        """The first and the last class of each sample's interval, both ``(N,)``.

        Args:
            log_probs: ``(N, K)``.
            groups: ``(N,)`` each sample's group where there are thresholds by group; one that was not seen before, or
                none, takes the threshold over all.

        Raises:
            ValueError: The arrays do not fit each other.
        """
        array = as_distribution("log_probs", log_probs)
        needed = np.full(len(array), self.threshold)
        if groups is not None:
            names = np.asarray(groups).astype(np.str_)
            check_rows("groups", names, "log_probs", len(array))
            for name, threshold in self.thresholds.items():
                needed[names == name] = threshold
        return _FITS[self.kind].interval(array, needed)

    def of(self, predictions: Predictions) -> tuple[IntArray, IntArray]:
        """The same for predictions, with their own groups."""
        return self(predictions.log_probs, None if self.by is None else predictions.groups.get(self.by))

    def covers(self, predictions: Predictions) -> BoolArray:
        """``(N,)`` whether each interval holds the true class."""
        first, last = self.of(predictions)
        return (first <= predictions.target) & (predictions.target <= last)

    def widths(self, predictions: Predictions) -> npt.NDArray[np.float64]:
        """``(N,)`` distance between the values of the first and the last class, in ``predictions.scale.unit``."""
        values = np.asarray(predictions.scale.values)
        first, last = self.of(predictions)
        return values[last] - values[first]


@dataclass(frozen=True)
class IntervalRow:
    """The intervals of one group: number of samples, whether these are few, share that held the truth, mean width."""

    name: str
    n: int
    small: bool
    coverage: Interval
    width: Interval


@dataclass(frozen=True)
class IntervalFigures:
    """How prediction intervals did.

    Args:
        promised: The coverage that they were made for.
        coverage: Share that held the true class.
        mean_width: Mean distance between the values of their first and last class, in the unit of the scale.
        median_width: Median of it.
        unit: The unit of the scale.
        kind: How they were made, as in `ConformalIntervals`.
        n_calibration: Samples that they rest on.
        by: The column of groups that each have the promise for themselves; None for one promise over all.
        groups: The same by group, for each column.
    """

    promised: float
    coverage: Interval
    mean_width: Interval
    median_width: float
    unit: str
    kind: str
    n_calibration: int
    by: str | None
    groups: dict[str, tuple[IntervalRow, ...]]


def judge_intervals(
    intervals: ConformalIntervals,
    predictions: Predictions,
    *,
    columns: Mapping[str, npt.ArrayLike] | None = None,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> IntervalFigures:
    """Look whether intervals keep their promise, and how wide they are.

    Args:
        intervals: As they were fitted.
        predictions: Of samples that they were not fitted on.
        columns: ``(N,)`` each, by name: columns of groups to break the figures down by.
        n_resamples: Resamples of the bootstrap, by subject where subjects are known; 0 leaves the intervals NaN.
        confidence: Confidence of the figures' own intervals.
        seed: The same seed gives the same result.
    """
    widths = intervals.widths(predictions)
    values = {"coverage": intervals.covers(predictions).astype(np.float64), "width": widths}
    clusters = predictions.clusters
    overall = bootstrap_means(values, cluster=clusters, n_resamples=n_resamples, confidence=confidence, seed=seed)
    tables = {}
    for column, names in (columns or {}).items():
        groups = resample_groups(names, values, cluster=clusters, n_resamples=n_resamples, seed=seed)
        if groups:
            tables[column] = tuple(
                IntervalRow(group.name, group.n, group.small, **group.resampled.intervals(confidence))
                for group in groups
            )
    return IntervalFigures(
        promised=intervals.coverage,
        coverage=overall["coverage"],
        mean_width=overall["width"],
        median_width=float(np.median(widths)),
        unit=predictions.scale.unit,
        kind=intervals.kind,
        n_calibration=intervals.n,
        by=intervals.by,
        groups=tables,
    )


def _threshold(fits: npt.NDArray[np.float64], coverage: float) -> float:
    """The fit that all but a share of 1 - coverage have, one sample more being taken for the one to come."""
    worst = math.floor((1 - coverage) * (len(fits) + 1) + 1e-9)  # 0.1 * 20 is 1.9999… as floats
    return -math.inf if worst == 0 else float(np.partition(fits, worst - 1)[worst - 1])


def _column(predictions: Predictions, by: str) -> npt.NDArray[np.str_]:
    if by not in predictions.groups:
        have = ", ".join(predictions.groups) or "none"
        raise ValueError(f"Expected `by` to name a column of groups, but got {by!r}; there are: {have}.")
    return predictions.groups[by].astype(np.str_)


def _tails(block: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """P(y <= k) and P(y >= k), each added up from its own end, where small probabilities keep their digits."""
    probs = np.exp(block.astype(np.float64))
    probs /= probs.sum(axis=1, keepdims=True)
    return probs.cumsum(axis=1), probs[:, ::-1].cumsum(axis=1)[:, ::-1]


def _tail_of_class(log_probs: FloatArray, target: IntArray) -> npt.NDArray[np.float64]:
    fits = np.empty(len(log_probs))
    for rows in row_blocks(*log_probs.shape):
        below, above = _tails(log_probs[rows])
        own = np.arange(len(below)), target[rows]
        fits[rows] = np.minimum(below[own], above[own])
    return fits


def _tail_interval(log_probs: FloatArray, needed: npt.NDArray[np.float64]) -> tuple[IntArray, IntArray]:
    first, last = np.empty((2, len(log_probs)), dtype=np.int64)
    needed = np.minimum(needed, 0.5)[:, np.newaxis]  # the median fits as well as this, so no interval is empty
    for rows in row_blocks(*log_probs.shape):
        below, above = _tails(log_probs[rows])
        first[rows] = (below[:, :-1] < needed[rows]).sum(axis=1)
        last[rows] = log_probs.shape[1] - 1 - (above[:, 1:] < needed[rows]).sum(axis=1)
    return first, np.maximum(first, last)


def _distance_of_class(log_probs: FloatArray, target: IntArray) -> npt.NDArray[np.float64]:
    return -np.abs(median(log_probs) - as_classes("target", target)).astype(np.float64)


def _distance_interval(log_probs: FloatArray, needed: npt.NDArray[np.float64]) -> tuple[IntArray, IntArray]:
    classes, last = median(log_probs), log_probs.shape[1] - 1
    reach = np.minimum(-needed, last).astype(np.int64)
    return np.maximum(classes - reach, 0), np.minimum(classes + reach, last)


@dataclass(frozen=True)
class _Fit:
    """How well classes fit a sample: that of one class each, and those that fit well enough."""

    of_class: Callable[[FloatArray, IntArray], npt.NDArray[np.float64]]
    interval: Callable[[FloatArray, npt.NDArray[np.float64]], tuple[IntArray, IntArray]]


_FITS: dict[str, _Fit] = {
    "tail": _Fit(_tail_of_class, _tail_interval),
    "distance": _Fit(_distance_of_class, _distance_interval),
}
