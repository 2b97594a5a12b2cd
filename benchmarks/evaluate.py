"""How fast the evaluator is, and how much memory it takes beyond the predictions.

- everything: `evaluate` without the bootstrap, on years judged in tens, with groups, constants and calibration.
- bootstrap: intervals of the three headline figures.
- RPS: beside a loop over the samples.
"""

import resource
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from ordage.eval import (
    Calibration,
    ConstantBaselines,
    OrdinalScale,
    Predictions,
    bootstrap_means,
    evaluate,
    ranked_probability_scores,
)

CLASSES = 101


def make(samples: int) -> Predictions:
    """Distributions of years around the true age."""
    rng = np.random.default_rng(0)
    age = rng.integers(0, CLASSES, samples).astype(np.float64)
    log_probs = np.empty((samples, CLASSES), dtype=np.float32)
    years = np.arange(CLASSES, dtype=np.float32)
    for first in range(0, samples, 50_000):  # the making shall not need the memory that is measured
        rows = slice(first, first + 50_000)
        said = (age[rows] + rng.normal(size=len(age[rows])) * 6).astype(np.float32)
        block = -np.abs(years - said[:, np.newaxis]) / 4
        log_probs[rows] = block - np.log(np.exp(block).sum(axis=1, keepdims=True))
    ids = np.arange(samples).astype(np.str_)
    groups = {"gender": rng.integers(0, 2, samples)}
    return Predictions(ids, log_probs, OrdinalScale.years(0, CLASSES - 1), age, age.astype(np.int64), groups=groups)


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the shortest time of some rounds."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def loop(log_probs: np.ndarray, target: np.ndarray) -> list[float]:
    """Ranked probability scores, sample by sample."""
    steps = np.arange(log_probs.shape[1])
    return [
        float(((np.exp(row).cumsum() - (steps >= true)) ** 2).sum())
        for row, true in zip(log_probs, target, strict=True)
    ]


def main(
    samples: Annotated[int, typer.Option(help="Of the evaluation.")] = 1_000_000,
    resampled: Annotated[int, typer.Option(help="Samples of the bootstrap.")] = 100_000,
    rounds: Annotated[int, typer.Option(help="Of which the shortest counts.")] = 3,
) -> None:
    """Measure the evaluator."""
    said = make(samples)
    bins = OrdinalScale.tens(CLASSES - 1)
    constants = ConstantBaselines.fit(bins, age=said.age)
    calibration = Calibration.fit(said.select(np.arange(min(samples, 5000))))

    def everything() -> None:
        evaluate(said, bins=bins, baselines=constants, calibration=calibration, n_resamples=0)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    whole = seconds(everything, rounds)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024

    rng = np.random.default_rng(1)
    values = {name: rng.random(resampled) for name in ("bin_accuracy", "off_by_one_accuracy", "mae")}
    bootstrap = seconds(lambda: bootstrap_means(values, n_resamples=2000), rounds)

    few = min(samples, 100_000)
    log_probs, target = said.log_probs[:few], said.target[:few]
    vectorised = seconds(lambda: ranked_probability_scores(log_probs, target), rounds)
    looped = seconds(lambda: loop(log_probs[: few // 10], target[: few // 10]), rounds) * 10

    table = Table("what", "figure", "aim")
    table.add_row(f"everything but the bootstrap, {samples:,} × {CLASSES}", f"{whole:.1f} s", "15 s")
    table.add_row("  memory with the predictions ÷ theirs", f"{1 + more / said.log_probs.nbytes:.2f}", "3")
    table.add_row(f"2,000 resamples of three figures, {resampled:,} samples", f"{bootstrap:.1f} s", "10 s")
    table.add_row(f"RPS of {few:,} samples: loop ÷ ours", f"{looped / vectorised:.0f}", "10")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
