"""DLDL-v2: a Gaussian around the label, and a mean that is right."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from .base import CallOptions, LossOptions, Option, OrdinalLoss
from .checks import Reduction, check_floating, check_non_negative_number
from .class_values import check_class_values, class_values_like, pairwise_differences
from .closed_form import Gradient, constant, over
from .cross_entropy import softmax_log_probs
from .elementary import exp_over, log_softmax, number
from .reduction import cast_like, reduce_loss
from .registry import register
from .soft_labels import cross_entropy_to, gaussian_labels, minus_entropy_of, mix


def dldl_v2_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_values: Tensor | None = None,
    sigma: float = 2.0,
    mean_weight: float = 1.0,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""DLDL-v2: the divergence from a Gaussian around the label, and the absolute error of the mean.

    .. math:: \ell = \sum_k q_{yk} \log\frac{q_{yk}}{p_k} + \lambda\, |m - a_y|, \qquad
        q_{yk} \propto \exp\left(-\frac{(a_k - a_y)^2}{2 s^2}\right), \quad
        p = \operatorname{softmax}(z), \quad m = \sum_k p_k a_k

    The last term is in the unit of the class values: zero logits at 101 classes of one year give 2.5 to 3.1 of
    divergence and 0 to 50 of the mean.

    Args:
        logits: ``(..., K)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        class_values: The values :math:`a` of the classes, e.g. ages: ``(K,)``; 0 to K - 1 without.
        sigma: The standard deviation :math:`s` of the label, in the unit of the values.
        mean_weight: :math:`\lambda`.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: Gao, Zhou, Wu, Geng, IJCAI 2018, equations 4 to 9, with its weight of 1.

    Example:
        >>> dldl_v2_loss(torch.zeros(2, 101), torch.tensor([50, 0]), reduction="none")
        tensor([ 2.5030, 53.0975])
    """
    check_floating("logits", logits)
    check_class_values(class_values, logits, logits.shape[-1])
    values = class_values_like(logits.double(), class_values, logits.shape[-1])
    soft_labels = gaussian_labels(values, sigma)
    return _loss(
        logits,
        target,
        _scaled_differences(values, mean_weight),
        -soft_labels,
        minus_entropy_of(soft_labels),
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def _loss(
    logits: Tensor,
    target: Tensor,
    scaled: Tensor,
    minus_labels: Tensor,
    minus_entropy: Tensor,
    **options: Unpack[CallOptions],
) -> Tensor:
    """Return the loss, given :func:`_scaled_differences`, and minus the labels with their :func:`minus_entropy_of`."""

    def hard(z: Tensor, y: Tensor) -> tuple[Tensor, Gradient]:
        tables = (minus_labels, minus_entropy, scaled)
        minus_q, own_terms, deviations = (cast_like(table, z).index_select(0, y) for table in tables)
        log_probs = log_softmax(z)
        divergence = torch.addcmul(own_terms, minus_q, log_probs, out=over(own_terms)).sum(-1, keepdim=True)
        probs = exp_over(log_probs)
        # Products and sums, not a matrix product: autocast and TF32 would round the values.
        first = torch.mul(probs, deviations, out=over(deviations))
        bias = first.sum(-1, keepdim=True)
        size = bias.abs()

        def gradient() -> Tensor:
            # d|m - a_y|/dz_j = sign(m - a_y) p_j (d_j - (m - a_y)) with the deviations d of the classes from the label;
            # here d and m - a_y are times lambda.
            return first.mul_(bias.sign_()).addcmul_(probs, number(1, size) - size).add_(minus_q)

        return divergence + size, gradient

    def soft(z: Tensor, q: Tensor) -> Tensor:
        values = cast_like(scaled[0], z)  # only differences matter
        terms, _ = cross_entropy_to(mix(q, minus_labels), z)
        mean = (F.softmax(z, dim=-1) * values).sum(-1, keepdim=True)
        return (terms + q * ((mean - values).abs() + cast_like(minus_entropy, z).sum(-1))).sum(-1)

    return reduce_loss(
        hard,
        logits,
        target,
        num_classes=logits.shape[-1],
        soft=soft,
        closed_form=constant(scaled, minus_labels),
        **options,
    )


def _scaled_differences(class_values: Tensor, mean_weight: float) -> Tensor:
    """Return ``(K, K)``: what the distance of each class (column) from the label (row) costs, with its direction."""
    check_non_negative_number("mean_weight", mean_weight)
    return pairwise_differences(class_values) * mean_weight


@register("dldl-v2")
class DldlV2Loss(OrdinalLoss):
    """DLDL-v2 as a module, see :func:`dldl_v2_loss`.

    Args:
        num_classes: Number of ordered classes K.
        sigma: The standard deviation of the label, in the unit of the class values.
        mean_weight: Weight of the absolute error of the mean.
        **options: See :class:`OrdinalLoss`. The ``class_values`` are what the Gaussian and the mean are over.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> DldlV2Loss(num_classes=101)(torch.zeros(1, 101), torch.tensor([0]))
        tensor(53.0975)
    """

    summary = "divergence from a Gaussian around the label, and absolute error of the mean"
    source = "Gao, Zhou, Wu, Geng, IJCAI 2018"
    paper_decoder = "mean"

    scaled: Option[Tensor] = Option()
    minus_labels: Option[Tensor] = Option()
    minus_entropy: Option[Tensor] = Option()

    def __init__(
        self, num_classes: int, *, sigma: float = 2.0, mean_weight: float = 1.0, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(num_classes, **options)
        self.sigma = sigma
        self.mean_weight = mean_weight
        soft_labels = gaussian_labels(self.class_values, sigma)
        self.register_option("scaled", _scaled_differences(self.class_values, mean_weight))
        self.register_option("minus_labels", -soft_labels)
        self.register_option("minus_entropy", minus_entropy_of(soft_labels))

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`dldl_v2_loss`."""
        return _loss(logits, target, self.scaled, self.minus_labels, self.minus_entropy, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`softmax_log_probs`."""
        return softmax_log_probs(logits)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return f"{super().extra_repr()}, sigma={self.sigma}, mean_weight={self.mean_weight}"
