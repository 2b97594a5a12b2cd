"""`--lr find`: a learning rate by a range test (Smith, "Cyclical learning rates for training neural networks")."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from accelerate import Accelerator

from .errors import NonFiniteError
from .learner import Learner
from .model import Plan

if TYPE_CHECKING:
    from .config import RunConfig
    from .data.dataset import Dataset
    from .progress import Reporter

__all__ = ["find_lr", "suggest_lr"]

LOWEST, HIGHEST = 1e-5, 1.0  # learning rates that are tried
STEPS = 100  # over which the rate rises from the lowest to the highest
SMOOTHING = 0.9  # of the losses, each of which is that of one batch
DIVERGED = 2.0  # times the lowest smoothed loss at which nothing is to be learned from higher rates
BELOW = 10.0  # times less than the rate at which the loss stops to fall


def find_lr(config: RunConfig, plan: Plan, dataset: Dataset, accelerator: Accelerator, reporter: Reporter) -> float:
    """Return a peak learning rate for a run: train a model of its own for 100 steps at a rate that rises.

    Raises:
        NonFiniteError: the loss is not finite at the lowest rate.
    """
    learner = Learner(dataclasses.replace(config, lr=HIGHEST), plan, dataset, accelerator, config.weights)
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)
    shares = [group.get("lr_scale", 1.0) for group in learner.optimizer.param_groups]  # of layer decay
    losses: list[float] = []
    epoch, pieces = config.freeze or 0, 1
    learner.begin_epoch(epoch)
    learner.join()
    with reporter.bar("looking for a learning rate", STEPS) as bar:
        while len(losses) < STEPS:
            for batch in learner.epoch_batches(epoch):
                for group, share in zip(learner.optimizer.param_groups, shares, strict=True):
                    group["lr"] = float(rates[len(losses)]) * share
                loss, pieces = learner.step(batch, len(losses), pieces)
                losses.append(float(accelerator.reduce(loss, "mean")))
                bar.advance()
                if len(losses) == STEPS or has_diverged(losses):
                    return suggest_lr(rates[: len(losses)].tolist(), losses)
            epoch += 1
    raise AssertionError("unreachable")


def smooth(losses: Sequence[float]) -> list[float]:
    """Return the exponential moving average of losses, corrected for its start."""
    average, smoothed = 0.0, []
    for step, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - SMOOTHING**step))
    return smoothed


def has_diverged(losses: Sequence[float]) -> bool:
    """Return whether the last loss shows that the rate is too high."""
    if not math.isfinite(losses[-1]):
        return True
    smoothed = smooth(losses)
    return smoothed[-1] > DIVERGED * min(smoothed)


def suggest_lr(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return a tenth of the rate at which the smoothed loss was lowest, with two digits.

    Args:
        rates: rising.
        losses: of a batch at each of them.

    Raises:
        NonFiniteError: not even the first loss is finite.

    Example:
        >>> suggest_lr([0.001, 0.01, 0.1, 1.0], [4.0, 3.0, 1.0, 50.0])
        0.01
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite:
        raise NonFiniteError(f"--lr find: the loss is {losses[0]} at a rate of {rates[0]:g} already")
    lowest = int(np.argmin(smooth(finite)))
    return float(f"{rates[lowest] / BELOW:.1e}")
