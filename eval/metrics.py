"""Decoders, which turn a class distribution into one answer, and the metrics of such answers.

Every metric takes the truth first. Those that look at classes work on positions ``0 .. K - 1`` and are told K; none
of them infers the set of labels from the samples at hand, where a missing class would move its neighbours together.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import FloatArray, IntArray, as_classes, as_distribution, as_vector, check_rows, first_row, row_blocks
from .predictions import Predictions

# A cumulative probability this close to one half counts as one half: float32 log-probabilities are no finer, and the
# median of (1/2, 1/2) must not depend on the rounding of a machine's exponential.
HALF_TOLERANCE = 1e-6
# 2.2 - 1.2 is a little above 1 in binary and yet an error of one year.
_ERROR_TOLERANCE = 1e-9


def mode(log_probs: npt.ArrayLike) -> IntArray:
    """The most probable class, the best guess for accuracy; of equally probable ones the first.

    Args:
        log_probs: ``(N, K)``.

    Returns:
        ``(N,)`` classes.

    Example:
        >>> mode(np.log([[0.4, 0.3, 0.3]]))
        array([0])
    """
    return np.asarray(as_distribution("log_probs", log_probs).argmax(axis=1), dtype=np.int64)


def median(log_probs: npt.ArrayLike) -> IntArray:
    """The first class whose cumulative probability reaches one half, the best guess for absolute errors.

    It equals the number of k with P(y > k) > 1/2, which is how CORAL and CORN decode.

    Args:
        log_probs: ``(N, K)``.

    Returns:
        ``(N,)`` classes.

    Example:
        >>> median(np.log([[0.4, 0.3, 0.3]]))
        array([1])
    """
    array = as_distribution("log_probs", log_probs)
    classes = np.empty(len(array), dtype=np.int64)
    for rows in row_blocks(*array.shape):
        cdf = np.exp(array[rows]).cumsum(axis=1, dtype=np.float64)
        classes[rows] = (cdf[:, :-1] < 0.5 * cdf[:, -1:] - HALF_TOLERANCE).sum(axis=1)
    return classes


def mean(log_probs: npt.ArrayLike, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The expected value, the best guess for squared errors.

    Args:
        log_probs: ``(N, K)``.
        values: ``(K,)`` the number that each class stands for.

    Returns:
        ``(N,)`` in the unit of ``values``.

    Raises:
        ValueError: There is not one value for each class.

    Example:
        >>> mean(np.log([[0.5, 0.25, 0.25]]), [10, 20, 40])
        array([20.])
    """
    array = as_distribution("log_probs", log_probs)
    numbers = as_vector("values", values)
    if len(numbers) != array.shape[1]:
        raise ValueError(f"Expected one of `values` for each of {array.shape[1]} classes, but got {len(numbers)}.")
    means = np.empty(len(array))
    for rows in row_blocks(*array.shape):
        probs = np.exp(array[rows])
        means[rows] = probs @ numbers / probs.sum(axis=1, dtype=np.float64)
    return means


class Decoded(NamedTuple):
    """One answer for each sample: its class, ``(N,)``, and its value in the unit of the scale, ``(N,)``."""

    classes: IntArray
    values: npt.NDArray[np.float64]


def _decode_point(predictions: Predictions) -> Decoded:
    assert predictions.point is not None
    return Decoded(predictions.scale.nearest(predictions.point), predictions.point)


def _decode_mode(predictions: Predictions) -> Decoded:
    classes = mode(predictions.log_probs)
    return Decoded(classes, np.asarray(predictions.scale.values)[classes])


def _decode_median(predictions: Predictions) -> Decoded:
    classes = median(predictions.log_probs)
    return Decoded(classes, np.asarray(predictions.scale.values)[classes])


def _decode_mean(predictions: Predictions) -> Decoded:
    values = mean(predictions.log_probs, predictions.scale.values)
    return Decoded(predictions.scale.nearest(values), values)


DECODERS: dict[str, Callable[[Predictions], Decoded]] = {
    "mode": _decode_mode,
    "median": _decode_median,
    "mean": _decode_mean,
}


