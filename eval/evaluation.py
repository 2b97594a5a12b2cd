"""From predictions to the figures that are reported."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import tables
from ._arrays import IntArray, row_blocks
from .baselines import ConstantBaselines
from .bootstrap import Interval, bootstrap_means
from .calibration import (
    Calibration,
    apply_temperature,
    brier,
    exceedance_reliability,
    expected_calibration_error,
)
from .conformal import IntervalFigures, judge_intervals
from .groups import GroupTable, decades, group_table, resample_groups
from .metrics import (
    DECODERS,
    Decoded,
    absolute_errors,
    amae,
    balanced_accuracy,
    bin_accuracy,
    confusion,
    cs,
    decode,
    epsilon_error,
    kendall,
    mae,
    mae_bins,
    median_ae,
    mmae,
    nll,
    off_by_one_accuracy,
    quadratic_weighted_kappa,
    r2,
    risk_coverage,
    rmse,
    rps,
    spearman,
    spreads,
)
from .predictions import Predictions
from .scale import OrdinalScale

if TYPE_CHECKING:
    import pandas as pd
    import rich.console

CS_THRESHOLDS = (1, 3, 5, 10)
COLLAPSE_SHARE = 0.95


@dataclass(frozen=True)
class Figure:
    """One reported figure.

    Args:
        value: The figure; NaN where it cannot be told.
        low: Lower end of its confidence interval.
        high: Upper end of its confidence interval.
        decoder: How the distributions were turned into answers: "mode", "median" or "mean".
        unit: "share", "bins", or the unit of the scale.
    """

    value: float
    low: float
    high: float
    decoder: str
    unit: str


@dataclass(frozen=True)
class Headline:
    """The three figures that come first: accuracy by the mode, the other two by the median."""

    bin_accuracy: Figure
    off_by_one_accuracy: Figure
    mae: Figure


@dataclass(frozen=True)
class DecoderFigures:
    """What one rule of decoding gives. ``mae`` and ``rmse`` are in `Evaluation.error_unit`."""

    decoder: str
    bin_accuracy: float
    off_by_one_accuracy: float
    mae: float
    mae_bins: float
    rmse: float


@dataclass(frozen=True)
class Evaluation:
    """Everything that `evaluate` found out.

    Args:
        headline: Bin accuracy, off-by-one accuracy and MAE, with intervals.
        mae_bins: The MAE in bins, which needs no ages.
        decoders: The same under each common rule and, as "paper", under the rule of the loss's own paper.
        baselines: The constants of the training labels and how they do here; empty where none were given.
        rest: Further metrics by name; NaN where one cannot be told.
        groups: The headline figures by column of groups: those of the predictions, ``decade`` of age, and
            ``training images``, how many of these share the age.
        intervals: How the prediction intervals did; None without a calibration.
        confusion: ``(K, K)`` how many samples of each true bin (row) were said to be of each bin, by the mode.
        scale: The bins that were judged on.
        error_unit: Unit of the errors in ``headline.mae`` and in ``rest``: the scale's, or "bins" where no age
            is known.
        n: Number of samples.
        n_ages: Number of samples whose age is known, over which errors in years are averaged.
        n_subjects: Number of subjects that the intervals resample; None where subjects are unknown.
        confidence: Confidence of the intervals.
        meta: The predictions' own.
    """

    headline: Headline
    mae_bins: Figure
    decoders: dict[str, DecoderFigures]
    baselines: dict[str, float | str]
    rest: dict[str, float | bool]
    groups: dict[str, GroupTable]
    intervals: IntervalFigures | None
    confusion: IntArray
    scale: OrdinalScale
    error_unit: str
    n: int
    n_ages: int
    n_subjects: int | None
    confidence: float
    meta: dict[str, Any]

    @property
    def test(self) -> dict[str, Any]:
        """The figures that commands print: n, bin_accuracy, off_by_one_accuracy and mae.

        The MAE is in the scale's unit; where no age is known it is in bins, and ``mae_unit`` says so.
        """
        figures: dict[str, Any] = {
            "n": self.n,
            "bin_accuracy": _json(self.headline.bin_accuracy.value),
            "off_by_one_accuracy": _json(self.headline.off_by_one_accuracy.value),
            "mae": _json(self.headline.mae.value),
        }
        return figures if self.n_ages else {**figures, "mae_unit": "bins"}

    def to_frame(self) -> "pd.DataFrame":
        """Every figure as a row of a pandas table.

        Returns:
            Columns ``metric``, ``value``, ``low``, ``high``, ``decoder``, ``unit``, ``column``, ``group`` and ``n``;
            ``column`` and ``group`` are empty for the figures of all samples, ``decoder`` and ``unit`` where the name
            of the metric says all.
        """
        return tables.frame(self)

    def to_markdown(self, *, name: str = "") -> str:
        """The same as Markdown: headline beside the constants, decoders, intervals, groups, further metrics.

        Args:
            name: What was judged; by default the loss.
        """
        return "\n\n".join(table.to_markdown() for table in tables.tables_of(self, name))

    def to_rich(self, *, name: str = "") -> "rich.console.Group":
        """The same as a terminal shows it: ``rich.print(evaluation.to_rich())``.

        Args:
            name: What was judged; by default the loss.
        """
        from rich.console import Group

        return Group(*(table.to_rich() for table in tables.tables_of(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON holds it; NaN and infinity are None."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["headline"] = dataclasses.asdict(self.headline)
        fields["mae_bins"] = dataclasses.asdict(self.mae_bins)
        fields["decoders"] = {name: dataclasses.asdict(figures) for name, figures in self.decoders.items()}
        fields["groups"] = {column: dataclasses.asdict(table) for column, table in self.groups.items()}
        fields["intervals"] = None if self.intervals is None else dataclasses.asdict(self.intervals)
        fields["confusion"] = self.confusion.tolist()
        fields["scale"] = self.scale.to_dict()
        return {name: _json(value) for name, value in fields.items()} | {"test": self.test}


def evaluate(
    predictions: Predictions,
    *,
    bins: OrdinalScale | None = None,
    baselines: ConstantBaselines | None = None,
    calibration: Calibration | None = None,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """Judge predictions: headline figures with intervals, every common decoder, constants, groups, further metrics.

    Classes are judged on ``bins``, whose probabilities are the sums of the model's own, so a model of years and a
    model of bins are judged alike. Errors are in the unit of the scale, between the true age and the value that the
    model's own scale gives; where no age is known they are in bins. Accuracy is that of the mode, off-by-one
    accuracy and MAE those of the median, RMSE that of the mean, whatever the loss.

    Args:
        predictions: Of one model on one set of samples.
        bins: The classes to judge on; by default those of the predictions.
        baselines: Constants fitted on the *training* labels, on the same bins.
        calibration: Fitted on the *validation* part; adds how its temperature and its intervals do here.
        n_resamples: Resamples of the bootstrap, by subject where subjects are known; 0 leaves the intervals NaN.
        confidence: Confidence of the intervals.
        seed: The same seed gives the same intervals.

    Raises:
        ValueError: ``bins`` cuts a class of the predictions, ``baselines`` are of other bins, or
            ``predictions.meta["paper_decoder"]`` is no decoder.

    Example:
        >>> bins = OrdinalScale.parse("0-10,11-20,21+")
        >>> said = Predictions.from_probs([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]], bins, age=[4, 18])
        >>> result = evaluate(said, baselines=ConstantBaselines.fit(bins, age=[3, 15, 16]))
        >>> result.test
        {'n': 2, 'bin_accuracy': 0.5, 'off_by_one_accuracy': 1.0, 'mae': 4.5}
        >>> result.baselines["median_age_mae"]
        7.0
    """
    judged = predictions if bins is None else predictions.on(bins)
    if baselines is not None and baselines.scale.spec != judged.scale.spec:
        raise ValueError(f"Expected `baselines` on {judged.scale.spec}, but theirs are {baselines.scale.spec}.")
    has_ages = bool(predictions.known_age.any())
    measured = predictions if has_ages else _on_positions(judged)
    unit = predictions.scale.unit if has_ages else "bins"
    known = measured.known_age

    answers = {how: _common_answers(predictions, judged, measured, how) for how in DECODERS}
    decoders = {how: _decoder_figures(answer, how, judged, measured) for how, answer in answers.items()}
    paper = predictions.meta.get("paper_decoder")
    if paper is not None:
        answer = _paper_answers(predictions, judged, measured, paper)
        decoders["paper"] = _decoder_figures(answer, paper, judged, measured)

    middle = answers["median"]
    off_by = np.abs(middle.classes - judged.target)
    signed = np.full(len(judged), np.nan)
    signed[known] = middle.values[known] - measured.age[known]
    statistics = {
        "bin_accuracy": (answers["mode"].classes == judged.target).astype(np.float64),
        "off_by_one_accuracy": (off_by <= 1).astype(np.float64),
        "mae": np.abs(signed),
        "bias": signed,
    }
    clusters = predictions.clusters
    intervals = bootstrap_means(
        {**statistics, "mae_bins": off_by},
        cluster=clusters,
        n_resamples=n_resamples,
        confidence=confidence,
        seed=seed,
    )
    columns = _group_columns(predictions, baselines)
    resampled = {
        column: resample_groups(values, statistics, cluster=clusters, n_resamples=n_resamples, seed=seed)
        for column, values in columns.items()
    }
    return Evaluation(
        headline=Headline(
            bin_accuracy=_figure(intervals["bin_accuracy"], "mode", "share"),
            off_by_one_accuracy=_figure(intervals["off_by_one_accuracy"], "median", "share"),
            mae=_figure(intervals["mae"], "median", unit),
        ),
        mae_bins=_figure(intervals["mae_bins"], "median", "bins"),
        decoders=decoders,
        baselines={} if baselines is None else _judge_constants(baselines, judged),
        rest=_rest(judged, measured, answers, calibration, predictions),
        groups={column: group_table(groups, confidence) for column, groups in resampled.items() if groups},
        intervals=None
        if calibration is None
        else judge_intervals(
            calibration.intervals,
            predictions,
            columns=columns,
            n_resamples=n_resamples,
            confidence=confidence,
            seed=seed,
        ),
        confusion=confusion(judged.target, answers["mode"].classes, len(judged.scale)),
        scale=judged.scale,
        error_unit=unit,
        n=len(judged),
        n_ages=int(predictions.known_age.sum()),
        n_subjects=None if clusters is None else len(np.unique(clusters)),
        confidence=confidence,
        meta=dict(predictions.meta),
    )


def answers(predictions: Predictions, how: str, *, bins: OrdinalScale | None = None, paper: bool = False) -> Decoded:
    """Predicted bins and values, as `evaluate` judges them.

    Args:
        predictions: Of one model.
        how: "mode", "median" or "mean".
        bins: The classes to judge on; by default those of the predictions.
        paper: Decode on the model's own classes and only then sort into bins, as papers do.

    Returns:
        Classes on ``bins``, and values in the unit of the scale, in bins where no age is known.

    Raises:
        ValueError: ``bins`` cuts a class of the predictions, or ``how`` is no decoder.

    Example:
        >>> said = Predictions.from_probs([[0.4, 0.3, 0.3]], OrdinalScale.years(16, 18), age=[17])
        >>> bins = OrdinalScale.parse("0-16,17+")
        >>> answers(said, "mode", bins=bins).classes, answers(said, "mode", bins=bins, paper=True).classes
        (array([1]), array([0]))
    """
    judged = predictions if bins is None else predictions.on(bins)
    measured = predictions if predictions.known_age.any() else _on_positions(judged)
    return (_paper_answers if paper else _common_answers)(predictions, judged, measured, how)


def _common_answers(predictions: Predictions, judged: Predictions, measured: Predictions, how: str) -> Decoded:
    """Predicted bins, and values in the unit of the errors, by a rule that treats every loss alike."""
    classes, values = decode(judged, how).classes, decode(measured, how).values
    if how == "mean":
        # A mean is a point on the axis of values: its bin follows from there, not from the distribution over bins.
        classes = judged.scale.nearest(decode(predictions, how).values)
    return Decoded(classes, values)


def _paper_answers(predictions: Predictions, judged: Predictions, measured: Predictions, how: str) -> Decoded:
    """The same as the paper has it: decoded on the model's own classes, and only then sorted into bins."""
    if how == "mean":
        return _common_answers(predictions, judged, measured, how)
    own = decode(predictions, how)
    classes = predictions.scale.mapping_to(judged.scale)[own.classes]
    return Decoded(classes, own.values if measured is predictions else classes.astype(np.float64))


