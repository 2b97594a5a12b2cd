"""How long training goes on and at which learning rate: for so many epochs, or as long as a time limit allows."""

from __future__ import annotations

import math
import time

import timm.scheduler
import torch

__all__ = ["Schedule", "TimeLimit"]

FIRST_PLAN = 0.02  # share of a time limit after which the steps are planned for the first time
NEXT_PLAN = 0.05  # share after which they are planned anew
MIN_STEPS = 8  # steps to time before the first plan
LATE = 0.5  # share after which fewer steps have to do for it
UNTIMED = 3  # first steps that are not timed: libraries choose their kernels in them
VALIDATION_SHARE = 1 / 3  # of a training step's time that a forward pass takes, until a validation has been timed


class Schedule:
    """A linear warm-up, then a cosine to zero over the steps that are planned, by timm.

    Attributes:
        total: steps that are planned; ``None`` as long as a time limit has not been turned into steps.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, total: int | None, warmup: int) -> None:
        """Plan.

        Args:
            optimizer: its learning rates are the peaks.
            total: steps of the whole training, ``None`` if they are not known yet.
            warmup: steps of the warm-up; a fifth of ``total`` at most, since a short run must still reach its cosine.
        """
        self._optimizer, self._longest_warmup = optimizer, warmup
        self._done: int | None = None
        for group in optimizer.param_groups:  # timm reads the peaks from here whenever the steps are planned anew
            group.setdefault("initial_lr", group["lr"])
        self.plan(total)

    def plan(self, total: int | None) -> None:
        """Set the number of steps; the steps already done keep the place they have in the new plan."""
        self.total = total
        self._warmup = self._longest_warmup if total is None else min(self._longest_warmup, total // 5)
        self._cosine = timm.scheduler.CosineLRScheduler(
            self._optimizer,
            # counted from the end of the warm-up, and never quite zero
            t_initial=2**62 if total is None else total - self._warmup + 1,
            warmup_t=self._warmup,
            warmup_lr_init=0.0,
            warmup_prefix=True,
            t_in_epochs=False,
            initialize=False,
        )
        if self._done is not None:  # timm sets the rates of a first step
            self.before_step(self._done)

    def before_step(self, done: int) -> None:
        """Set the learning rates for the step after ``done`` steps."""
        self._done = done
        self._cosine.step_update(done if done >= self._warmup else done + 1)  # no step at a rate of zero

    def is_over(self, done: int) -> bool:
        """Return whether all steps are done."""
        return self.total is not None and done >= self.total


class TimeLimit:
    """Plans as many steps as fit into a time, again and again: whatever else the machine does, training ends in time.

    Args:
        seconds: that training and validation may take.
        epoch_steps: steps of an epoch, after each of which there is a validation.
        validation_share: samples that are validated by those that are trained on.
        most: steps that are not exceeded, however much time is left.
    """

    def __init__(self, seconds: float, epoch_steps: int, validation_share: float, most: int | None = None) -> None:
        """Start the clock."""
        self._seconds, self._epoch_steps, self._most = seconds, epoch_steps, most
        self._share = VALIDATION_SHARE * validation_share
        self._validation: float | None = None  # seconds of the last one
        self._step: float | None = None  # seconds of a step, by the last intervals
        self._before = 0.0  # seconds spent before this process
        self._validating = 0.0  # seconds of all validations of this process
        self._begun = time.perf_counter()
        self._planned_at: float | None = None  # seconds spent when the steps were planned last
        self._mark: tuple[float, int] | None = None  # training seconds and steps done at the start of the interval

    @property
    def spent(self) -> float:
        """Seconds that have been spent, those before a resumption included."""
        return self._before + time.perf_counter() - self._begun

    def resume(self, spent: float) -> None:
        """Count seconds that were spent by an earlier process."""
        self._before = spent

    def validated(self, seconds: float) -> None:
        """Take the time of a validation out of the time of the steps around it."""
        self._validation = seconds
        self._validating += seconds

    def due(self, done: int, first: int) -> bool:
        """Return whether it is time to plan, after ``done`` steps of which this process began with ``first``."""
        late = self.spent >= LATE * self._seconds
        if self._mark is None:
            if done - first < (1 if late else UNTIMED):
                return False
            self._mark = self._training(), done
        if self._planned_at is None:
            timed = done - self._mark[1]
            return (timed >= MIN_STEPS and self.spent >= FIRST_PLAN * self._seconds) or (late and timed > 0)
        return self.spent - self._planned_at >= NEXT_PLAN * self._seconds

    def plan(self, done: int) -> int:
        """Return how many steps there will be in all, after ``done`` steps; the device has to have done them."""
        assert self._mark is not None
        now = self._training()
        if done > self._mark[1]:
            step = (now - self._mark[0]) / (done - self._mark[1])
            # Half of it is what was known before: somebody's short burst of work may not bend the whole curve.
            self._step = step if self._step is None else (self._step + step) / 2
        self._mark, self._planned_at = (now, done), self.spent
        assert self._step is not None
        validation = self._step * self._epoch_steps * self._share if self._validation is None else self._validation
        # A validation ends every epoch, and one more the last one, which need not be whole.
        left = self._seconds - self.spent - validation
        total = done + max(0, math.floor(left / (self._step + validation / self._epoch_steps)))
        return total if self._most is None else min(total, self._most)

    def _training(self) -> float:
        return time.perf_counter() - self._begun - self._validating
