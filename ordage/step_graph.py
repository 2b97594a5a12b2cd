"""A step of training as one CUDA graph.

A small net's step is some hundred kernels of a few microseconds, and to call them one by one takes the host several
times as long as the device needs for them. Recorded once, they are started by a single call.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["StepGraph", "fits_a_graph", "waits_for_the_device"]


def waits_for_the_device(work: Callable[[], object]) -> bool:
    """Do some work, and return whether the host waited for the device in it; such work cannot be recorded.

    To try it and fail is no way to find out: a recording that breaks off leaves torch's allocator and streams unusable.
    """
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            torch.cuda.set_sync_debug_mode("warn")
            work()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    return any("called a synchronizing" in str(warning.message) for warning in told)


def fits_a_graph(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimiser can step inside a graph: nothing that changes from step to step is a number in it."""
    return all(group.get("capturable", False) for group in optimizer.param_groups)


class StepGraph:
    """A step, recorded, to be replayed on other images.

    What a step draws comes from the device's generator as it is seeded at each replay; learning rates are those that
    the optimiser's groups have then. Everything else, such as which parameters learn, or a number that a loss counts up
    in Python, is as it was recorded.

    Args:
        step: from ``(B, C, H, W)`` images and ``(B,)`` target to the loss; recorded, not carried out. It has run
            before, a few times, so that libraries have chosen their kernels.
        images: of the size, type and memory format that all later ones have.
        target: likewise.
        optimizer: of which ``step`` makes a step, if it does.
    """

    def __init__(
        self, step: Callable[[Tensor, Tensor], Tensor], images: Tensor, target: Tensor, optimizer: torch.optim.Optimizer
    ) -> None:
        """Record the step.

        Raises:
            RuntimeError: memory runs out.
        """
        device = images.device
        self._images, self._target = images.clone(), target.clone()
        groups: list[dict[str, Any]] = optimizer.param_groups
        # Groups of one rate share a tensor: to fill one takes as long as to start the whole graph.
        self._alike: dict[tuple[float, float], list[dict[str, Any]]] = defaultdict(list)
        for group in groups:
            self._alike[group["lr"], group.get("lr_scale", 1.0)].append(group)
        self._rates = [torch.zeros((), device=device) for _ in self._alike]
        self._graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        rates = [group["lr"] for group in groups]
        try:
            for alike, rate in zip(self._alike.values(), self._rates, strict=True):
                for group in alike:
                    group["lr"] = rate
            # A stream of its own, since torch's for this belongs to whichever device was first; the current one is
            # restored whatever happens. What other threads do meanwhile, such as fetching images, is no part of it.
            with (
                torch.cuda.stream(torch.cuda.current_stream(device)),
                torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"),
            ):
                self._loss = step(self._images, self._target)
        finally:
            for group, value in zip(groups, rates, strict=True):
                group["lr"] = value

    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        """Make the step on a batch; return the loss, which the next call overwrites."""
        self._images.copy_(images)
        self._target.copy_(target)
        for alike, rate in zip(self._alike.values(), self._rates, strict=True):
            rate.fill_(alike[0]["lr"])
        self._graph.replay()
        return self._loss