def _on_positions(judged: Predictions) -> Predictions:
    """The predictions with positions of bins for ages, so that errors come out in bins."""
    positions = OrdinalScale.from_labels(judged.scale.labels)
    return dataclasses.replace(judged, scale=positions, age=judged.target.astype(np.float64), point=None)


def _decoder_figures(answer: Decoded, how: str, judged: Predictions, measured: Predictions) -> DecoderFigures:
    known = measured.known_age
    return DecoderFigures(
        decoder=how,
        bin_accuracy=bin_accuracy(judged.target, answer.classes),
        off_by_one_accuracy=off_by_one_accuracy(judged.target, answer.classes),
        mae=mae(measured.age[known], answer.values[known]),
        mae_bins=mae_bins(judged.target, answer.classes),
        rmse=rmse(measured.age[known], answer.values[known]),
    )


def _group_columns(predictions: Predictions, baselines: ConstantBaselines | None) -> dict[str, npt.NDArray[Any]]:
    """The columns that results are broken down by: the predictions' own, and those that follow from the age."""
    columns = dict(predictions.groups)
    if predictions.scale.unit == "years" and predictions.known_age.any():
        columns["decade"] = decades(predictions.age)
        if baselines is not None and baselines.ages:
            columns["training images"] = baselines.shots(predictions.age)
    return columns


