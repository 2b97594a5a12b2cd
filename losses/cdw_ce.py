"""Class-distance weighted cross-entropy: probability costs the more, the farther it is from the label."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from .base import CallOptions, LossOptions, Option, OrdinalLoss
from .checks import Reduction, check_floating, check_positive_number, is_readable, is_recorded
from .class_values import class_values_like, pairwise_differences
from .closed_form import Gradient, over
from .cross_entropy import softmax_log_probs
from .elementary import exp_over, number, softmax, softmax_gradient
from .reduction import cast_like, full_precision, reduce_loss
from .registry import register
from .soft_labels import mix


def cdw_ce_loss(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 2.0,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Class-distance weighted cross-entropy.

    .. math:: \ell = -\sum_j |j - y|^\alpha \log(1 - p_j), \qquad p = \operatorname{softmax}(z)

    The weights grow with the number of classes: zero logits give 9 to 30 for 10 classes and 850 to 3,370 for 101 at
    ``alpha=2``. The paper found 5 to 7 best for four grades; for a hundred classes such an exponent leaves next to
    nothing for the near ones.

    Args:
        logits: ``(..., K)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        alpha: The exponent :math:`\alpha` of the distance.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: Polat, Ergenc, Kani, Alahdab, Temizel 2022 (arXiv:2202.05167), equation 2.

    Example:
        >>> cdw_ce_loss(torch.zeros(1, 3), torch.tensor([0]))  # (1 + 4) log(3 / 2)
        tensor(2.0273)
    """
    check_floating("logits", logits)
    return _loss(
        logits,
        target,
        _minus_distances(class_values_like(full_precision(logits), None, logits.shape[-1]), alpha),
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def _minus_distances(classes: Tensor, alpha: float) -> Tensor:
    """Return minus the weights ``(K, K)``: what each class (column) costs for the label (row)."""
    check_positive_number("alpha", alpha)
    return -(pairwise_differences(classes).abs() ** alpha)


def _loss(logits: Tensor, target: Tensor, minus_distances: Tensor, **options: Unpack[CallOptions]) -> Tensor:
    """Return the loss, given the table of :func:`_minus_distances`."""

    def hard(z: Tensor, y: Tensor) -> tuple[Tensor, Gradient]:
        minus_weights = cast_like(minus_distances, z).index_select(0, y)
        rough = None if is_recorded() else _unless_nearly_certain(z, y, minus_weights)
        return rough or _at_any_certainty(z, minus_weights)

    def soft(z: Tensor, q: Tensor) -> Tensor:
        return _at_any_certainty(z, mix(q, minus_distances))[0]

    return reduce_loss(hard, logits, target, num_classes=logits.shape[-1], soft=soft, closed_form=True, **options)


def _unless_nearly_certain(z: Tensor, y: Tensor, minus_weights: Tensor) -> tuple[Tensor, Gradient] | None:
    """Return the terms of the loss, ``(N, K)``, and its gradient; None unless they have nearly all digits.

    That is where looking is free and no class but the label has more than 0.99 of the probability: the formula as it
    stands loses two digits there at most, and takes a third of the operations.
    """
    if not is_readable(z):
        return None
    probs = softmax(z)
    minus_probs = (-probs).scatter_(-1, y.unsqueeze(-1), 0)  # the label costs nothing, however certain it is
    if not minus_probs.amin().item() >= -0.99:  # nor where it is not a number: that concerns one sample, not all
        return None

    def gradient() -> Tensor:
        slopes = minus_weights.div_(torch.sub(number(-1, z), minus_probs, out=minus_probs))  # dl/dp = w / (1 - p)
        return softmax_gradient(slopes, probs)

    return minus_probs.log1p().mul_(minus_weights), gradient


def _at_any_certainty(z: Tensor, minus_weights: Tensor) -> tuple[Tensor, Gradient]:
    """Return the weighted sum of -log(1 - p), ``(N,)``, and its gradient, given minus the weights, ``(N, K)``.

    They are overwritten. With their sign turned no pass over all numbers does nothing but turn a sign.
    """
    # 1 - p cancels for the one class that may be near certain. For that class it is the sum over the others, and those
    # are taken relative to the largest of them, so that the sum never vanishes.
    top = z.detach().argmax(-1, keepdim=True)
    below = torch.scatter(z, -1, top, -torch.inf)
    second = below.detach().amax(-1, keepdim=True)
    gap = second - z.gather(-1, top)
    below = exp_over(torch.sub(below, second, out=over(below)))
    mass = below.sum(-1, keepdim=True)
    ratio = gap.exp()
    odds = mass * ratio  # (1 - p) / p of the top class
    prob = 1 / (1 + odds)
    minus_share = -ratio * prob
    minus_probs = below * minus_share  # 0 for the top class
    rewards = minus_weights.gather(-1, top)
    logs = minus_probs.log1p()
    others = torch.mul(minus_weights, logs, out=over(logs)).sum(-1, keepdim=True)
    losses = torch.addcmul(others, rewards, gap + mass.log() - odds.log1p())

    def gradient() -> Tensor:
        # sum_i w_i / (1 - p_i) dp_i/dz_j = r_j - p_j sum_i r_i with r = w p / (1 - p), also for the top class.
        r = minus_weights.mul_(minus_probs).div_(minus_probs.add_(1))
        total = r.sum(-1, keepdim=True)
        pull = rewards * prob
        r.addcmul_(below, torch.addcmul(pull / mass, minus_share, total))
        return r.scatter_(-1, top, -(pull + prob * total))

    return losses.squeeze(-1), gradient


@register("cdw-ce")
class CdwCeLoss(OrdinalLoss):
    """Class-distance weighted cross-entropy as a module, see :func:`cdw_ce_loss`.

    Args:
        num_classes: Number of ordered classes K.
        alpha: The exponent of the distance.
        **options: See :class:`OrdinalLoss`.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> CdwCeLoss(num_classes=3)(torch.zeros(1, 3), torch.tensor([0]))
        tensor(2.0273)
    """

    summary = "probability costs the more, the farther it is from the label"
    source = "Polat et al. 2022 (arXiv:2202.05167)"
    paper_decoder = "mode"

    minus_distances: Option[Tensor] = Option()

    def __init__(self, num_classes: int, *, alpha: float = 2.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(num_classes, **options)
        table = _minus_distances(torch.arange(num_classes, dtype=torch.float64), alpha)
        self.register_option("minus_distances", table)
        self.alpha = alpha

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`cdw_ce_loss`."""
        return _loss(logits, target, self.minus_distances, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`softmax_log_probs`."""
        return softmax_log_probs(logits)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return f"{super().extra_repr()}, alpha={self.alpha}"
