"""OR-CNN: ordinal regression by K - 1 independent binary tasks."""

from __future__ import annotations

from torch import Tensor

from .checks import Reduction, check_floating
from .registry import register
from .threshold import ThresholdLoss, threshold_log_probs, threshold_loss


def or_cnn_loss(
    logits: Tensor,
    target: Tensor,
    *,
    task_weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""OR-CNN loss: the weighted sum of the binary cross-entropies of "older than class k".

    .. math:: \ell = -\sum_{k=0}^{K-2} \lambda_k \bigl( 1[y > k] \log\sigma(z_k) + 1[y \le k] \log\sigma(-z_k) \bigr)

    That is the formula of CORAL; here each task has its own weight vector, so nothing keeps :math:`\sigma(z_k)` from
    rising in k. :func:`or_cnn_log_probs` makes a proper distribution of it all the same. Zero logits give
    :math:`(K - 1) \log 2`, 69.3 for 101 classes.

    Args:
        logits: ``(..., K - 1)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        task_weights: The weights :math:`\lambda` of the tasks, ``(K - 1,)``; ones without. The paper weighs a task by
            the square root of its samples' number. They do not enter the divisor of ``"mean"``.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: Niu, Zhou, Wang, Gao, Hua, CVPR 2016, equation 2.

    Example:
        >>> import torch
        >>> or_cnn_loss(torch.zeros(2, 100), torch.tensor([0, 100]))
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


or_cnn_log_probs = threshold_log_probs


@register("or-cnn")
class OrCnnLoss(ThresholdLoss):
    """OR-CNN as a module, see :func:`or_cnn_loss`.

    Args:
        num_classes: Number of ordered classes K.
        task_weights: Weights of the K - 1 binary tasks, ``(K - 1,)``.
        **options: See :class:`OrdinalLoss`.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> import torch
        >>> OrCnnLoss(num_classes=101)(torch.zeros(2, 100), torch.tensor([0, 100]))
        tensor(69.3147)
    """

    summary = 'K - 1 independent binary tasks "older than class k"'
    source = "Niu, Zhou, Wang, Gao, Hua, CVPR 2016"