def _rest(
    judged: Predictions,
    measured: Predictions,
    answers: dict[str, Decoded],
    calibration: Calibration | None,
    predictions: Predictions,
) -> dict[str, float | bool]:
    num_classes, target = len(judged.scale), judged.target
    likely, middle = answers["mode"], answers["median"]
    known = measured.known_age
    true, said = measured.age[known], middle.values[known]
    errors = absolute_errors(true, said)
    largest_share = float(np.bincount(likely.classes).max() / len(judged))
    return {
        "rmse": rmse(true, answers["mean"].values[known]),
        "median_ae": median_ae(true, said),
        "bias": float(np.mean(said - true)),
        "r2": r2(true, answers["mean"].values[known]),
        **{f"cs@{k}": cs(true, said, k) for k in CS_THRESHOLDS},
        "amae": amae(errors, target[known], num_classes),
        "mmae": mmae(errors, target[known], num_classes),
        "epsilon_error": _epsilon_error(measured, middle.values),
        "spearman": spearman(true, said),
        "kendall": kendall(true, said),
        "balanced_accuracy": balanced_accuracy(target, likely.classes, num_classes),
        "quadratic_weighted_kappa": quadratic_weighted_kappa(target, middle.classes, num_classes),
        "rps": rps(judged.log_probs, target),
        "rps_normalized": rps(judged.log_probs, target, normalized=True),
        **_likelihoods(judged, calibration, predictions),
        "risk_coverage_area": _risk_coverage_area(measured, errors),
        "violation_rate": math.nan if judged.violation is None else float(judged.violation.mean()),
        "largest_predicted_share": largest_share,
        "collapsed": largest_share >= COLLAPSE_SHARE,
    }


