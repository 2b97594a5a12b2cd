"""Squared earth mover's distance: the cumulative distribution is to be a step at the label."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from .base import CallOptions, OrdinalLoss
from .checks import Reduction, check_floating
from .closed_form import Gradient, over
from .cross_entropy import softmax_log_probs
from .elementary import softmax, softmax_gradient
from .reduction import reduce_loss
from .registry import register


def emd_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Squared earth mover's distance between the softmax and the label, which is the ranked probability score.

    .. math:: \ell = \sum_k \bigl( P(y \le k) - 1[y \le k] \bigr)^2, \qquad
        P(y \le k) = \sum_{j \le k} \operatorname{softmax}(z)_j

    It is at most K - 1, and bounded: a confident wrong answer has almost no gradient. Zero logits at 101 classes
    give 8 to 33.

    Args:
        logits: ``(..., K)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: Hou, Yu, Samaras 2016 (arXiv:1611.05916), equation 4, for a distance of 1 between neighbouring classes.

    Example:
        >>> emd_loss(torch.zeros(1, 3), torch.tensor([0]))  # (1/3 - 1)^2 + (2/3 - 1)^2
        tensor(0.5556)
    """
    check_floating("logits", logits)

    def hard(z: Tensor, y: Tensor) -> tuple[Tensor, Gradient]:
        own = y.unsqueeze(-1)
        # At the label p - 1 is minus the sum of the others, not one minus a number near one. So the differences are the
        # mass before k, and minus the mass behind it.
        probs = softmax(z)
        at_label = probs.gather(-1, own)
        others = torch.scatter(probs, -1, own, 0, out=over(probs))
        missing = torch.scatter(others, -1, own, -others.sum(-1, keepdim=True), out=over(others))
        differences = missing.cumsum(-1)
        squares = differences.square()
        losses = squares.sum(-1, keepdim=True)

        def gradient() -> Tensor:
            # dl/dp_j = 2 sum_{k >= j} D_k, less its expectation, which is its value at the label and 2 sum_k D_k^2.
            before = torch.cumsum(differences, -1, out=squares).sub_(differences)
            center = before.gather(-1, own).sub_(losses)
            slopes = torch.sub(center.add_(center), before, alpha=2, out=before)
            return softmax_gradient(slopes, missing.scatter_(-1, own, at_label))

        return losses, gradient

    def soft(z: Tensor, q: Tensor) -> Tensor:
        probs = F.softmax(z, dim=-1)
        up_to, above = probs[..., :-1].cumsum(-1), probs[..., 1:].flip(-1).cumsum(-1).flip(-1)
        weight_up_to, weight_above = q[..., :-1].cumsum(-1), q[..., 1:].flip(-1).cumsum(-1).flip(-1)
        return (weight_up_to * above.square() + weight_above * up_to.square()).sum(-1)

    return reduce_loss(
        hard,
        logits,
        target,
        num_classes=logits.shape[-1],
        soft=soft,
        closed_form=True,
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


@register("emd")
class EmdLoss(OrdinalLoss):
    """Squared earth mover's distance as a module, see :func:`emd_loss` and, for the options, :class:`OrdinalLoss`.

    Example:
        >>> EmdLoss(num_classes=3)(torch.zeros(1, 3), torch.tensor([0]))
        tensor(0.5556)
    """

    summary = "squared distance between the cumulative distribution and a step at the label"
    source = "Hou, Yu, Samaras 2016 (arXiv:1611.05916)"
    paper_decoder = "mode"

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`emd_loss`."""
        return emd_loss(logits, target, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`softmax_log_probs`."""
        return softmax_log_probs(logits)
