"""Unimodal-concentrated loss: a distribution that rises to the label, falls behind it, and is as wide as its error."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from .base import CallOptions, LossOptions, Option, OrdinalLoss
from .binary import older_signs
from .checks import Reduction, check_floating, check_non_negative_number, check_positive_number
from .class_values import check_class_values, class_values_like, pairwise_differences
from .closed_form import Gradient, constant, over
from .cross_entropy import softmax_log_probs
from .elementary import number, softmax, softmax_gradient
from .reduction import cast_like, full_precision, reduce_loss
from .registry import register


def unimodal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_values: Tensor | None = None,
    unimodal_weight: float = 1000.0,
    min_variance: float | None = None,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Unimodal-concentrated loss.

    .. math:: \ell = \frac{1}{2} \log v + \frac{(m - a_y)^2}{2 v}
        + \lambda \Bigl( \sum_{k < y} (p_k - p_{k+1})_+ + \sum_{k \ge y} (p_{k+1} - p_k)_+ \Bigr)

    with :math:`p = \operatorname{softmax}(z)`, its mean m and variance v over the class values a. The first two terms
    are the negative log-likelihood of a Gaussian without its constant, so the width is learned; the last one adds up
    the steps in the wrong direction.

    The formula has no lower bound: one class with all the probability has :math:`v = 0`. Here v is the variance over
    the classes plus ``min_variance``. Its default, a twelfth of the squared mean distance between neighbouring classes,
    is the variance inside of a class.

    Args:
        logits: ``(..., K)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        class_values: The values :math:`a` of the classes, e.g. ages: ``(K,)``; 0 to K - 1 without.
        unimodal_weight: :math:`\lambda`.
        min_variance: What is added to the variance, in squared units of the class values.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: Li et al., CVPR 2022 (arXiv:2204.00309), equations 5 and 9, with its weight of 1000.

    Example:
        >>> unimodal_loss(torch.zeros(1, 3), torch.tensor([1]))  # log(2 / 3 + 1 / 12) / 2
        tensor(-0.1438)
    """
    check_floating("logits", logits)
    num_classes = logits.shape[-1]
    check_class_values(class_values, logits, num_classes)
    values = class_values_like(full_precision(logits), class_values, num_classes)
    return _loss(
        logits,
        target,
        pairwise_differences(values),
        _step_weights(num_classes, values, unimodal_weight),
        _floor(values, min_variance),
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def _loss(
    logits: Tensor,
    target: Tensor,
    differences: Tensor,
    step_weights: Tensor,
    floor: Tensor,
    **options: Unpack[CallOptions],
) -> Tensor:
    """Return the loss, given the differences between the class values, :func:`_step_weights`, and :func:`_floor`."""

    def hard(z: Tensor, y: Tensor) -> tuple[Tensor, Gradient]:
        deviations = cast_like(differences, z).index_select(0, y)
        probs = softmax(z)
        # Products and sums, not a matrix product: autocast and TF32 would round the values.
        products = probs * deviations
        bias = products.sum(-1, keepdim=True)
        from_mean = torch.sub(deviations, bias, out=over(deviations))
        products = torch.mul(probs, from_mean, out=over(products))
        products = torch.mul(products, from_mean, out=over(products))
        between = products.sum(-1, keepdim=True)
        variance = between + cast_like(floor, z)
        ratio = bias / variance
        size = ratio * bias

        # The weight is negative before the label: a step times it is positive in the wrong direction.
        turned = cast_like(step_weights, z).index_select(0, y)
        count = turned.shape[-1]
        steps = probs.narrow(-1, 1, count) - probs.narrow(-1, 0, count)
        wrong = torch.mul(steps, turned, out=over(steps))
        wrong = torch.clamp(wrong, min=0, out=over(wrong))
        detour = wrong.sum(-1, keepdim=True)

        def gradient() -> Tensor:
            # dl/dp less its expectation, which softmax does not see: for the Gaussian, then for both ends of each wrong
            # step.
            of_variance = (number(1, size) - size).div_(variance + variance)
            expected = torch.addcmul(detour, of_variance, between)
            slopes = torch.addcmul(ratio, from_mean, of_variance, out=products)
            slopes = torch.addcmul(expected.neg_(), from_mean, slopes, out=slopes)
            pull = turned.mul_(wrong.sign_())
            slopes.narrow(-1, 1, count).add_(pull)
            slopes.narrow(-1, 0, count).sub_(pull)
            return softmax_gradient(slopes, probs)

        return torch.add(detour, variance.log() + size, alpha=0.5), gradient

    def soft(z: Tensor, q: Tensor) -> Tensor:
        values = cast_like(differences[0], z)  # only differences matter
        probs = F.softmax(z, dim=-1)
        mean = (probs * values).sum(-1, keepdim=True)
        squared = (values - mean).square()
        variance = (probs * squared).sum(-1, keepdim=True) + cast_like(floor, z)
        gaussian = (q * (variance.log() + squared / variance) / 2).sum(-1)
        steps = probs.diff(dim=-1)
        # The step from k to k + 1 is before the labels above k and behind those up to k.
        above = q[..., 1:].flip(-1).cumsum(-1).flip(-1)
        up_to = q[..., :-1].cumsum(-1)
        wrong = above * (-steps).clamp(min=0) + up_to * steps.clamp(min=0)
        return gaussian + (wrong * cast_like(step_weights[0], z)).sum(-1)  # label 0 has every step behind it

    return reduce_loss(
        hard,
        logits,
        target,
        num_classes=logits.shape[-1],
        soft=soft,
        closed_form=constant(differences),
        **options,
    )


def _step_weights(num_classes: int, like: Tensor, unimodal_weight: float) -> Tensor:
    """Return ``(K, K - 1)``: the weight of each step (column), its sign turned before the label (row)."""
    check_non_negative_number("unimodal_weight", unimodal_weight)
    return older_signs(num_classes, like) * unimodal_weight


def _floor(values: Tensor, min_variance: float | None) -> Tensor:
    """Return what is added to the variance, given the class values ``(K,)``."""
    if min_variance is not None:
        check_positive_number("min_variance", min_variance)
        return torch.full_like(values[0], min_variance)
    return ((values[-1] - values[0]) / (len(values) - 1)).square() / 12


@register("unimodal")
class UnimodalLoss(OrdinalLoss):
    """Unimodal-concentrated loss as a module, see :func:`unimodal_loss`.

    Args:
        num_classes: Number of ordered classes K.
        unimodal_weight: Weight of the steps in the wrong direction.
        min_variance: What is added to the variance, in squared units of the class values.
        **options: See :class:`OrdinalLoss`. The ``class_values`` are the values whose mean and variance are meant.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> UnimodalLoss(num_classes=3)(torch.zeros(1, 3), torch.tensor([1]))  # log(2 / 3 + 1 / 12) / 2
        tensor(-0.1438)
    """

    summary = "Gaussian likelihood of mean and variance, and a penalty on steps away from the label"
    source = "Li et al., CVPR 2022 (arXiv:2204.00309)"
    paper_decoder = "mean"

    differences: Option[Tensor] = Option()
    step_weights: Option[Tensor] = Option()
    floor: Option[Tensor] = Option()

    def __init__(
        self,
        num_classes: int,
        *,
        unimodal_weight: float = 1000.0,
        min_variance: float | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, **options)
        self.register_option("floor", _floor(self.class_values, min_variance))
        self.register_option("differences", pairwise_differences(self.class_values))
        self.register_option("step_weights", _step_weights(num_classes, self.class_values, unimodal_weight))
        self.unimodal_weight = unimodal_weight
        self.min_variance = min_variance

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`unimodal_loss`."""
        return _loss(logits, target, self.differences, self.step_weights, self.floor, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`softmax_log_probs`."""
        return softmax_log_probs(logits)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        options = f"unimodal_weight={self.unimodal_weight}, min_variance={self.min_variance}"
        return f"{super().extra_repr()}, {options}"
