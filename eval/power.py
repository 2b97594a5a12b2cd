"""How many samples or seeds it would take to see a difference of the size that was found."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy.typing as npt

from .bootstrap import cluster_totals
from .significance import numbered, paired_errors, share_of_seeds

POWER = 0.8  # chance with which a difference shall be seen


@dataclass(frozen=True)
class Effort:
    """What it would take to see a difference with 95 % confidence in four of five repetitions.

    Args:
        samples: Test samples, with as many seeds as there are; None where no number of samples would do.
        seeds: Seeds, on as many test samples as there are; None where no number of seeds would do, or a single seed
            does not tell how much they differ.
        n: Samples there are.
        n_seeds: Seeds there are.
    """

    samples: int | None
    seeds: int | None
    n: int
    n_seeds: int

    @property
    def ways(self) -> tuple[str, ...]:
        """In a few words each, to two digits."""
        images = () if self.samples is None else (f"{_rounded(self.samples):,} images",)
        return (*images, *(() if self.seeds is None else (_count(_rounded(self.seeds)),)))

    def __str__(self) -> str:
        """One sentence."""
        ways = []
        if self.samples is not None:
            ways.append(f"about {_rounded(self.samples):,} test images with {_count(self.n_seeds)}")
        if self.seeds is not None:
            ways.append(f"about {_count(_rounded(self.seeds))} on these {self.n:,} images")
        if not ways:
            return "Neither more test images alone nor more seeds alone would show a difference of this size."
        return f"It would take {' or '.join(ways)} to see a difference of this size reliably."


def effort_to_see(
    errors_a: npt.ArrayLike,
    errors_b: npt.ArrayLike,
    cluster: npt.ArrayLike | None = None,
    *,
    confidence: float = 0.95,
) -> Effort:
    """How many samples or seeds would show a true difference as large as the one found.

    The variance of a mean difference is taken as one part that falls with the number of samples, or clusters, and one
    that falls with the number of seeds; both are estimated as `paired_bootstrap` does. A two-sided normal test sees a
    difference with a chance of 80 % once its standard error is a (z(1 - a/2) + z(0.8))-th of it, a 2.8th for
    a = 0.05. An observed difference is itself uncertain, so the answer is an order of magnitude.

    Args:
        errors_a: ``(S, N)`` errors of method a by seed and sample, or ``(N,)``.
        errors_b: The same of method b.
        cluster: ``(N,)`` what belongs together, such as the subject.
        confidence: Of the test.

    Raises:
        ValueError: The shapes differ, an error is not finite, or there are fewer than two samples or clusters.

    Example:
        >>> import numpy as np
        >>> a, b = np.tile([1.0, -1.0], 500), np.full(1000, -0.05)
        >>> effort_to_see(a, b).samples
        3143
    """
    differences = paired_errors(errors_a, errors_b)
    seeds, n = differences.shape
    codes, sizes = numbered(cluster, n)
    clusters = len(sizes)
    difference = float(differences.mean())
    totals = cluster_totals(differences.mean(axis=0, keepdims=True), codes)[0]
    of_samples = float(((totals - sizes * difference) ** 2).sum()) / n**2 * clusters / (clusters - 1)
    of_seeds = 0.0
    if seeds > 1:
        per_seed = differences.mean(axis=1) * share_of_seeds(differences, codes)
        of_seeds = float(per_seed.var(ddof=1)) / seeds
    normal = NormalDist()
    allowed = (difference / (normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(POWER))) ** 2
    return Effort(
        samples=_needed(n, of_samples, allowed - of_seeds),
        seeds=_needed(seeds, of_seeds, allowed - of_samples) if seeds > 1 else None,
        n=n,
        n_seeds=seeds,
    )


def _needed(have: int, variance: float, allowed: float) -> int | None:
    return math.ceil(have * variance / allowed) if allowed > 0 and variance > 0 else None


def _rounded(number: int) -> int:
    """Two digits: it is an order of magnitude."""
    return number if number < 100 else round(number, 2 - len(str(number)))


def _count(seeds: int) -> str:
    return f"{seeds} seed" + ("" if seeds == 1 else "s")