def _risk_coverage_area(measured: Predictions, errors: npt.NDArray[np.float64]) -> float:
    if measured.meta.get("point_predictor", False):
        return math.nan  # a point tells nothing of how sure it is
    spread = spreads(measured.log_probs, measured.scale.values)[measured.known_age]
    return float(risk_coverage(errors, spread).mean())


def _epsilon_error(measured: Predictions, values: npt.NDArray[np.float64]) -> float:
    if measured.age_std is None:
        return math.nan
    told = measured.known_age & (measured.age_std > 0)
    return epsilon_error(measured.age[told], values[told], measured.age_std[told]) if told.any() else math.nan


def _likelihoods(
    judged: Predictions, calibration: Calibration | None, predictions: Predictions
) -> dict[str, float | bool]:
    """What the probabilities are worth, as they are and with the temperature; NaN for those of a point predictor."""
    figures: dict[str, Callable[[Predictions], float]] = {
        "nll": lambda said: nll(said.log_probs, said.target),
        "brier": lambda said: brier(said.log_probs, said.target),
        "ece": lambda said: expected_calibration_error(said.log_probs, said.target),
        "ece_adaptive": lambda said: expected_calibration_error(said.log_probs, said.target, adaptive=True),
        "ece_exceedance": lambda said: exceedance_reliability(said.log_probs, said.target).error,
    }
    point = bool(judged.meta.get("point_predictor", False))
    found: dict[str, float | bool] = {name: math.nan if point else figure(judged) for name, figure in figures.items()}
    if calibration is not None and calibration.temperature is not None:
        calibrated = _at_temperature(predictions, judged, calibration.temperature)
        found["temperature"] = calibration.temperature
        found |= {f"{name}_calibrated": figure(calibrated) for name, figure in figures.items()}
    return found


def _at_temperature(predictions: Predictions, judged: Predictions, temperature: float) -> Predictions:
    """``judged`` as it is when the logits of ``predictions``, on the model's own scale, go by the temperature."""
    log_probs = np.empty_like(judged.log_probs)
    for rows in row_blocks(*predictions.log_probs.shape):  # a second array of the model's classes is never whole
        scaled = apply_temperature(predictions.log_probs[rows], temperature)
        log_probs[rows] = predictions.scale.coarsen(scaled, judged.scale, log=True)
    return dataclasses.replace(judged, log_probs=log_probs)


def _judge_constants(baselines: ConstantBaselines, judged: Predictions) -> dict[str, float | str]:
    scores = baselines.score(judged.target, judged.age)
    return {
        "majority_bin": judged.scale.labels[baselines.majority_bin],
        "median_bin": judged.scale.labels[baselines.median_bin],
        "median_age": baselines.median_age,
        **dataclasses.asdict(scores),
    }


def _figure(interval: Interval, decoder: str, unit: str) -> Figure:
    return Figure(interval.value, interval.low, interval.high, decoder, unit)


def _json(value: Any) -> Any:
    """The value with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
