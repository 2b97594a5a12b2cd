"""From predictions to the figures that are reported."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .baselines import ConstantBaselines
from .bootstrap import Interval, bootstrap_means
from .metrics import (
    DECODERS,
    Decoded,
    absolute_errors,
    amae,
    balanced_accuracy,
    bin_accuracy,
    cs,
    decode,
    mae,
    mae_bins,
    mmae,
    nll,
    off_by_one_accuracy,
    quadratic_weighted_kappa,
    rmse,
    rps,
    spearman,
)
from .predictions import Predictions
from .scale import OrdinalScale

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

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON holds it; NaN and infinity are None."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["headline"] = dataclasses.asdict(self.headline)
        fields["mae_bins"] = dataclasses.asdict(self.mae_bins)
        fields["decoders"] = {name: dataclasses.asdict(figures) for name, figures in self.decoders.items()}
        fields["scale"] = self.scale.to_dict()
        return {name: _json(value) for name, value in fields.items()} | {"test": self.test}


def evaluate(
    predictions: Predictions,
    *,
    bins: OrdinalScale | None = None,
    baselines: ConstantBaselines | None = None,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """Judge predictions: headline figures with intervals, every common decoder, constants, further metrics.

    Classes are judged on ``bins``, whose probabilities are the sums of the model's own, so a model of years and a
    model of bins are judged alike. Errors are in the unit of the scale, between the true age and the value that the
    model's own scale gives; where no age is known they are in bins. Accuracy is that of the mode, off-by-one
    accuracy and MAE those of the median, RMSE that of the mean, whatever the loss.

    Args:
        predictions: Of one model on one set of samples.
        bins: The classes to judge on; by default those of the predictions.
        baselines: Constants fitted on the *training* labels, on the same bins.
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
    errors = np.full(len(judged), np.nan)
    errors[known] = absolute_errors(measured.age[known], middle.values[known])
    clusters = predictions.clusters
    intervals = bootstrap_means(
        {
            "bin_accuracy": answers["mode"].classes == judged.target,
            "off_by_one_accuracy": off_by <= 1,
            "mae": errors,
            "mae_bins": off_by,
        },
        cluster=clusters,
        n_resamples=n_resamples,
        confidence=confidence,
        seed=seed,
    )
    return Evaluation(
        headline=Headline(
            bin_accuracy=_figure(intervals["bin_accuracy"], "mode", "share"),
            off_by_one_accuracy=_figure(intervals["off_by_one_accuracy"], "median", "share"),
            mae=_figure(intervals["mae"], "median", unit),
        ),
        mae_bins=_figure(intervals["mae_bins"], "median", "bins"),
        decoders=decoders,
        baselines={} if baselines is None else _judge_constants(baselines, judged),
        rest=_rest(judged, measured, answers),
        scale=judged.scale,
        error_unit=unit,
        n=len(judged),
        n_ages=int(predictions.known_age.sum()),
        n_subjects=None if clusters is None else len(np.unique(clusters)),
        confidence=confidence,
        meta=dict(predictions.meta),
    )


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
    return dataclasses.replace(judged, scale=positions, age=judged.target.astype(np.float64))


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


def _rest(judged: Predictions, measured: Predictions, answers: dict[str, Decoded]) -> dict[str, float | bool]:
    num_classes, target = len(judged.scale), judged.target
    likely, middle = answers["mode"], answers["median"]
    known = measured.known_age
    true, said = measured.age[known], middle.values[known]
    errors = absolute_errors(true, said)
    largest_share = float(np.bincount(likely.classes).max() / len(judged))
    point = bool(judged.meta.get("point_predictor", False))
    return {
        "rmse": rmse(true, answers["mean"].values[known]),
        **{f"cs@{k}": cs(true, said, k) for k in CS_THRESHOLDS},
        "amae": amae(errors, target[known], num_classes),
        "mmae": mmae(errors, target[known], num_classes),
        "spearman": spearman(true, said),
        "balanced_accuracy": balanced_accuracy(target, likely.classes, num_classes),
        "quadratic_weighted_kappa": quadratic_weighted_kappa(target, middle.classes, num_classes),
        "rps": rps(judged.log_probs, target),
        "rps_normalized": rps(judged.log_probs, target, normalized=True),
        "nll": math.nan if point else nll(judged.log_probs, target),
        "violation_rate": math.nan if judged.violation is None else float(judged.violation.mean()),
        "largest_predicted_share": largest_share,
        "collapsed": largest_share >= COLLAPSE_SHARE,
    }


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
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
