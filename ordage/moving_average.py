"""The moving average of a model's weights, which is judged and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import timm.utils
import torch
from torch import Tensor, nn

from .model import OrdinalModel

__all__ = ["MovingAverage"]

EVERY = 8  # steps: a move is a walk over all weights, which costs as much as a small net's optimiser


@dataclass(frozen=True)
class _Pairs:
    """The tensors of an average beside those of its model, and numbers that are counted beside theirs."""

    averages: list[Tensor]
    tensors: list[Tensor]
    counts: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, average: nn.Module, model: nn.Module) -> _Pairs:
        pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        return cls([pair[0] for pair in floating], [pair[1] for pair in floating], counts)


class MovingAverage:
    """timm's average with its warm-up, moved once for several steps.

    timm collects all tensors at every move, which takes longer than to move those of a small net; here they are kept.

    Attributes:
        model: the averaged copy.
    """

    def __init__(self, model: OrdinalModel, decay: float, steps: int) -> None:
        """Begin with a copy of the model.

        Args:
            model: what is trained.
            decay: of a step, once the warm-up is over.
            steps: of an epoch, at the end of which the average is never far behind.
        """
        self._latest = model
        self._timm = timm.utils.ModelEmaV3(model, decay=decay, use_warmup=True)
        self.model: OrdinalModel = self._timm.module
        self._every = max(1, min(EVERY, steps // 16))
        self._pairs: _Pairs | None = None

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move where it is time, ``updates`` steps having been made before the one just made."""
        if updates % self._every:
            return
        if self._pairs is None:
            self._pairs = _Pairs.of(self.model, self._latest)
        # The decay of all the steps since the last time, the warm-up of it included.
        decay = self._timm.get_decay(updates) ** self._every
        torch._foreach_lerp_(self._pairs.averages, self._pairs.tensors, 1 - decay)
        for count, latest in self._pairs.counts:
            count.copy_(latest)

    def forget_tensors(self) -> None:
        """Look the model's tensors up anew: something, as DistributedDataParallel does, puts them elsewhere."""
        self._pairs = None

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged tensors by name."""
        return self.model.state_dict()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take what `state_dict` returned."""
        self.model.load_state_dict(saved)
