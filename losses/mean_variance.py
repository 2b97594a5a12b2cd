"""Mean-variance loss: cross-entropy, and a distribution whose mean is right and whose variance is small."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from .base import CallOptions, LossOptions, Option, OrdinalLoss
from .checks import Reduction, check_floating, check_non_negative_number
from .class_values import check_class_values, class_values_like, pairwise_differences
from .closed_form import Gradient, constant, over
from .cross_entropy import softmax_at, softmax_log_probs
from .elementary import number
from .reduction import cast_like, full_precision, reduce_loss
from .registry import register


def mean_variance_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_values: Tensor | None = None,
    mean_weight: float = 0.2,
    variance_weight: float = 0.05,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Mean-variance loss: cross-entropy, squared error of the mean, and variance.

    .. math:: \ell = -\log p_y + \frac{\lambda_1}{2} (m - a_y)^2 + \lambda_2 \sum_j p_j (a_j - m)^2,
        \qquad p = \operatorname{softmax}(z), \quad m = \sum_j p_j a_j

    The last two terms are in squared units of the class values: zero logits at 101 classes of one year give 4.6 of
    cross-entropy, 42.5 of variance, and 0 to 250 of the mean.

    Args:
        logits: ``(..., K)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        class_values: The values :math:`a` of the classes, e.g. ages: ``(K,)``; 0 to K - 1 without.
        mean_weight: :math:`\lambda_1`.
        variance_weight: :math:`\lambda_2`.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: Pan, Han, Shan, Chen, CVPR 2018, equations 2 to 5, and its weights.

    Example:
        >>> mean_variance_loss(torch.zeros(1, 3), torch.tensor([0]))  # log 3 + 0.1 * 1 + 0.05 * 2 / 3
        tensor(1.2319)
    """
    check_floating("logits", logits)
    num_classes = logits.shape[-1]
    check_class_values(class_values, logits, num_classes)
    values = class_values_like(full_precision(logits), class_values, num_classes)
    return _loss(
        logits,
        target,
        pairwise_differences(values),
        mean_weight,
        variance_weight,
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def _loss(
    logits: Tensor,
    target: Tensor,
    differences: Tensor,
    mean_weight: float,
    variance_weight: float,
    **options: Unpack[CallOptions],
) -> Tensor:
    """Return the loss, given the differences between the class values ``(K, K)``."""
    check_non_negative_number("mean_weight", mean_weight)
    check_non_negative_number("variance_weight", variance_weight)

    def hard(z: Tensor, y: Tensor) -> tuple[Tensor, Gradient]:
        # With the deviations d of the classes from the label and e = m - a_y the variance is E[d^2] - e^2: fewer passes
        # over (N, K) than the formula as it stands. Both terms are small near the label, so nothing cancels there.
        own = y.unsqueeze(-1)
        deviations = cast_like(differences, z).index_select(0, y)
        others, error, losses = softmax_at(z, own)
        # Products and sums, not a matrix product: autocast and TF32 would round the values.
        first = others * deviations
        # The penalty is E[d * slope] with slope = variance_weight * d + half.
        bias = first.sum(-1, keepdim=True)
        half = bias * number(mean_weight / 2 - variance_weight, bias)
        slope = torch.add(half, deviations, alpha=variance_weight, out=over(deviations))
        terms = torch.mul(first, slope, out=over(slope))
        penalty = terms.sum(-1, keepdim=True)

        def gradient() -> Tensor:
            # d/dz_j of it is p_j (g_j - E[g]) with g = d * (slope + half); g is zero at the label itself.
            products = terms.addcmul_(first, half)
            expected = torch.addcmul(penalty, half, bias)
            rest = number(1, expected) - expected
            at_label = torch.addcmul(expected, error, rest).neg_()
            return products.addcmul_(others, rest).scatter_(-1, own, at_label)

        return losses + penalty, gradient

    def soft(z: Tensor, q: Tensor) -> Tensor:
        values = cast_like(differences[0], z)  # only differences matter
        log_probs = F.log_softmax(z, dim=-1)
        probs = log_probs.exp()
        mean = (probs * values).sum(-1, keepdim=True)
        squared_error = (mean - values).square()
        variance = (probs * squared_error).sum(-1, keepdim=True)
        at_class = -log_probs + (mean_weight / 2) * squared_error + variance_weight * variance
        return (q * at_class).sum(-1)

    return reduce_loss(
        hard,
        logits,
        target,
        num_classes=logits.shape[-1],
        soft=soft,
        closed_form=constant(differences),
        **options,
    )


@register("mean-variance")
class MeanVarianceLoss(OrdinalLoss):
    """Mean-variance loss as a module, see :func:`mean_variance_loss`.

    Args:
        num_classes: Number of ordered classes K.
        mean_weight: Weight of the squared error of the mean (half of it, as in the paper).
        variance_weight: Weight of the variance.
        **options: See :class:`OrdinalLoss`. The ``class_values`` are the values whose mean and variance are meant.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> loss = MeanVarianceLoss(num_classes=3, class_values=[0, 10, 20])
        >>> loss(torch.zeros(1, 3), torch.tensor([1]))  # log 3 + 0.05 * 200 / 3
        tensor(4.4319)
    """

    summary = "cross-entropy, squared error of the mean, and variance of the distribution"
    source = "Pan, Han, Shan, Chen, CVPR 2018"
    paper_decoder = "mean"

    differences: Option[Tensor] = Option()

    def __init__(
        self,
        num_classes: int,
        *,
        mean_weight: float = 0.2,
        variance_weight: float = 0.05,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, **options)
        check_non_negative_number("mean_weight", mean_weight)
        check_non_negative_number("variance_weight", variance_weight)
        self.register_option("differences", pairwise_differences(self.class_values))
        self.mean_weight = mean_weight
        self.variance_weight = variance_weight

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`mean_variance_loss`."""
        return _loss(logits, target, self.differences, self.mean_weight, self.variance_weight, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`softmax_log_probs`."""
        return softmax_log_probs(logits)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return f"{super().extra_repr()}, mean_weight={self.mean_weight}, variance_weight={self.variance_weight}"
