"""Several methods on several data sets or folds: ranks, and which of them differ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bootstrap import check_confidence

FEWEST = 5  # data sets or folds below which ranks say nothing


@dataclass(frozen=True)
class Ranking:
    """Methods by their mean rank; 1 is the best.

    Args:
        names: The methods, the best first.
        mean_ranks: Mean over data sets or folds, in the same order; ties share their ranks.
        p_value: Of Friedman's test that all methods are alike.
        critical_difference: Two methods whose mean ranks are further apart than this differ (Nemenyi).
        groups: Runs of neighbours that do not differ, as first and last position; only runs that no other one holds.
        n: Number of data sets or folds.
    """

    names: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    p_value: float
    critical_difference: float
    groups: tuple[tuple[int, int], ...]
    n: int


def rank_methods(scores: npt.ArrayLike, names: Sequence[str], *, confidence: float = 0.95) -> Ranking:
    """Rank methods by an error that each made on the same data sets or folds.

    Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets" (2006).

    Args:
        scores: ``(D, M)`` error of each of M methods on each of D data sets or folds; smaller is better.
        names: ``(M,)``.
        confidence: Of the critical difference.

    Raises:
        ValueError: There are fewer than 3 methods or than 5 data sets, the names do not fit, or a score is not finite.

    Example:
        >>> found = rank_methods([[3, 1, 2], [3, 1, 2], [3, 2, 1], [3, 1, 2], [3, 1, 2], [3, 1, 2]], ["a", "b", "c"])
        >>> found.names, found.groups
        (('b', 'c', 'a'), ((0, 1), (1, 2)))
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    check_confidence(confidence)
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] < 3 or len(array) < FEWEST:
        raise ValueError(
            f"Expected `scores` of shape (D, M) with D >= {FEWEST} data sets and M >= 3 methods, but got {array.shape}."
        )
    if len(names) != array.shape[1]:
        raise ValueError(f"Expected one of `names` for each of {array.shape[1]} methods, but got {len(names)}.")
    if not np.isfinite(array).all():
        raise ValueError("Expected `scores` to be finite.")
    n, methods = array.shape
    ranks = rankdata(array, axis=1).mean(axis=0)
    order = np.argsort(ranks, kind="stable")
    alike = bool((array == array[:, :1]).all())  # of which scipy makes NaN
    span = float(studentized_range.ppf(confidence, methods, math.inf)) / math.sqrt(2)
    critical = span * math.sqrt(methods * (methods + 1) / (6 * n))
    ordered = ranks[order]
    return Ranking(
        names=tuple(names[place] for place in order),
        mean_ranks=tuple(ordered.tolist()),
        p_value=1.0 if alike else float(friedmanchisquare(*array.T).pvalue),
        critical_difference=critical,
        groups=_runs(ordered, critical),
        n=n,
    )


def _runs(ranks: npt.NDArray[np.float64], critical: float) -> tuple[tuple[int, int], ...]:
    runs: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = int(np.searchsorted(ranks, rank + critical, side="right")) - 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return tuple(runs)
