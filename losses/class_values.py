"""The values that stand for the classes, and how far they lie from each other."""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import check_tensor


def check_class_values(class_values: Tensor | None, logits: Tensor, num_classes: int) -> None:
    """Raise a ``ValueError`` unless there is one value a class on the device of ``logits``, or None.

    Example:
        >>> check_class_values(torch.zeros(3), torch.zeros(2, 4), num_classes=4)
        Traceback (most recent call last):
        ValueError: Expected `class_values` to be a tensor of shape (4,), but got a tensor of float32, shape (3,)
    """
    if class_values is not None:
        check_tensor("class_values", class_values, (num_classes,), logits.device)


def class_values_like(z: Tensor, class_values: Tensor | None, num_classes: int) -> Tensor:
    """Return the values ``(K,)``, 0 to K - 1 without, in the type and on the device of ``z``.

    Example:
        >>> class_values_like(torch.zeros(2, 3), None, 3)
        tensor([0., 1., 2.])
    """
    if class_values is None:
        return torch.arange(num_classes, dtype=z.dtype, device=z.device)
    return class_values.to(z.dtype)


def pairwise_differences(values: Tensor) -> Tensor:
    """Return ``(K, K)``: by how much the value of each class (column) is above that of each other one (row).

    Rows of this table, taken by label, cost less than the subtraction for each sample.

    Example:
        >>> pairwise_differences(torch.tensor([0.0, 1.0, 5.0]))[1]
        tensor([-1.,  0.,  4.])
    """
    return values - values.unsqueeze(-1)
