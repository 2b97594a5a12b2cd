"""The same figures for parts of the samples: by gender, by decade of age, by whatever column there is."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bootstrap import Interval, Resampled, quantile_interval

SMALL = 30  # samples below which a group's figures are marked, and its error does not make a gap
MOST_GROUPS = 50  # a column of more is no column of groups but of numbers or names


@dataclass(frozen=True)
class GroupRow:
    """The figures of one group.

    Args:
        name: The group.
        n: Number of its samples.
        small: Whether these are so few that the figures say little.
        bin_accuracy: By the mode.
        off_by_one_accuracy: By the median.
        mae: By the median, in the unit of the errors.
        bias: Mean of prediction less truth, by the median, in the unit of the errors; below 0 is too young.
    """

    name: str
    n: int
    small: bool
    bin_accuracy: Interval
    off_by_one_accuracy: Interval
    mae: Interval
    bias: Interval


@dataclass(frozen=True)
class Gap:
    """How far the errors of the groups are apart.

    Args:
        worst: The group with the largest MAE, small groups aside.
        best: The one with the smallest.
        difference: Between the two MAEs.
        low: Lower end of the confidence interval of the difference between these two.
        high: Upper end of it.
        p_value: How often groups of one and the same error would be as far apart by chance. The two are chosen for
            being apart, which their interval does not know, and this does.
    """

    worst: str
    best: str
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class GroupTable:
    """The groups of one column and the gap between them; None where fewer than two groups are large enough."""

    rows: tuple[GroupRow, ...]
    gap: Gap | None


def decades(age: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """The decade of each age, such as "20-29"; empty for an age that is NaN.

    Args:
        age: ``(N,)`` in years.

    Example:
        >>> decades([3, 29.5, 101, float("nan")]).tolist()
        ['0-9', '20-29', '100-109', '']
    """
    ages = np.asarray(age, dtype=np.float64)
    starts = np.floor(np.where(np.isnan(ages), 0, ages) / 10).astype(np.int64) * 10
    return np.where(np.isnan(ages), "", [f"{start}-{start + 9}" for start in starts])


@dataclass(frozen=True, eq=False)
class Group:
    """The samples of one group, resampled."""

    name: str
    n: int
    resampled: Resampled

    @property
    def small(self) -> bool:
        """Whether the samples are so few that their figures say little."""
        return self.n < SMALL


def resample_groups(
    column: npt.ArrayLike,
    statistics: Mapping[str, npt.NDArray[np.float64]],
    *,
    cluster: npt.NDArray[np.int64] | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> list[Group]:
    """Resample the samples of each group by themselves.

    Args:
        column: ``(N,)`` the groups; samples of none (an empty text, NaN) are left out.
        statistics: ``(N,)`` each, as `bootstrap_means` takes them.
        cluster: ``(N,)`` what belongs together, such as the subject.
        n_resamples: Number of resamples.
        seed: The same seed gives the same resamples.

    Returns:
        Groups that begin with a number in its order, before the others in alphabetical order; none at all where there
        are fewer than two groups or more than 50.
    """
    groups = _members(column)
    if not 2 <= len(groups) <= MOST_GROUPS:
        return []
    return [
        Group(
            name,
            len(members),
            Resampled.of(
                {statistic: of_all[members] for statistic, of_all in statistics.items()},
                cluster=None if cluster is None else cluster[members],
                n_resamples=n_resamples,
                seed=seed + place,  # independent of the other groups'
            ),
        )
        for place, (name, members) in enumerate(groups.items())
    ]


def group_table(groups: list[Group], confidence: float) -> GroupTable:
    """Figures, their intervals, and the gap between the groups that are large enough.

    Where one person is in several groups, as in several decades, the gap looks less certain than it is, not more.

    Args:
        groups: With the statistics of `GroupRow`: ``bin_accuracy``, ``off_by_one_accuracy``, ``mae``, ``bias``.
        confidence: Confidence of the intervals.
    """
    rows = [GroupRow(group.name, group.n, group.small, **group.resampled.intervals(confidence)) for group in groups]
    errors = {
        row: group.resampled.draws[:, group.resampled.names.index("mae")]
        for row, group in zip(rows, groups, strict=True)
        if not row.small and math.isfinite(row.mae.value)
    }
    return GroupTable(tuple(rows), _gap(errors, confidence) if len(errors) > 1 else None)


def _members(column: npt.ArrayLike) -> dict[str, npt.NDArray[np.int64]]:
    values = np.asarray(column)
    present, codes = np.unique(values, return_inverse=True)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    named = {_write(value): rows for value, rows in zip(present.tolist(), members, strict=True)}
    return {name: named[name] for name in sorted(named, key=_rank) if name}


def _write(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return str(value)


def _rank(name: str) -> tuple[float, str]:
    number = re.match(r"-?[0-9]+(\.[0-9]+)?", name)
    return (float(number[0]) if number else math.inf, name)


def _gap(errors: Mapping[GroupRow, npt.NDArray[np.float64]], confidence: float) -> Gap:
    ordered = sorted(errors, key=lambda row: row.mae.value)
    best, worst = ordered[0], ordered[-1]
    difference = worst.mae.value - best.mae.value
    low, high = quantile_interval(errors[worst] - errors[best], confidence)
    # Were all groups alike, their means would be apart by what resampling moves each away from its own.
    moved = np.stack([drawn - row.mae.value for row, drawn in errors.items()])
    by_chance = moved.max(axis=0) - moved.min(axis=0)
    p_value = (1 + np.count_nonzero(by_chance >= difference)) / (1 + len(by_chance)) if by_chance.size else math.nan
    return Gap(worst.name, best.name, difference, low, high, float(p_value))
