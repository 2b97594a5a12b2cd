"""All that a model says about a batch of images, as one network: what an exported file computes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name the whole field uses

from ordage.eval.metrics import HALF_TOLERANCE

if TYPE_CHECKING:
    from .predictor import Predictor
    from .transforms import ImageSpec

__all__ = ["OUTPUTS", "Answers", "Prepared", "can_resize"]

OUTPUTS = {
    "age": "(N,) the median of the distribution",
    "low": "(N,) the lowest age of the prediction interval",
    "high": "(N,) the highest age of the prediction interval; infinite where the last class is open",
    "bin_probabilities": "(N, B) the probability of each bin",
    "class_probabilities": "(N, K) the probability of each class",
}
RESIZED_BY = ("bilinear", "bicubic")


def can_resize(spec: ImageSpec) -> bool:
    """Return whether a network can prepare images of any size: not with margins, nor by Pillow's further filters."""
    return spec.fit != "pad" and spec.interpolation in RESIZED_BY


class Answers(nn.Module):
    """From pixels to all that a model says, as tensors: what an exported file computes.

    Args:
        predictor: the model, its scales and its calibration.
    """

    values: Tensor
    lows: Tensor
    highs: Tensor
    members: Tensor

    def __init__(self, predictor: Predictor) -> None:
        """Take the numbers that turn classes into ages."""
        super().__init__()
        self.model, self.criterion = predictor.model, predictor.criterion
        classes, bins, calibration = predictor.classes, predictor.bins, predictor.calibration
        self.temperature = None if calibration is None else calibration.temperature
        self.kind = None if calibration is None else calibration.intervals.kind
        self.threshold = math.nan if calibration is None else calibration.intervals.threshold
        ages = {"values": classes.values, "lows": classes.lows, "highs": classes.highs}
        for name, numbers in ages.items():
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float32), persistent=False)
        # A class is a row: 1 in the bin that it belongs to.
        members = torch.from_numpy(classes.coarsen(np.eye(len(classes), dtype=np.float32), bins))
        self.register_buffer("members", members, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return `OUTPUTS` of ``(N, C, H, W)`` pixels as large as the model sees them, 0 to 255."""
        log_probs = self.criterion.log_probs(self.model(pixels))
        probs = log_probs.double().exp()
        below = probs.cumsum(-1)
        # As `ordage.eval.metrics.median`: a cumulative probability within rounding of one half reaches it.
        middle = (below[:, :-1] < 0.5 * below[:, -1:] - HALF_TOLERANCE).sum(-1)
        first, last = self._interval(probs, middle)
        nothing = torch.full_like(self.values[first], math.nan)
        low, high = (nothing, nothing) if self.kind is None else (self.lows[first], self.highs[last])
        shown = log_probs if self.temperature is None else F.log_softmax(log_probs / self.temperature, -1)
        each = shown.exp()
        return self.values[middle], low, high, each @ self.members, each

    def _interval(self, probs: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first and the last class as `ordage.eval.ConformalIntervals` does."""
        classes = probs.shape[-1]
        if self.kind == "tail":
            needed = min(self.threshold, 0.5)
            probs = probs / probs.sum(-1, keepdim=True)
            below, above = probs.cumsum(-1), probs.flip(-1).cumsum(-1).flip(-1)
            first = (below[:, :-1] < needed).sum(-1)
            last = classes - 1 - (above[:, 1:] < needed).sum(-1)
            return first, torch.maximum(first, last)
        reach = int(min(-self.threshold, classes - 1)) if self.kind == "distance" else 0
        return (middle - reach).clamp(min=0), (middle + reach).clamp(max=classes - 1)


class Prepared(nn.Module):
    """The same of ``(N, H, W, C)`` uint8 images of any one shape, resized as `ImageSpec.fitted` does."""

    def __init__(self, answers: Answers, spec: ImageSpec) -> None:
        """Put the preparation before the answers."""
        super().__init__()
        self.answers, self.spec = answers, spec

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return `OUTPUTS`."""
        pixels = images.permute(0, 3, 1, 2)
        if can_resize(self.spec):
            pixels = _middle(pixels) if self.spec.fit == "crop" else pixels
            size = (self.spec.size, self.spec.size)
            pixels = F.interpolate(pixels, size, mode=self.spec.interpolation, antialias=True)
        answers: tuple[Tensor, ...] = self.answers(pixels)
        return answers


def _middle(images: Tensor) -> Tensor:
    """Return the largest square in the middle of ``(N, C, H, W)``, of sides that are known at run time alone."""
    height, width = images.shape[2:]
    side = torch.sym_min(height, width)
    place = torch.arange(side, device=images.device)
    # Not `narrow`: the program would then hold for images that are not square alone, as the one that is traced.
    rows, columns = place + (height - side) // 2, place + (width - side) // 2
    return images.index_select(2, rows).index_select(3, columns)