def decode(predictions: Predictions, how: str) -> Decoded:
    """One answer for each sample by the rule ``how``: "mode", "median" or "mean"; of a model of points its own.

    Raises:
        ValueError: There is no such rule.

    Example:
        >>> from ordage.eval import OrdinalScale
        >>> said = Predictions.from_probs([[0.2, 0.4, 0.4]], OrdinalScale.parse("0-10,11-20,21-30"), age=[30])
        >>> decode(said, "median").values, decode(said, "mean").values.round(2)
        (array([15.5]), array([17.4]))
    """
    if how not in DECODERS:
        raise ValueError(f"Expected a decoder among {sorted(DECODERS)}, but got {how!r}.")
    return (DECODERS[how] if predictions.point is None else _decode_point)(predictions)


def bin_accuracy(target: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Share of samples in the right class.

    Args:
        target: ``(N,)`` true classes.
        predicted: ``(N,)`` predicted classes.

    Raises:
        ValueError: The arrays differ in length, are empty, or hold no classes; as in every metric here.

    Example:
        >>> bin_accuracy([0, 3, 3, 1], [0, 3, 2, 3])
        0.5
    """
    return float(np.mean(_class_distance(target, predicted) == 0))


def off_by_one_accuracy(target: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Share of samples whose class is missed by one position at most.

    Args:
        target: ``(N,)`` true classes.
        predicted: ``(N,)`` predicted classes.

    Example:
        >>> off_by_one_accuracy([0, 3, 3, 1], [0, 3, 2, 3])
        0.75
    """
    return float(np.mean(_class_distance(target, predicted) <= 1))


def mae_bins(target: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Mean number of positions between the true and the predicted class.

    Args:
        target: ``(N,)`` true classes.
        predicted: ``(N,)`` predicted classes.

    Example:
        >>> mae_bins([0, 3, 3, 1], [0, 3, 2, 3])
        0.75
    """
    return float(np.mean(_class_distance(target, predicted)))


def mae(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Mean absolute error, in the unit of the arguments.

    Args:
        true: ``(N,)`` true values, all of them known.
        predicted: ``(N,)`` predicted values.

    Example:
        >>> mae([30, 41], [33, 40])
        2.0
    """
    return float(np.mean(absolute_errors(true, predicted)))


def rmse(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Root of the mean squared error, in the unit of the arguments.

    Args:
        true: ``(N,)`` true values, all of them known.
        predicted: ``(N,)`` predicted values.

    Example:
        >>> rmse([30, 41, 50, 50], [30, 41, 50, 58])
        4.0
    """
    return float(np.sqrt(np.mean(absolute_errors(true, predicted) ** 2)))


def cs(true: npt.ArrayLike, predicted: npt.ArrayLike, k: float) -> float:
    """Cumulative score CS@k: the share of samples with an absolute error of k at most.

    Args:
        true: ``(N,)`` true values, all of them known.
        predicted: ``(N,)`` predicted values.
        k: Largest error that counts as right, in the same unit.

    Example:
        >>> cs([30, 41, 50, 50], [35, 41, 44, 50], 5)
        0.75
    """
    return float(np.mean(absolute_errors(true, predicted) <= k + _ERROR_TOLERANCE))


def cs_curve(true: npt.ArrayLike, predicted: npt.ArrayLike, largest: int) -> npt.NDArray[np.float64]:
    """The cumulative score at every whole k up to ``largest``.

    Args:
        true: ``(N,)`` true values, all of them known.
        predicted: ``(N,)`` predicted values.
        largest: The last k, in the same unit.

    Returns:
        ``(largest + 1,)`` shares, CS@0 first.

    Example:
        >>> cs_curve([30, 41, 50, 50], [31, 41, 48.5, 59], 2)
        array([0.25, 0.5 , 0.75])
    """
    errors = np.sort(absolute_errors(true, predicted))
    thresholds = np.arange(largest + 1) + _ERROR_TOLERANCE
    return np.searchsorted(errors, thresholds, side="right") / len(errors)


def median_ae(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Median of the absolute errors, in the unit of the arguments.

    Args:
        true: ``(N,)`` true values, all of them known.
        predicted: ``(N,)`` predicted values.

    Example:
        >>> median_ae([30, 41, 50], [30, 43, 70])
        2.0
    """
    return float(np.median(absolute_errors(true, predicted)))


def r2(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Share of the variance of the truth that is explained: 1 is perfect, 0 is the mean; NaN for a constant truth.

    Args:
        true: ``(N,)`` true values, all of them known.
        predicted: ``(N,)`` predicted values.

    Example:
        >>> r2([10, 20, 30], [10, 20, 40])
        0.5
    """
    from sklearn.metrics import r2_score

    x, y = _value_pair(true, predicted)
    return float("nan") if _is_constant(x) else float(r2_score(x, y))


def epsilon_error(true: npt.ArrayLike, predicted: npt.ArrayLike, std: npt.ArrayLike) -> float:
    r"""Mean of :math:`1 - \exp(-(x - \mu)^2 / 2 \sigma^2)`: 0 is perfect, 1 hopeless.

    Escalera et al., "ChaLearn Looking at People 2015: Apparent Age and Cultural Event Recognition" (2015).

    Args:
        true: ``(N,)`` mean of several people's guesses.
        predicted: ``(N,)`` predicted values.
        std: ``(N,)`` standard deviation of the guesses, above 0.

    Raises:
        ValueError: A standard deviation is not above 0.

    Example:
        >>> round(epsilon_error([30, 40], [30, 45], [3, 5]), 4)
        0.1967
    """
    errors, sigma = absolute_errors(true, predicted), as_vector("std", std)
    check_rows("std", sigma, "true", len(errors))
    if not (sigma > 0).all():
        row = first_row(~(sigma > 0))
        raise ValueError(f"Expected every `std` above 0, but row {row} is {sigma[row]}.")
    return float(np.mean(-np.expm1(-(errors**2) / (2 * sigma**2))))


def amae(errors: npt.ArrayLike, target: npt.ArrayLike, num_classes: int) -> float:
    """Mean over the true classes of each class's mean absolute error, so that rare classes weigh as much.

    Baccianella, Esuli and Sebastiani, "Evaluation Measures for Ordinal Regression" (2009).

    Args:
        errors: ``(N,)`` absolute errors, in years or bins.
        target: ``(N,)`` true classes; classes without samples are left out of the mean.
        num_classes: K.

    Example:
        >>> amae([1, 1, 1, 21], [0, 0, 0, 3], 4)
        11.0
    """
    return float(np.nanmean(_class_means(errors, target, num_classes)))


def mmae(errors: npt.ArrayLike, target: npt.ArrayLike, num_classes: int) -> float:
    """The largest of the true classes' mean absolute errors.

    Cruz-Ramírez et al., "Metrics to guide a multi-objective evolutionary algorithm for ordinal classification" (2014).

    Args:
        errors: ``(N,)`` absolute errors, in years or bins.
        target: ``(N,)`` true classes; classes without samples are left out.
        num_classes: K.

    Example:
        >>> mmae([1, 1, 1, 21], [0, 0, 0, 3], 4)
        21.0
    """
    return float(np.nanmax(_class_means(errors, target, num_classes)))


def confusion(target: npt.ArrayLike, predicted: npt.ArrayLike, num_classes: int) -> IntArray:
    """How many samples of each true class (row) got each predicted class (column).

    Args:
        target: ``(N,)`` true classes.
        predicted: ``(N,)`` predicted classes.
        num_classes: K.

    Returns:
        ``(K, K)`` counts, zero rows and columns included.

    Example:
        >>> confusion([0, 2], [0, 0], 3).tolist()
        [[1, 0, 0], [0, 0, 0], [1, 0, 0]]
    """
    from sklearn.metrics import confusion_matrix

    true, said = _class_pair(target, predicted, num_classes)
    return np.asarray(confusion_matrix(true, said, labels=np.arange(num_classes)), dtype=np.int64)


def balanced_accuracy(target: npt.ArrayLike, predicted: npt.ArrayLike, num_classes: int) -> float:
    """Mean over the true classes of the share of each that was found; classes without samples are left out.

    Args:
        target: ``(N,)`` true classes.
        predicted: ``(N,)`` predicted classes.
        num_classes: K.

    Example:
        >>> balanced_accuracy([0, 0, 0, 2], [0, 0, 0, 0], 3)
        0.5
    """
    true, said = _class_pair(target, predicted, num_classes)
    return float(np.nanmean(_class_means(true == said, true, num_classes)))


def quadratic_weighted_kappa(target: npt.ArrayLike, predicted: npt.ArrayLike, num_classes: int) -> float:
    """Cohen's kappa with squared distances between positions as weights: 1 is perfect, 0 is chance.

    Args:
        target: ``(N,)`` true classes.
        predicted: ``(N,)`` predicted classes.
        num_classes: K.

    Returns:
        The kappa; NaN where truth and predictions are one and the same constant, so that chance is perfect too.

    Example:
        >>> quadratic_weighted_kappa([0, 1, 2, 3], [0, 1, 2, 3], 4)
        1.0
    """
    from sklearn.metrics import cohen_kappa_score

    true, said = _class_pair(target, predicted, num_classes)
    if _is_constant(true) and np.array_equal(true, said):
        return float("nan")
    return float(cohen_kappa_score(true, said, labels=np.arange(num_classes), weights="quadratic"))


def spearman(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Spearman's rank correlation, ties at their average rank; NaN where either side is constant.

    Args:
        true: ``(N,)`` true values, all of them known.
        predicted: ``(N,)`` predicted values.

    Example:
        >>> round(spearman([1, 2, 3], [10, 40, 1600]), 6)
        1.0
    """
    from scipy.stats import spearmanr

    x, y = _value_pair(true, predicted)
    if _is_constant(x) or _is_constant(y):
        return float("nan")
    return float(spearmanr(x, y).statistic)


def kendall(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Kendall's tau-b, which corrects for ties; NaN where either side is constant.

    Args:
        true: ``(N,)`` true values, all of them known.
        predicted: ``(N,)`` predicted values.

    Example:
        >>> round(kendall([1, 2, 3, 4], [1, 2, 4, 3]), 4)
        0.6667
    """
    from scipy.stats import kendalltau

    x, y = _value_pair(true, predicted)
    if _is_constant(x) or _is_constant(y):
        return float("nan")
    return float(kendalltau(x, y).statistic)


def risk_coverage(errors: npt.ArrayLike, spread: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The mean error of the samples that are kept when the least certain ones are left out.

    Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks" (2017).

    Args:
        errors: ``(N,)`` absolute errors.
        spread: ``(N,)`` how uncertain each prediction is, such as `spreads`.

    Returns:
        ``(N,)`` mean error of the 1, 2, …, N most certain samples; of equally certain ones the average over all orders.

    Example:
        >>> risk_coverage([1.0, 5.0, 3.0], [0.1, 0.9, 0.5])
        array([1., 2., 3.])
    """
    values, order = as_vector("errors", errors), as_vector("spread", spread)
    check_rows("spread", order, "errors", len(values))
    _, codes, counts = np.unique(order, return_inverse=True, return_counts=True)
    means = np.bincount(codes, values) / counts
    return np.repeat(means, counts).cumsum() / np.arange(1, len(values) + 1)


def spreads(log_probs: npt.ArrayLike, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Standard deviation of each distribution.

    Args:
        log_probs: ``(N, K)``.
        values: ``(K,)`` the number that each class stands for.

    Returns:
        ``(N,)`` in the unit of ``values``.

    Raises:
        ValueError: There is not one value for each class.

    Example:
        >>> spreads(np.log([[0.5, 1e-30, 0.5]]), [10, 20, 40])
        array([15.])
    """
    numbers = as_vector("values", values)
    middle = float(numbers.mean())  # squares of large numbers would drown the differences
    means = mean(log_probs, numbers - middle)
    squares = mean(log_probs, (numbers - middle) ** 2)
    return np.sqrt(np.maximum(squares - means**2, 0))


def rps(log_probs: npt.ArrayLike, target: npt.ArrayLike, *, normalized: bool = False) -> float:
    """Mean ranked probability score: the squared differences of the cumulative distributions, summed over classes.

    Epstein, "A Scoring System for Probability Forecasts of Ranked Categories" (1969). 0 is best; it is the MAE in
    bins of a distribution that is certain.

    Args:
        log_probs: ``(N, K)``.
        target: ``(N,)`` true classes.
        normalized: Divide by K - 1, which brings it into 0 .. 1.

    Example:
        >>> round(rps(np.log([[0.5, 0.25, 0.25]]), [0]), 4)
        0.3125
    """
    scores = ranked_probability_scores(log_probs, target)
    return float(np.mean(scores)) / (np.shape(log_probs)[1] - 1 if normalized else 1)


def nll(log_probs: npt.ArrayLike, target: npt.ArrayLike) -> float:
    """Mean negative log-likelihood of the true class, in nats; infinite where one was held impossible.

    Args:
        log_probs: ``(N, K)``.
        target: ``(N,)`` true classes.

    Example:
        >>> round(nll(np.log([[0.5, 0.5]]), [1]), 4)
        0.6931
    """
    array, classes = scored_pair(log_probs, target)
    return -float(np.mean(array[np.arange(len(array)), classes], dtype=np.float64))


def absolute_errors(true: npt.ArrayLike, predicted: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Absolute error of each sample, in the unit of the arguments.

    Args:
        true: ``(N,)`` true values, all of them known.
        predicted: ``(N,)`` predicted values.

    Returns:
        ``(N,)``.

    Example:
        >>> absolute_errors([30, 41], [33, 40])
        array([3., 1.])
    """
    x, y = _value_pair(true, predicted)
    return np.abs(x - y)


def ranked_probability_scores(log_probs: npt.ArrayLike, target: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Ranked probability score of each sample, not divided by K - 1; see `rps`.

    Args:
        log_probs: ``(N, K)``.
        target: ``(N,)`` true classes.

    Returns:
        ``(N,)`` scores in ``0 .. K - 1``.

    Example:
        >>> ranked_probability_scores(np.log([[0.5, 0.5], [0.5, 0.5]]), [0, 1]).round(4)
        array([0.25, 0.25])
    """
    array, classes = scored_pair(log_probs, target)
    scores = np.zeros(len(array))
    for rows in row_blocks(*array.shape):
        # The difference of two cumulative sums is the cumulative sum of the differences.
        differences = np.exp(array[rows])
        differences[np.arange(len(differences)), classes[rows]] -= 1
        # Class by class, which adds up all samples side by side, takes half the time of a cumsum along each row.
        cumulative = np.zeros(len(differences))
        for of_class in differences.T[:-1]:
            cumulative += of_class
            scores[rows] += cumulative**2
    return scores


def _class_pair(target: npt.ArrayLike, predicted: npt.ArrayLike, num_classes: int | None) -> tuple[IntArray, IntArray]:
    true, said = as_classes("target", target, num_classes), as_classes("predicted", predicted, num_classes)
    check_rows("predicted", said, "target", len(true))
    return true, said


def _value_pair(
    true: npt.ArrayLike, predicted: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    x, y = as_vector("true", true), as_vector("predicted", predicted)
    check_rows("predicted", y, "true", len(x))
    return x, y


def scored_pair(log_probs: npt.ArrayLike, target: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    """Distributions ``(N, K)`` and true classes ``(N,)`` that fit each other; ValueError otherwise."""
    array = as_distribution("log_probs", log_probs)
    classes = as_classes("target", target, array.shape[1])
    check_rows("target", classes, "log_probs", len(array))
    return array, classes


def _class_distance(target: npt.ArrayLike, predicted: npt.ArrayLike) -> IntArray:
    true, said = _class_pair(target, predicted, None)
    return np.asarray(np.abs(true - said), dtype=np.int64)


def _class_means(values: npt.ArrayLike, target: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.float64]:
    numbers = as_vector("errors", values)
    classes = as_classes("target", target, num_classes)
    check_rows("errors", numbers, "target", len(classes))
    counts = np.bincount(classes, minlength=num_classes)
    totals = np.bincount(classes, weights=numbers, minlength=num_classes)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def _is_constant(values: npt.NDArray[np.generic]) -> bool:
    return bool((values == values[0]).all())
