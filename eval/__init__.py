"""Evaluation of ordinal predictions: metrics with intervals, constants to beat, tests of differences.

`Predictions` of a model on an `OrdinalScale` go in, an `Evaluation` comes out of `evaluate`. Importing this package
needs NumPy only; SciPy and scikit-learn are imported by the functions that use them.
"""

from .baselines import ConstantBaselines, ConstantScores
from .bootstrap import Interval, bootstrap_means
from .evaluation import DecoderFigures, Evaluation, Figure, Headline, evaluate
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
    mae,
    mae_bins,
    mean,
    median,
    mmae,
    mode,
    nll,
    off_by_one_accuracy,
    quadratic_weighted_kappa,
    ranked_probability_scores,
    rmse,
    rps,
    spearman,
)
from .predictions import Predictions
from .scale import OrdinalScale
from .significance import PairedDifference, SeedTest, holm, paired_bootstrap, verdict, wilcoxon_over_seeds

__all__ = [
    "DECODERS",
    "ConstantBaselines",
    "ConstantScores",
    "Decoded",
    "DecoderFigures",
    "Evaluation",
    "Figure",
    "Headline",
    "Interval",
    "OrdinalScale",
    "PairedDifference",
    "Predictions",
    "SeedTest",
    "absolute_errors",
    "amae",
    "balanced_accuracy",
    "bin_accuracy",
    "bootstrap_means",
    "confusion",
    "cs",
    "decode",
    "evaluate",
    "holm",
    "mae",
    "mae_bins",
    "mean",
    "median",
    "mmae",
    "mode",
    "nll",
    "off_by_one_accuracy",
    "paired_bootstrap",
    "quadratic_weighted_kappa",
    "ranked_probability_scores",
    "rmse",
    "rps",
    "spearman",
    "verdict",
    "wilcoxon_over_seeds",
]
