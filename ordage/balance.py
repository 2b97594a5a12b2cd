"""Rare ages: how much a sample of each class counts in the loss, and how often it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .data.dataset import Dataset

__all__ = ["class_shares", "class_weights", "draw_epoch"]


def class_weights(kind: str, dataset: Dataset) -> Tensor:
    """Return a weight for each class ``(K,)``, from the share of its bin in the training part.

    ``balanced`` is N / (B n_b); ``effective`` is (1 - beta) / (1 - beta^n_b) with beta = 0.999 (Cui et al., CVPR
    2019). Both average to one over the training samples. Bins, not years, are counted: a year that few have would get
    a weight that one image decides.
    """
    to_bin = dataset.classes.mapping_to(dataset.bins)
    train = to_bin[dataset.target[dataset.index("train")]]
    counts = np.bincount(train, minlength=len(dataset.bins)).astype(float)
    seen = np.maximum(counts, 1)
    rarity = {"balanced": 1 / seen, "effective": (1 - 0.999) / (1 - 0.999**seen)}[kind]
    weights = np.where(counts > 0, rarity, 0.0)
    weights *= counts.sum() / (weights * counts).sum()
    return torch.tensor(weights[to_bin], dtype=torch.float32)


def class_shares(dataset: Dataset, *weights: Tensor | None) -> Tensor:
    """Return the shares of the classes in the training part ``(K,)``, as if each had been seen once more.

    Args:
        dataset: the data.
        *weights: ``(K,)`` how much a sample of each class counts; several multiply, ``None`` leaves them as they are.
    """
    counts = torch.from_numpy(dataset.target[dataset.index("train")]).bincount(minlength=len(dataset.classes)) + 1.0
    for weight in weights:
        if weight is not None:
            counts = counts * weight.clamp(min=1e-3)  # a bin without training samples weighs 0 but needs a share
    return counts / counts.sum()


def draw_epoch(size: int, count: int, weights: Tensor | None, generator: torch.Generator) -> Tensor:
    """Return which of ``size`` samples an epoch takes, in which order ``(count,)``.

    Args:
        size: samples in the training part.
        count: samples in an epoch, at most ``size``.
        weights: ``(size,)`` how often each is drawn, with replacement; ``None`` takes each once at most.
        generator: on the CPU.
    """
    if weights is None:
        return torch.randperm(size, generator=generator)[:count]
    # Not torch.multinomial, which refuses more than 2^24 samples.
    edges = weights.double().cumsum(0)
    draws = torch.rand(count, generator=generator, dtype=torch.float64) * edges[-1]
    return torch.searchsorted(edges, draws, right=True).clamp_(max=size - 1)
