"""From class log-probabilities to one class, one value, or a range of classes.

The decoders do not ask which loss made the distribution: each takes ``log_probs`` of shape ``(..., K)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from .checks import as_vector, check_floating
from .reduction import full_precision


def mode(log_probs: Tensor) -> Tensor:
    r"""Most probable class, :math:`\arg\max_k P(y = k)`; the lowest of several.

    Args:
        log_probs: ``(..., K)``.

    Returns:
        Classes ``(...)``, int64.

    Raises:
        ValueError: if ``log_probs`` is not a floating-point tensor of shape ``(..., K)``.

    Example:
        >>> mode(torch.tensor([0.2, 0.5, 0.3]).log())
        tensor(1)
    """
    check_floating("log_probs", log_probs)
    return log_probs.argmax(-1)


def median(log_probs: Tensor) -> Tensor:
    r"""Median class: the smallest class k with :math:`P(y \le k) \ge 1/2`.

    That is the number of classes k with :math:`P(y > k) > 1/2`, the rule by which CORAL (Cao et al. 2020, section
    3.2) and CORN (Shi et al. 2021, section 3.3) read a class.

    Args:
        log_probs: ``(..., K)``.

    Returns:
        Classes ``(...)``, int64.

    Raises:
        ValueError: if ``log_probs`` is not a floating-point tensor of shape ``(..., K)``.

    Example:
        >>> median(torch.tensor([0.4, 0.2, 0.4]).log())
        tensor(1)
    """
    return quantile(log_probs, 0.5)


def mean(log_probs: Tensor, class_values: Tensor | Sequence[float]) -> Tensor:
    r"""Expected value :math:`\sum_k P(y = k)\, a_k`.

    Args:
        log_probs: ``(..., K)``.
        class_values: The representative values :math:`a`, ``(K,)``.

    Returns:
        Values ``(...)`` in the unit of ``class_values``.

    Raises:
        ValueError: if ``log_probs`` is not a floating-point tensor of shape ``(..., K)`` or there is not one value a
            class.

    Example:
        >>> mean(torch.tensor([0.5, 0.0, 0.5]).log(), [10.0, 20.0, 40.0])
        tensor(25.)
    """
    check_floating("log_probs", log_probs)
    probs = full_precision(log_probs).exp()
    values = as_vector("class_values", class_values, log_probs.shape[-1])
    # Not a matrix product: autocast and TF32 would round the values.
    return (probs * values.to(probs)).sum(-1)


def quantile(log_probs: Tensor, q: float) -> Tensor:
    r"""Smallest class k with :math:`P(y \le k) \ge q`.

    A cumulative probability within rounding of ``q`` (8 machine epsilons) counts as reaching it.

    Args:
        log_probs: ``(..., K)``.
        q: A probability, strictly between 0 and 1.

    Returns:
        Classes ``(...)``, int64.

    Raises:
        ValueError: if ``log_probs`` is not a floating-point tensor of shape ``(..., K)`` or ``q`` not such a number.

    Example:
        >>> quantile(torch.tensor([0.1, 0.2, 0.3, 0.4]).log(), 0.9)
        tensor(3)
    """
    check_floating("log_probs", log_probs)
    _check_probability("q", q)
    cumulative = full_precision(log_probs).exp().cumsum(-1)
    # The last class needs no look: rounding may leave its cumulative probability below q.
    return (cumulative[..., :-1] < q - _rounding(cumulative)).sum(-1)


def interval(log_probs: Tensor, mass: float) -> tuple[Tensor, Tensor]:
    """Shortest run of neighbouring classes that holds at least ``mass``; the most probable of several, then the lowest.

    A probability within rounding of ``mass`` (8 machine epsilons) counts as reaching it.

    Args:
        log_probs: ``(..., K)``.
        mass: A probability, strictly between 0 and 1.

    Returns:
        The first and the last class of the run, both ``(...)``, int64.

    Raises:
        ValueError: if ``log_probs`` is not a floating-point tensor of shape ``(..., K)`` or ``mass`` not such a number.

    Example:
        >>> interval(torch.tensor([0.1, 0.3, 0.5, 0.1]).log(), 0.8)
        (tensor(1), tensor(2))
    """
    check_floating("log_probs", log_probs)
    _check_probability("mass", mass)
    cumulative = full_precision(log_probs).exp().cumsum(-1)
    size = cumulative.shape[-1]
    below = F.pad(cumulative[..., :-1], (1, 0))
    first = torch.arange(size, device=cumulative.device)
    last = torch.searchsorted(cumulative.contiguous(), below + (mass - _rounding(cumulative)))
    # The run from class 0 holds everything but for rounding; no other run that falls short may win.
    last = torch.where(first == 0, last.clamp(max=size - 1), last)
    length = torch.where(last < size, last - first, size)
    held = cumulative.gather(-1, last.clamp(max=size - 1)) - below
    shortest = length == length.amin(-1, keepdim=True)
    low = torch.where(shortest, held, -1).argmax(-1)
    return low, last.gather(-1, low.unsqueeze(-1)).squeeze(-1)


def _check_probability(argument: str, value: float) -> None:
    if not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ValueError(f"Expected `{argument}` to be a number strictly between 0 and 1, but got {value!r}")


def _rounding(values: Tensor) -> float:
    return 8 * torch.finfo(values.dtype).eps
