"""What a run's figures say about what went wrong, and what to try: a few rules, each with its evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ordage.eval import Evaluation

    from .config import RunConfig
    from .data.dataset import Dataset

__all__ = ["Diagnosis", "Evidence", "Try", "diagnose"]

NO_BETTER = 0.98  # of a constant's error that an answer must stay below to be worth anything
OVERFITTED = 1.5  # times the error on its own training images that others have
FITTED_ALIKE = 1.1  # below this, more training or a larger net has something left to learn
SPOILED = 1.03  # times the best validation error that the last epoch has, where training went on for too long
SEVERAL = 3  # nets whose mean errs less than one that learns images by heart; more bring little
ROSE = 1.3  # times its lowest value that the training loss ends at, where training came apart
NEGLECTED = 1.7  # times the error over images that the mean of the bins' errors is
MUCH_SMALLER = 1.5  # times the input that the files are, before their detail counts
WAITING = 0.1  # of the time of an epoch, from which on it is worth a word
KNOWS = "tf_efficientnet_lite0"  # a backbone with weights that is quick on a CPU too
KNOWS_AT = 128  # pixels: its weights were made for 224, which cost three times as much
FEW = 50_000  # images below which a backbone that knows other pictures is ahead of one from scratch


@dataclass(frozen=True)
class Try:
    """Options that may help, in place of those that were given.

    Attributes:
        what: it is, in a few words.
        options: by name.
    """

    what: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Diagnosis:
    """One finding.

    Attributes:
        name: a short name that stays the same, such as ``overfitting``.
        evidence: the figures that show it.
        advice: what to try, in words.
        tries: what of that can be tried by other options alone.
    """

    name: str
    evidence: str
    advice: str
    tries: tuple[Try, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What the rules look at.

    Attributes:
        config: the options of the run, none left open.
        pretrained: whether its backbone knew other pictures.
        dataset: what it was trained on.
        rows: the figures of each epoch.
        fitted: how the model does on images that it was trained on.
        val: how it does on the validation part.
    """

    config: RunConfig
    pretrained: bool
    dataset: Dataset
    rows: Sequence[dict[str, Any]]
    fitted: Evaluation
    val: Evaluation

    @property
    def gap(self) -> float:
        """The validation error over that on training images."""
        return self.val.headline.mae.value / max(self.fitted.headline.mae.value, 1e-9)

    @property
    def errors(self) -> str:
        """Both errors in words."""
        fitted, val = self.fitted.headline.mae.value, self.val.headline.mae.value
        return f"MAE {fitted:.2f} on images that it was trained on, {val:.2f} on others"

    @property
    def constant(self) -> float:
        """The error of the best constant on the validation part, in the unit of the errors; infinite if unknown."""
        name = "median_bin_mae" if self.val.error_unit == "bins" else "median_age_mae"
        error = float(self.val.baselines.get(name, np.nan))
        return error if np.isfinite(error) else np.inf

    @property
    def learned(self) -> bool:
        """Whether there is a model to speak of."""
        return self.val.headline.mae.value < NO_BETTER * self.constant


def _no_better_than_a_constant(seen: Evidence) -> Diagnosis | None:
    if seen.learned or seen.val.rest["collapsed"]:
        return None
    return Diagnosis(
        "nothing learned",
        f"validation MAE {seen.val.headline.mae.value:.2f}, and {seen.constant:.2f} by always answering the same",
        f"another --lr (it was {seen.config.lr:g}), longer training, and ordage inspect: are the ages right?",
        (Try("another learning rate", {"lr": "find"}),),
    )


def _collapsed(seen: Evidence) -> Diagnosis | None:
    if not seen.val.rest["collapsed"]:
        return None
    share = float(seen.val.rest["largest_predicted_share"])
    last = "or --sampling balanced" if seen.learned else "and ordage inspect: are the ages right?"
    return Diagnosis(
        "collapsed",
        f"{share:.0%} of its answers are the same bin",
        f"longer training, another --lr (it was {seen.config.lr:g}), {last}",
        (Try("every bin equally often", {"sampling": "balanced"}),) if seen.learned else (),
    )


def _diverged(seen: Evidence) -> Diagnosis | None:
    losses = [float(row["train_loss"]) for row in seen.rows]
    if min(losses) <= 0 or losses[-1] < ROSE * min(losses):
        return None
    return Diagnosis(
        "diverged",
        f"the training loss went from {min(losses):.3g} up to {losses[-1]:.3g}",
        f"a lower --lr (it was {seen.config.lr:g})",
        (Try("a lower learning rate", {"lr": float(f"{float(seen.config.lr or 0) / 3:.1g}")}),),
    )


