"""SORD: cross-entropy to a label that falls off with the distance between classes."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from .base import CallOptions, LossOptions, Option, OrdinalLoss
from .checks import Reduction, check_floating
from .class_values import check_class_values, class_values_like
from .cross_entropy import softmax_log_probs
from .registry import register
from .soft_labels import Distance, soft_label_loss, soft_label_loss_of, sord_labels


def sord_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_values: Tensor | None = None,
    distance: Distance = "absolute",
    scale: float = 1.0,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""SORD: cross-entropy to the softmax of minus the distance from the label.

    .. math:: \ell = -\sum_k q_{yk} \log p_k, \qquad q_y = \operatorname{softmax}_k(-\phi(a_k, a_y)),
        \quad p = \operatorname{softmax}(z)

    with :math:`\phi(a, b) = s |a - b|` or :math:`s (a - b)^2`. Its least value is the entropy of :math:`q_y`; zero
    logits give :math:`\log K`, 4.6 for 101 classes.

    Args:
        logits: ``(..., K)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        class_values: The values :math:`a` of the classes, e.g. ages: ``(K,)``; 0 to K - 1 without.
        distance: ``"absolute"`` or ``"squared"``.
        scale: The factor :math:`s`; a higher one is more peaked.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: Díaz, Marathe, CVPR 2019, equations 1 and 2.

    Example:
        >>> import torch
        >>> sord_loss(torch.zeros(2, 101), torch.tensor([0, 100]))
        tensor(4.6151)
    """
    check_floating("logits", logits)
    check_class_values(class_values, logits, logits.shape[-1])
    values = class_values_like(logits.double(), class_values, logits.shape[-1])
    return soft_label_loss(
        logits,
        target,
        sord_labels(values, distance, scale),
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


@register("sord")
class SordLoss(OrdinalLoss):
    """SORD as a module, see :func:`sord_loss`.

    Args:
        num_classes: Number of ordered classes K.
        distance: ``"absolute"`` or ``"squared"``.
        scale: The factor of the distance; a higher one is more peaked.
        **options: See :class:`OrdinalLoss`. The ``class_values`` are what the distance is between.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> import torch
        >>> SordLoss(num_classes=101)(torch.zeros(2, 101), torch.tensor([0, 100]))
        tensor(4.6151)
    """

    summary = "cross-entropy to a label that falls off with the distance from the class"
    source = "Díaz, Marathe, CVPR 2019"
    paper_decoder = "mode"

    minus_labels: Option[Tensor] = Option()

    def __init__(
        self,
        num_classes: int,
        *,
        distance: Distance = "absolute",
        scale: float = 1.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, **options)
        self.distance = distance
        self.scale = scale
        self.register_option("minus_labels", -sord_labels(self.class_values, distance, scale))

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`sord_loss`."""
        return soft_label_loss_of(logits, target, self.minus_labels, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`softmax_log_probs`."""
        return softmax_log_probs(logits)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return f"{super().extra_repr()}, distance={self.distance!r}, scale={self.scale}"
