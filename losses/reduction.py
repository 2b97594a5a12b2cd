"""Weights, ignored samples, soft targets and the reduction: what all losses share around their formula."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .checks import (
    REDUCTIONS,
    Reduction,
    check_choice,
    check_classes,
    check_distribution,
    check_floating,
    check_not_negative,
    check_target,
    check_tensor,
)


def full_precision(values: Tensor) -> Tensor:
    """Return half-precision values as float32, others as they are.

    Example:
        >>> full_precision(torch.zeros(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def reduce_loss(
    hard: Callable[[Tensor, Tensor], Tensor],
    logits: Tensor,
    target: Tensor,
    *,
    num_classes: int,
    soft: Callable[[Tensor, Tensor], Tensor] | None = None,
    normalizer: Callable[[Tensor], Tensor] | None = None,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Turn the formula of a loss into a loss with weights, ignored samples, soft targets and a reduction.

    With :math:`\ell_i` the loss of sample :math:`i`, :math:`s_i` its weight and :math:`w_{y_i}` that of its class,
    ``"none"`` gives :math:`w_{y_i} s_i \ell_i` (zero where ignored), ``"sum"`` their sum, and ``"mean"``

    .. math:: \frac{\sum_i w_{y_i} s_i \ell_i}{\sum_i w_{y_i} s_i n(y_i)}

    over the samples that are not ignored, where :math:`n` is 1 unless ``normalizer`` is given. Under soft targets
    :math:`q` the loss is the expectation :math:`\sum_j w_j q_{ij} \ell(z_i, j)` and ``"mean"`` divides by
    :math:`\sum_i s_i \sum_j q_{ij} n(j)`; both are what :func:`torch.nn.functional.cross_entropy` does. A batch that
    weighs nothing (all ignored) has the loss 0 and the gradient 0.

    Args:
        hard: ``(N, C)`` logits of at least float32 and ``(N,)`` valid classes to ``(N,)`` losses.
        logits: ``(..., C)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., num_classes)``.
        num_classes: Number of classes K.
        soft: ``(N, C)`` logits and ``(N, num_classes)`` non-negative class weights (a row need not sum to one) to
            ``(N,)`` weighted sums of the losses of all classes. Without it ``hard`` is evaluated at every class, which
            is right but takes ``num_classes`` times the memory.
        normalizer: Classes to what each adds to the divisor of ``"mean"``.
        class_weights: ``(num_classes,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Example:
        >>> squared = lambda logits, classes: (logits[:, 0] - classes) ** 2
        >>> reduce_loss(squared, torch.tensor([[1.0], [5.0]]), torch.tensor([0, 2]), num_classes=3)
        tensor(5.)
    """
    check_floating("logits", logits)
    check_choice("reduction", reduction, REDUCTIONS)
    is_soft = check_target(target, logits, num_classes)
    leading = logits.shape[:-1]
    logits = full_precision(logits)
    flat = logits if logits.dim() == 2 else logits.reshape(-1, logits.shape[-1])
    if class_weights is not None:
        check_tensor("class_weights", class_weights, (num_classes,), logits.device)
        class_weights = class_weights.to(logits.dtype)
    weight: Tensor | None = None
    share: Tensor | None = None
    if sample_weight is not None:
        check_tensor("sample_weight", sample_weight, tuple(leading), logits.device)
        check_not_negative("sample_weight", sample_weight)
        weight = sample_weight.reshape(-1).to(logits.dtype)

    if is_soft:
        check_distribution(target)
        measure = target.reshape(-1, num_classes).to(logits.dtype)
        weighted = measure if class_weights is None else measure * class_weights
        losses = _at_every_class(hard, flat, weighted) if soft is None else soft(flat, weighted)
        if normalizer is not None:
            share = (measure * normalizer(torch.arange(num_classes, device=logits.device))).sum(-1)
    else:
        classes = (target if target.dim() == 1 else target.reshape(-1)).long()
        if check_classes(classes, num_classes, ignore_index):
            valid = classes != ignore_index
            classes = torch.where(valid, classes, 0)
            weight = valid.to(logits.dtype) if weight is None else torch.where(valid, weight, 0)
        if class_weights is not None:
            own = class_weights.index_select(0, classes)
            weight = own if weight is None else weight * own
        losses = hard(flat, classes)
        if normalizer is not None:
            share = normalizer(classes)

    if weight is not None:
        losses = losses * weight
        share = weight if share is None else share * weight
    if reduction == "none":
        return losses.reshape(leading)
    if reduction == "sum":
        return losses.sum()
    if share is None:
        return losses.mean()
    total = share.sum()
    if weight is not None:
        # A batch that weighs nothing has a zero numerator: any other divisor than zero is right.
        total = torch.where(total > 0, total, 1)
    return losses.sum() / total


def _at_every_class(hard: Callable[[Tensor, Tensor], Tensor], logits: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the losses of all classes, one evaluation of ``hard`` on ``N * K`` rows."""
    samples, num_classes = weights.shape
    rows = logits.repeat_interleave(num_classes, dim=0)
    classes = torch.arange(num_classes, device=logits.device).repeat(samples)
    return (hard(rows, classes).reshape(samples, num_classes) * weights).sum(-1)
