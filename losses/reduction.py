"""Weights, ignored samples, soft targets and the reduction: what all losses share around their formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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
from .closed_form import Gradient, constant, with_gradient
from .elementary import number

FULL_PRECISION = (torch.float32, torch.float64)

PerSample = Callable[[Tensor, Tensor], Tensor]
"""``(N, C)`` logits of at least float32 and ``(N,)`` valid classes, or ``(N, K)`` class weights, to ``(N,)`` losses, or
to ``(N, ...)`` numbers that sum up to them, which a mean over the batch does in one go."""

PerSampleWithGradient = Callable[[Tensor, Tensor], tuple[Tensor, Gradient]]
"""The same, to the losses and what returns their gradients ``(N, C)``."""


class Batch(NamedTuple):
    """The arguments of a loss, checked, in full precision and flat.

    Attributes:
        logits: ``(N, C)``.
        target: Valid classes ``(N,)``, int64; under soft targets class weights ``(N, K)``, the class probabilities
            times the weights of the classes.
        weight: What each sample weighs ``(N,)``; None where all weigh 1. It is zero for ignored samples, and holds the
            weight of the class unless ``target`` does.
        measure: The soft targets ``(N, K)`` without any weight; None for classes.
    """

    logits: Tensor
    target: Tensor
    weight: Tensor | None
    measure: Tensor | None


def cast_like(table: Tensor, z: Tensor) -> Tensor:
    """Return ``table`` in the type of ``z``.

    Example:
        >>> cast_like(torch.zeros(2), torch.zeros(1, dtype=torch.float64)).dtype
        torch.float64
    """
    return table if table.dtype == z.dtype else table.to(z.dtype)  # the call alone takes a microsecond


def full_precision(values: Tensor) -> Tensor:
    """Return half-precision values as float32, others as they are.

    Example:
        >>> full_precision(torch.zeros(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return values if values.dtype in FULL_PRECISION else values.float()


def reduce_loss(
    hard: PerSample | PerSampleWithGradient,
    logits: Tensor,
    target: Tensor,
    *,
    num_classes: int,
    soft: PerSample | None = None,
    closed_form: bool = False,
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
        hard: ``(N, C)`` logits of at least float32 and ``(N,)`` valid classes to the losses, ``(N,)``, or ``(N, ...)``
            numbers that sum up to them. With ``closed_form=True`` a pair of these and what returns the gradients of the
            losses, ``(N, C)``, a tensor of their own, which is overwritten.
        logits: ``(..., C)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., num_classes)``.
        num_classes: Number of classes K.
        soft: ``(N, C)`` logits and ``(N, num_classes)`` non-negative class weights (a row need not sum to one) to
            ``(N,)`` weighted sums of the losses of all classes. Without it ``hard`` is evaluated at every class, which
            is right but takes ``num_classes`` times the memory.
        closed_form: Whether ``hard`` brings the gradients along, see :func:`with_gradient`.
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
    check_choice("reduction", reduction, REDUCTIONS)
    batch = as_batch(logits, target, num_classes, class_weights, sample_weight, ignore_index)
    divisor = _divisor(batch, num_classes, normalizer) if reduction == "mean" else None
    weight = batch.weight

    def reduced(losses: Tensor) -> Tensor:
        if weight is not None or reduction == "none":
            losses = _per_sample(losses)
            losses = losses if weight is None else losses * weight
        if reduction == "none":
            return losses
        return losses.sum() if divisor is None else losses.sum() / divisor

    def formula(z: Tensor) -> tuple[Tensor, Gradient]:
        losses, gradients = hard(z, batch.target)
        return reduced(losses), gradients

    if batch.measure is not None:
        value = reduced((soft or _at_every_class(hard))(batch.logits, batch.target))
    elif closed_form and constant(weight):
        value = with_gradient(formula, batch.logits, None if weight is None else weight.unsqueeze(-1), divisor)
    else:
        losses = hard(batch.logits, batch.target)
        value = reduced(losses[0] if isinstance(losses, tuple) else losses)
    return value.reshape(logits.shape[:-1]) if reduction == "none" else value


def as_batch(
    logits: Tensor,
    target: Tensor,
    num_classes: int,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
) -> Batch:
    """Check the arguments of a loss and bring them to one form, see :func:`reduce_loss`.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Example:
        >>> batch = as_batch(torch.zeros(2, 1, 3), torch.tensor([[2], [-100]]), num_classes=3)
        >>> batch.logits.shape, batch.target, batch.weight
        (torch.Size([2, 3]), tensor([2, 0]), tensor([1., 0.]))
    """
    # What is right and nothing unusual needs one look: on a small batch the checks cost as much as the arithmetic.
    usual = class_weights is None and sample_weight is None and _is_flat(logits, target)
    if usual and not check_classes(target, num_classes, ignore_index):
        return Batch(logits, target, None, None)
    check_floating("logits", logits)
    is_soft = check_target(target, logits, num_classes)
    leading = logits.shape[:-1]
    logits = full_precision(logits)
    flat = logits if logits.dim() == 2 else logits.reshape(-1, logits.shape[-1])
    if class_weights is not None:
        check_tensor("class_weights", class_weights, (num_classes,), logits.device)
        class_weights = class_weights.to(logits.dtype)
    weight: Tensor | None = None
    if sample_weight is not None:
        check_tensor("sample_weight", sample_weight, tuple(leading), logits.device)
        check_not_negative("sample_weight", sample_weight)
        weight = sample_weight.reshape(-1).to(logits.dtype)

    if is_soft:
        check_distribution(target)
        measure = target.reshape(-1, num_classes).to(logits.dtype)
        weighted = measure if class_weights is None else measure * class_weights
        return Batch(flat, weighted, weight, measure)

    classes = (target if target.dim() == 1 else target.reshape(-1)).long()
    if check_classes(classes, num_classes, ignore_index):
        valid = classes != ignore_index
        classes = torch.where(valid, classes, 0)
        weight = valid.to(logits.dtype) if weight is None else torch.where(valid, weight, 0)
    if class_weights is not None:
        own = class_weights.index_select(0, classes)
        weight = own if weight is None else weight * own
    return Batch(flat, classes, weight, None)


def _is_flat(logits: Tensor, target: Tensor) -> bool:
    """Return whether these are on a CPU, right, and already what a batch holds."""
    return (
        isinstance(logits, Tensor)
        and isinstance(target, Tensor)
        and logits.is_cpu
        and target.is_cpu
        and logits.dtype in FULL_PRECISION
        and target.dtype is torch.int64
        and logits.dim() == 2
        and target.dim() == 1
        and target.shape[0] == logits.shape[0] > 0
        and logits.shape[1] > 0
    )


def _divisor(batch: Batch, num_classes: int, normalizer: Callable[[Tensor], Tensor] | None) -> Tensor | float:
    """Return what a sum is divided by for the mean."""
    if normalizer is None and batch.weight is None:
        return number(batch.logits.shape[0], batch.logits)
    if normalizer is None:
        share = None
    elif batch.measure is None:
        share = normalizer(batch.target)
    else:
        share = (batch.measure * normalizer(torch.arange(num_classes, device=batch.logits.device))).sum(-1)
    if batch.weight is None:
        assert share is not None
        return share.sum(dtype=batch.logits.dtype)
    total = (batch.weight if share is None else share * batch.weight).sum()
    # A batch that weighs nothing has a zero numerator: any other divisor than zero is right.
    return torch.where(total > 0, total, 1)


def _per_sample(losses: Tensor) -> Tensor:
    """Return ``(N,)`` losses of :data:`PerSample`."""
    return losses if losses.dim() == 1 else losses.flatten(1).sum(-1)


def _at_every_class(hard: PerSample | PerSampleWithGradient) -> PerSample:
    """Return the weighted sum of the losses of all classes, one evaluation of ``hard`` on ``N * K`` rows."""

    def soft(logits: Tensor, weights: Tensor) -> Tensor:
        samples, num_classes = weights.shape
        rows = logits.repeat_interleave(num_classes, dim=0)
        classes = torch.arange(num_classes, device=logits.device).repeat(samples)
        losses = hard(rows, classes)
        losses = losses[0] if isinstance(losses, tuple) else losses
        return (_per_sample(losses).reshape(samples, num_classes) * weights).sum(-1)

    return soft