def _overfitting(seen: Evidence) -> Diagnosis | None:
    errors = [float(row["val_mae"]) for row in seen.rows]
    best = int(np.argmin(errors))
    spoiled = errors[-1] > SPOILED * errors[best] and _diverged(seen) is None
    if not spoiled and seen.gap < OVERFITTED:
        return None
    later = f"; validation MAE {errors[best]:.2f} after epoch {best + 1}, {errors[-1]:.2f} after {len(errors)}"
    stronger = {"none": "light", "light": "full"}.get(str(seen.config.augment))
    tries = [] if stronger is None else [Try("stronger augmentation", {"augment": stronger})]
    if spoiled:
        tries.append(Try("shorter training", {"epochs": best + 1, "time_limit": None}))
    alone = not seen.pretrained and (seen.config.members or 1) == 1
    if alone:
        tries.append(Try("several nets that answer together", {"members": SEVERAL}))
    more = f"--augment {stronger}, " if stronger else ""
    stop = f"--epochs {best + 1}, " if spoiled else ""
    several = f"--members {SEVERAL}, " if alone else ""
    evidence = seen.errors + (later if spoiled else "")
    return Diagnosis("overfitting", evidence, f"{more}{stop}{several}more images, or a smaller net", tuple(tries))


def _underfitting(seen: Evidence) -> Diagnosis | None:
    if not seen.learned or seen.gap > FITTED_ALIKE:
        return None
    options: dict[str, Any]
    if (seconds := seen.config.seconds) is not None:
        longer, options = "a longer --time-limit", {"time_limit": f"{2 * seconds:g}s"}
    else:
        longer, options = f"--epochs {2 * len(seen.rows)}", {"epochs": 2 * len(seen.rows)}
    return Diagnosis("underfitting", seen.errors, f"{longer}, or a larger net", (Try("longer training", options),))


def _rare_ages_neglected(seen: Evidence) -> Diagnosis | None:
    mean, over_bins = seen.val.headline.mae.value, float(seen.val.rest["amae"])
    if not seen.learned or not over_bins > NEGLECTED * mean or seen.config.sampling == "balanced":
        return None
    if seen.config.class_weights is not None:
        return None
    return Diagnosis(
        "rare ages neglected",
        f"MAE {mean:.2f} over images, but {over_bins:.2f} as the mean over bins",
        "--class-weights effective or --sampling balanced, if every bin matters alike",
        (Try("rare ages weigh more", {"class_weights": "effective"}),),
    )


def _bins_hide_ages(seen: Evidence) -> Diagnosis | None:
    exact = seen.dataset.manifest.exact
    if exact and len(seen.dataset.classes) > len(seen.dataset.bins):
        return None
    return Diagnosis(
        "ages hidden in bins",
        f"the model learned {len(seen.dataset.classes)} bins, not years",
        "it without --train-on bins" if exact else "exact ages, if you have them: they teach more",
        (Try("exact ages instead of bins", {"train_on": "years"}),) if exact else (),
    )


def _input_smaller_than_files(seen: Evidence) -> Diagnosis | None:
    side, size = seen.dataset.native_side, seen.config.img_size or 0
    if side < MUCH_SMALLER * size:
        return None
    return Diagnosis(
        "detail thrown away",
        f"half of the images are {side} pixels or more, and the model sees {size}",
        f"--img-size {min(side, 2 * size)}",
        (Try("more resolution", {"img_size": min(side, 2 * size)}),),
    )


def _colour_thrown_away(seen: Evidence) -> Diagnosis | None:
    if seen.config.in_chans != 1 or seen.dataset.colour_share < 0.5:
        return None
    share = f"{seen.dataset.colour_share:.0%}"
    evidence = f"{share} of the images are in colour, the input is grey"
    return Diagnosis("colour thrown away", evidence, "--in-chans 3", (Try("colour", {"in_chans": 3}),))


def _from_scratch(seen: Evidence) -> Diagnosis | None:
    count = len(seen.dataset.index("train"))
    if seen.pretrained or count >= FEW or (seen.config.img_size or 0) < 64:
        return None
    return Diagnosis(
        "from scratch",
        f"{count:,} images to train on, and no pretrained weights",
        f"a backbone that knows other pictures, such as --model {KNOWS} --img-size {KNOWS_AT}",
        (Try("a pretrained backbone", {"model": KNOWS, "img_size": KNOWS_AT, "in_chans": 3, "pretrained": True}),),
    )


def _waiting_for_images(seen: Evidence) -> Diagnosis | None:
    share = float(np.median([float(row["waiting_share"]) for row in seen.rows]))
    if share < WAITING:
        return None
    return Diagnosis(
        "waiting for images",
        f"the model stood still for {share:.0%} of the time because images were not decoded yet",
        "a larger --cache-limit, so that they are decoded once, or pip install 'ordage[fast]'",
    )


RULES: tuple[Callable[[Evidence], Diagnosis | None], ...] = (
    _no_better_than_a_constant,
    _collapsed,
    _diverged,
    _overfitting,
    _underfitting,
    _rare_ages_neglected,
    _bins_hide_ages,
    _input_smaller_than_files,
    _colour_thrown_away,
    _from_scratch,
    _waiting_for_images,
)


def diagnose(evidence: Evidence) -> list[dict[str, Any]]:
    """Return what the rules find, the gravest first, as a report holds it."""
    found = (rule(evidence) for rule in RULES)
    return [dataclasses.asdict(diagnosis) for diagnosis in found if diagnosis is not None]
