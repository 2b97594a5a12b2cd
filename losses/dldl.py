"""DLDL: the predicted distribution is to be a Gaussian around the label."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from .base import CallOptions, LossOptions, Option, OrdinalLoss
from .checks import Reduction, check_floating
from .class_values import check_class_values, class_values_like
from .closed_form import Gradient, constant
from .cross_entropy import softmax_log_probs
from .reduction import cast_like, reduce_loss
from .registry import register
from .soft_labels import cross_entropy_to, gaussian_labels, minus_entropy_of, mix


def dldl_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_values: Tensor | None = None,
    sigma: float = 2.0,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Deep label distribution learning: the Kullback-Leibler divergence from a Gaussian around the label.

    .. math:: \ell = \sum_k q_{yk} \log\frac{q_{yk}}{p_k}, \qquad
        q_{yk} \propto \exp\left(-\frac{(a_k - a_y)^2}{2 s^2}\right), \quad p = \operatorname{softmax}(z)

    It is 0 where :math:`p = q_y`. Zero logits at 101 classes of one year give 2.5 to 3.1.

    Args:
        logits: ``(..., K)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        class_values: The values :math:`a` of the classes, e.g. ages: ``(K,)``; 0 to K - 1 without.
        sigma: The standard deviation :math:`s` of the label, in the unit of the values.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: Gao, Xing, Xie, Wu, Geng 2017 (arXiv:1611.01731), with its standard deviation of 2 years.

    Example:
        >>> import torch
        >>> dldl_loss(gaussian_labels(range(5))[3].log(), torch.tensor(3)).abs() < 1e-12
        tensor(True)
    """
    check_floating("logits", logits)
    check_class_values(class_values, logits, logits.shape[-1])
    values = class_values_like(logits.double(), class_values, logits.shape[-1])
    soft_labels = gaussian_labels(values, sigma)
    return _loss(
        logits,
        target,
        -soft_labels,
        minus_entropy_of(soft_labels),
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def _loss(
    logits: Tensor, target: Tensor, minus_labels: Tensor, minus_entropy: Tensor, **options: Unpack[CallOptions]
) -> Tensor:
    """Return the divergence, given minus the label distributions, one a row, and their :func:`minus_entropy_of`."""

    def hard(z: Tensor, y: Tensor) -> tuple[Tensor, Gradient]:
        minus_q, own_terms = (cast_like(table, z).index_select(0, y) for table in (minus_labels, minus_entropy))
        return cross_entropy_to(minus_q, z, own_terms)

    def soft(z: Tensor, q: Tensor) -> Tensor:
        terms, _ = cross_entropy_to(mix(q, minus_labels), z)
        return (terms + q * cast_like(minus_entropy, z).sum(-1)).sum(-1)

    return reduce_loss(
        hard,
        logits,
        target,
        num_classes=logits.shape[-1],
        soft=soft,
        closed_form=constant(minus_labels),
        **options,
    )


@register("dldl")
class DldlLoss(OrdinalLoss):
    """DLDL as a module, see :func:`dldl_loss`.

    Args:
        num_classes: Number of ordered classes K.
        sigma: The standard deviation of the label, in the unit of the class values.
        **options: See :class:`OrdinalLoss`. The ``class_values`` are the values that the Gaussian is over.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> import torch
        >>> DldlLoss(num_classes=101)(torch.zeros(1, 101), torch.tensor([50]))
        tensor(2.5030)
    """

    summary = "Kullback-Leibler divergence from a Gaussian around the label"
    source = "Gao, Xing, Xie, Wu, Geng 2017 (arXiv:1611.01731)"
    paper_decoder = "mean"

    minus_labels: Option[Tensor] = Option()
    minus_entropy: Option[Tensor] = Option()

    def __init__(self, num_classes: int, *, sigma: float = 2.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(num_classes, **options)
        self.sigma = sigma
        soft_labels = gaussian_labels(self.class_values, sigma)
        self.register_option("minus_labels", -soft_labels)
        self.register_option("minus_entropy", minus_entropy_of(soft_labels))

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`dldl_loss`."""
        return _loss(logits, target, self.minus_labels, self.minus_entropy, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`softmax_log_probs`."""
        return softmax_log_probs(logits)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return f"{super().extra_repr()}, sigma={self.sigma}"
