"""CORAL: rank-consistent ordinal regression by K - 1 binary tasks that share one weight vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from .base import LossOptions
from .checks import Reduction, as_prior, check_floating
from .heads import OrderedHead, coral_head
from .registry import register
from .threshold import ThresholdLoss, threshold_log_probs, threshold_loss


def coral_loss(
    logits: Tensor,
    target: Tensor,
    *,
    task_weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""CORAL loss: the sum of the binary cross-entropies of "older than class k".

    .. math:: \ell = -\sum_{k=0}^{K-2} \lambda_k \bigl( 1[y > k] \log\sigma(z_k) + 1[y \le k] \log\sigma(-z_k) \bigr)

    Equals ``coral_pytorch.losses.coral_loss`` on the levels of the target, with ``task_weights`` for its
    ``importance_weights``. It sums over K - 1 tasks: zero logits give :math:`(K - 1) \log 2`, 69.3 for 101 classes.

    Args:
        logits: ``(..., K - 1)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        task_weights: The weights :math:`\lambda` of the tasks, ``(K - 1,)``; ones without. They do not enter the
            divisor of ``"mean"``.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: Cao, Mirjalili, Raschka 2020 (arXiv:1901.07884), equation 4.

    Example:
        >>> import torch
        >>> coral_loss(torch.zeros(2, 100), torch.tensor([0, 100]))
        tensor(69.3147)
    """
    check_floating("logits", logits)
    return threshold_loss(
        logits,
        target,
        task_weights,
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


coral_log_probs = threshold_log_probs


@register("coral")
class CoralLoss(ThresholdLoss):
    """CORAL as a module, see :func:`coral_loss`.

    Args:
        num_classes: Number of ordered classes K.
        task_weights: Weights of the K - 1 binary tasks, ``(K - 1,)``.
        monotone: Whether :meth:`make_head` orders the biases by construction (:class:`OrderedHead`, torch alone). The
            plain head, ``coral_pytorch.layers.CoralLayer``, orders them at the optimum only; :meth:`violations` tells.
        **options: See :class:`OrdinalLoss`.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> import torch
        >>> CoralLoss(num_classes=101)(torch.zeros(2, 100), torch.tensor([0, 100]))
        tensor(69.3147)
    """

    summary = 'K - 1 binary tasks "older than class k" that share one weight vector'
    source = "Cao, Mirjalili, Raschka 2020 (arXiv:1901.07884)"

    def __init__(
        self,
        num_classes: int,
        *,
        task_weights: Tensor | Sequence[float] | None = None,
        monotone: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, task_weights=task_weights, **options)
        self.monotone = monotone

    def make_head(self, in_features: int, *, prior: Tensor | Sequence[float] | None = None) -> nn.Module:
        """Return a fresh CORAL layer, or one with ordered biases if ``monotone``.

        Args:
            in_features: Number of features.
            prior: Class probabilities ``(K,)`` to start from, see :meth:`OrdinalLoss.make_head`.

        Raises:
            ValueError: if ``in_features`` is not an integer of at least 1, or ``prior`` is no distribution over K.
            ImportError: if the plain layer is asked for and ``coral-pytorch`` is not installed.
        """
        biases = None if prior is None else self.prior_logits(as_prior(prior, self.num_classes))
        make = OrderedHead if self.monotone else coral_head
        return make(in_features, self.num_classes, biases)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return f"{super().extra_repr()}, monotone={self.monotone}"
