"""Constant answers learned from the training labels: what a model has to beat to be worth anything."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ._arrays import as_classes, check_rows
from .metrics import bin_accuracy, mae, mae_bins, off_by_one_accuracy
from .scale import OrdinalScale


@dataclass(frozen=True)
class ConstantScores:
    """How the constants do on test labels; the age's error is NaN where no ages are known."""

    majority_bin_accuracy: float
    majority_bin_off_by_one_accuracy: float
    median_age_mae: float
    median_bin_mae: float


@dataclass(frozen=True)
class ConstantBaselines:
    """The constants of a training set: the answers that need no picture.

    Args:
        scale: The bins that the constants belong to.
        majority_bin: The most frequent bin, the first of several.
        median_bin: The lower median of the bins.
        median_age: The median age in ``scale.unit``; NaN where no training age is known.
        ages: The whole ages that occur, increasing.
        counts: How many training samples there are of each.

    Example:
        >>> constants = ConstantBaselines.fit(OrdinalScale.parse("0-10,11-20,21+"), age=[3, 12, 15, 40])
        >>> constants.majority_bin, constants.median_age
        (1, 13.5)
        >>> constants.score([1, 2], [15.5, 21.5]).median_age_mae
        5.0
    """

    scale: OrdinalScale
    majority_bin: int
    median_bin: int
    median_age: float
    ages: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()

    @classmethod
    def fit(cls, scale: OrdinalScale, *, target: npt.ArrayLike | None = None, age: npt.ArrayLike | None = None) -> Self:
        """The constants of the training labels; never give it those of the test part.

        Args:
            scale: The bins to judge on.
            target: ``(N,)`` training bins; left out, they are the bins of the ages.
            age: ``(N,)`` training ages in ``scale.unit``, NaN where unknown.

        Raises:
            ValueError: Neither is given, or they do not fit each other or ``scale``.
        """
        if age is None and target is None:
            raise ValueError("Expected `target`, `age` or both, but got neither.")
        ages = np.asarray([] if age is None else age, dtype=np.float64)
        classes = as_classes("target", scale.class_of(ages) if target is None else target, len(scale))
        if age is not None:
            check_rows("age", ages, "target", len(classes))
        known = ages[np.isfinite(ages)]
        whole, counts = np.unique(np.floor(known).astype(np.int64), return_counts=True)
        return cls(
            scale=scale,
            majority_bin=int(np.bincount(classes).argmax()),
            median_bin=int(np.sort(classes)[(len(classes) - 1) // 2]),
            median_age=float(np.median(known)) if known.size else float("nan"),
            ages=tuple(whole.tolist()),
            counts=tuple(counts.tolist()),
        )

    def shots(self, age: npt.ArrayLike) -> npt.NDArray[np.str_]:
        """How many training samples share each age: "many (over 100)", "medium (20 to 100)" or "few (under 20)".

        Liu et al., "Large-Scale Long-Tailed Recognition in an Open World" (2019).

        Args:
            age: ``(N,)`` in ``scale.unit``; the answer for NaN is empty.

        Example:
            >>> constants = ConstantBaselines.fit(OrdinalScale.parse("0-10,11+"), age=[3] * 150 + [40] * 20)
            >>> constants.shots([3.5, 40, 41, float("nan")]).tolist()
            ['many (over 100)', 'medium (20 to 100)', 'few (under 20)', '']
        """
        ages = np.asarray(age, dtype=np.float64)
        known = np.isfinite(ages)
        whole = np.floor(np.where(known, ages, 0)).astype(np.int64)
        counts = np.zeros(len(ages), dtype=np.int64)
        if self.ages:
            place = np.searchsorted(self.ages, whole).clip(max=len(self.ages) - 1)
            counts = np.where(np.asarray(self.ages)[place] == whole, np.asarray(self.counts)[place], 0)
        names = np.select([counts > 100, counts >= 20], ["many (over 100)", "medium (20 to 100)"], "few (under 20)")
        return np.where(known, names, "")

    def score(self, target: npt.ArrayLike, age: npt.ArrayLike | None = None) -> ConstantScores:
        """Judge the constants on test labels.

        Args:
            target: ``(N,)`` true bins on ``scale``.
            age: ``(N,)`` true ages in ``scale.unit``, NaN where unknown.

        Raises:
            ValueError: The labels do not fit each other or ``scale``.
        """
        classes = as_classes("target", target, len(self.scale))
        ages = np.full(len(classes), np.nan) if age is None else np.asarray(age, dtype=np.float64)
        check_rows("age", ages, "target", len(classes))
        known = ages[np.isfinite(ages)]
        has_ages = known.size > 0 and np.isfinite(self.median_age)
        majority = np.full_like(classes, self.majority_bin)
        return ConstantScores(
            majority_bin_accuracy=bin_accuracy(classes, majority),
            majority_bin_off_by_one_accuracy=off_by_one_accuracy(classes, majority),
            median_age_mae=mae(known, np.full_like(known, self.median_age)) if has_ages else float("nan"),
            median_bin_mae=mae_bins(classes, np.full_like(classes, self.median_bin)),
        )
