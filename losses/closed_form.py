"""Losses that know their own derivative: one pass for the value and the gradient, three buffers instead of ten.

Most of what an ordinal loss costs on a CPU is not arithmetic but passes over ``(N, K)`` numbers and memory for each of
them. A formula that brings its gradient along needs about as many as cross-entropy does. Its value is plain code all
the same, for those who have to see through it: a compiler, ``torch.func``, and second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .checks import is_readable, is_recorded, is_transformed

Gradient = Callable[[], Tensor]
"""Returns a gradient, which may be overwritten. It runs at most once, where nothing is recorded, and may overwrite all
that the value left."""


def over(buffer: Tensor) -> Tensor | None:
    """Return what ``out=`` takes for an operation that may overwrite ``buffer``, an intermediate result of its own.

    That is the buffer where nothing is recorded, and None, a fresh tensor, where somebody looks on.

    Example:
        >>> numbers = torch.zeros(2)
        >>> with torch.no_grad():
        ...     torch.exp(numbers, out=over(numbers)) is numbers
        True
    """
    return None if is_recorded() else buffer


def constant(*options: Tensor | None) -> bool:
    """Return whether nobody asks for a derivative in these: the gradient that comes along is that of the logits alone.

    Example:
        >>> constant(None, torch.zeros(2)), constant(torch.zeros(2, requires_grad=True))
        (True, False)
    """
    return not any(option is not None and option.requires_grad for option in options)


def with_gradient(
    formula: Callable[[Tensor], tuple[Tensor, Gradient]],
    logits: Tensor,
    weight: Tensor | None = None,
    divisor: Tensor | float | None = None,
) -> Tensor:
    """Return the value of ``formula``, differentiable by the gradient that it brings along.

    Args:
        formula: ``(N, C)`` logits to a value and its gradient: a scalar and ``(N, C)``, or ``(N,)`` with one row of the
            gradient for each number. Where the value is recorded it has to be differentiable by itself. The gradient
            is overwritten: it has to be a tensor of its own, neither the logits nor a table.
        logits: ``(N, C)``.
        weight: What each row of the gradient that comes along has to be multiplied by, ``(N, 1)``.
        divisor: What all of that gradient has to be divided by.

    Returns:
        The value.

    Example:
        >>> logits = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> with_gradient(lambda z: (z.square().sum(), lambda: 2 * z), logits).backward()
        >>> logits.grad
        tensor([[2., 4.]])
    """
    if not (torch.is_grad_enabled() and logits.requires_grad) or is_transformed():
        # A compiler does the same better, and torch.func needs plain steps.
        return formula(logits)[0]
    value: Tensor = _WithGradient.apply(logits, formula, weight, divisor)
    return value


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        formula: Callable[[Tensor], tuple[Tensor, Gradient]],
        weight: Tensor | None,
        divisor: Tensor | float | None,
    ) -> Tensor:
        value, gradient = formula(logits)
        slopes = gradient()
        if weight is not None:
            slopes.mul_(weight if divisor is None else weight / divisor)
        elif divisor is not None:
            slopes.div_(divisor)
        ctx.formula = formula
        ctx.save_for_backward(logits, slopes)
        return value

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        logits, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: somebody differentiates the gradient
            value = ctx.formula(logits)[0]
            return torch.autograd.grad(value, logits, outer, create_graph=True)[0], None, None, None
        if outer.dim():
            return gradient * outer.unsqueeze(-1), None, None, None
        # As a rule backward() is called on the loss itself, once: then the gradient is handed on as it is. Where the
        # graph is kept it is needed again, and must not be shared with those who may change theirs.
        kept = torch._C._autograd._get_current_graph_task_keep_graph
        handed_on = is_readable(outer) and outer.item() == 1 and not kept()
        return gradient if handed_on else gradient * outer, None, None, None
