"""Whether probabilities mean what they say, and the one number that lets them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ._arrays import BoolArray, FloatArray, IntArray, as_distribution, as_vector, check_rows, row_blocks
from .conformal import ConformalIntervals
from .metrics import scored_pair
from .predictions import Predictions

TEMPERATURES = (0.05, 20.0)  # between which a temperature is sought; a model beyond them is past repair


@dataclass(frozen=True)
class Reliability:
    """How often what was said with some probability came true.

    Args:
        predicted: ``(B,)`` mean probability that was said, in each bin that is not empty.
        observed: ``(B,)`` share that came true.
        count: ``(B,)`` how many were said.
    """

    predicted: npt.NDArray[np.float64]
    observed: npt.NDArray[np.float64]
    count: IntArray

    @property
    def error(self) -> float:
        """Mean distance between ``predicted`` and ``observed``, each bin by its count."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.count))

    def to_dict(self) -> dict[str, Any]:
        """The bins as JSON holds them."""
        return {"predicted": self.predicted.tolist(), "observed": self.observed.tolist(), "count": self.count.tolist()}


@dataclass(frozen=True)
class Calibration:
    """What a model learned about its own answers on the validation part, to be used with them from then on.

    Args:
        temperature: By which its logits are divided before its probabilities are shown; None for a model that answers
            with a point.
        intervals: Prediction intervals with a promise.
    """

    temperature: float | None
    intervals: ConformalIntervals

    @classmethod
    def fit(cls, predictions: Predictions, *, coverage: float = 0.9, by: str | None = None) -> Self:
        """Learn from samples that the model was neither trained nor is judged on.

        Args:
            predictions: Of such samples.
            coverage: What the intervals shall promise.
            by: Name of a column of groups that shall each have the promise for themselves.

        Raises:
            ValueError: As `ConformalIntervals.fit`.
        """
        point = bool(predictions.meta.get("point_predictor", False))
        temperature = None if point else fit_temperature(predictions.log_probs, predictions.target)
        return cls(temperature, ConformalIntervals.fit(predictions, coverage=coverage, by=by))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` wrote.

        Raises:
            ValueError: A field is missing.
        """
        missing = sorted({"temperature", "intervals"} - set(data))
        if missing:
            raise ValueError(f"Expected a calibration with temperature and intervals, but {missing} are missing.")
        return cls(data["temperature"], ConformalIntervals.from_dict(data["intervals"]))

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON holds it."""
        return {"temperature": self.temperature, "intervals": self.intervals.to_dict()}


def reliability(
    said: npt.ArrayLike, came_true: npt.ArrayLike, *, n_bins: int = 15, adaptive: bool = False
) -> Reliability:
    """Compare probabilities with what came true, in bins of equal width or of equal count.

    Args:
        said: ``(N,)`` probabilities.
        came_true: ``(N,)`` booleans.
        n_bins: Number of bins.
        adaptive: Bins of equal count, by the order of ``said``, instead of equal width.

    Raises:
        ValueError: A probability lies outside 0 .. 1, or the arrays differ in length.

    Example:
        >>> found = reliability([0.9, 0.9, 0.2, 0.2], [True, True, False, True], n_bins=2)
        >>> found.predicted.tolist(), found.observed.tolist()
        ([0.2, 0.9], [0.5, 1.0])
    """
    probs, true = as_vector("said", said), np.asarray(came_true, dtype=np.bool_)
    check_rows("came_true", true, "said", len(probs))
    if not ((probs >= 0) & (probs <= 1)).all():
        raise ValueError("Expected `said` to hold probabilities between 0 and 1.")
    if adaptive:
        codes = np.empty(len(probs), dtype=np.int64)
        codes[np.argsort(probs, kind="stable")] = np.arange(len(probs)) * n_bins // len(probs)
    else:
        codes = _equal_width(probs, n_bins)
    said_sum, true_sum = (np.bincount(codes, weights, n_bins).astype(np.float64) for weights in (probs, true))
    return _of_sums(said_sum, true_sum, np.bincount(codes, minlength=n_bins))


def expected_calibration_error(
    log_probs: npt.ArrayLike, target: npt.ArrayLike, *, n_bins: int = 15, adaptive: bool = False
) -> float:
    """Mean distance between the probability of the most probable class and how often it is the true one.

    Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning" (2015); with
    ``adaptive`` in bins of equal count, as Nixon et al., "Measuring Calibration in Deep Learning" (2019).

    Args:
        log_probs: ``(N, K)``.
        target: ``(N,)`` true classes.
        n_bins: Number of bins.
        adaptive: Bins of equal count instead of equal width.

    Example:
        >>> round(expected_calibration_error(np.log([[0.8, 0.2], [0.8, 0.2]]), [0, 1]), 4)
        0.3
    """
    array, classes = scored_pair(log_probs, target)
    likely = array.argmax(axis=1)
    said = np.minimum(np.exp(array[np.arange(len(array)), likely].astype(np.float64)), 1)
    return reliability(said, likely == classes, n_bins=n_bins, adaptive=adaptive).error


def exceedance_reliability(log_probs: npt.ArrayLike, target: npt.ArrayLike, *, n_bins: int = 15) -> Reliability:
    """Compare each P(y > k), which is what ordinal models learn, with how often y > k.

    Args:
        log_probs: ``(N, K)``.
        target: ``(N,)`` true classes.
        n_bins: Number of bins of equal width, which hold N (K - 1) probabilities.

    Example:
        >>> found = exceedance_reliability(np.log([[0.3, 0.7], [0.3, 0.7]]), [0, 1])
        >>> found.predicted.round(2).tolist(), found.observed.tolist()
        ([0.7], [0.5])
    """
    array, classes = scored_pair(log_probs, target)
    sums = np.zeros((3, n_bins))
    for rows in row_blocks(*array.shape):
        above = 1 - np.exp(array[rows]).cumsum(axis=1, dtype=np.float64)[:, :-1].clip(0, 1)
        true = np.arange(above.shape[1]) < classes[rows, np.newaxis]
        codes = _equal_width(above.ravel(), n_bins)
        for total, weights in zip(sums, (above.ravel(), true.ravel(), None), strict=True):
            total += np.bincount(codes, weights, n_bins)
    return _of_sums(*sums)


def brier(log_probs: npt.ArrayLike, target: npt.ArrayLike) -> float:
    """Mean over samples of the squared differences between probabilities and truth, summed over classes: 0 to 2.

    Brier, "Verification of Forecasts Expressed in Terms of Probability" (1950).

    Args:
        log_probs: ``(N, K)``.
        target: ``(N,)`` true classes.

    Example:
        >>> brier(np.log([[0.5, 0.5]]), [1])
        0.5
    """
    array, classes = scored_pair(log_probs, target)
    total = 0.0
    for rows in row_blocks(*array.shape):
        probs = np.exp(array[rows])
        own = probs[np.arange(len(probs)), classes[rows]].astype(np.float64)
        total += float(np.einsum("ij,ij->", probs, probs, dtype=np.float64) + (1 - 2 * own).sum())
    return total / len(array)


def fit_temperature(log_probs: npt.ArrayLike, target: npt.ArrayLike) -> float:
    """The temperature under which the true classes of a validation set are the most likely.

    Guo et al., "On Calibration of Modern Neural Networks" (2017). Above 1 for a model that is too sure of itself.

    Args:
        log_probs: ``(N, K)`` of samples that the model was not trained on, and that it will not be judged on.
        target: ``(N,)`` true classes. Samples whose class was held impossible are left out: no temperature helps.

    Returns:
        A number between 0.05 and 20.

    Example:
        >>> sure = np.log([[0.9, 0.1]] * 4)
        >>> round(fit_temperature(sure, [0, 0, 0, 1]), 2)  # right three times of four: ln 9 / ln 3
        2.0
    """
    from scipy.optimize import minimize_scalar

    array, classes = scored_pair(log_probs, target)
    possible = np.isfinite(array[np.arange(len(array)), classes])
    array, classes = array[possible], classes[possible]
    if not len(array):
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(array, math.exp(log_temperature))
        return -float(np.mean(scaled[np.arange(len(scaled)), classes], dtype=np.float64))

    low, high = map(math.log, TEMPERATURES)
    return math.exp(float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4}).x))


def apply_temperature(log_probs: npt.ArrayLike, temperature: float) -> FloatArray:
    """The distributions with all logits divided by ``temperature``.

    Args:
        log_probs: ``(N, K)``.
        temperature: Above 0; 1 changes nothing, more flattens.

    Returns:
        ``(N, K)`` of the same floating type.

    Raises:
        ValueError: ``temperature`` is not above 0.

    Example:
        >>> np.exp(apply_temperature(np.log([[0.9, 0.1]]), 2)).round(2)
        array([[0.75, 0.25]])
    """
    if not temperature > 0:
        raise ValueError(f"Expected `temperature` above 0, but got {temperature}.")
    array = as_distribution("log_probs", log_probs)
    scaled = np.empty_like(array)
    for rows in row_blocks(*array.shape):
        block = array[rows].astype(np.float64) / temperature
        block -= block.max(axis=1, keepdims=True)
        scaled[rows] = block - np.log(np.exp(block).sum(axis=1, keepdims=True))
    return scaled


def _equal_width(probs: npt.NDArray[np.float64], n_bins: int) -> IntArray:
    """Bins (0, 1/B], (1/B, 2/B], …, of which the first takes 0 too."""
    return np.clip(np.ceil(probs * n_bins).astype(np.int64) - 1, 0, n_bins - 1)


def _of_sums(said: FloatArray, true: FloatArray, count: npt.NDArray[Any]) -> Reliability:
    used: BoolArray = count > 0
    numbers = count[used].astype(np.int64)
    return Reliability(said[used] / numbers, true[used] / numbers, numbers)
