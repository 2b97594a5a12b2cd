"""Softmax cross-entropy: the baseline that knows no order."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from .base import CallOptions, OrdinalLoss
from .checks import Reduction, check_floating, is_recorded
from .closed_form import Gradient, over
from .elementary import exp_over, log_softmax, softplus
from .reduction import full_precision, reduce_loss
from .registry import register


def softmax_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Softmax cross-entropy.

    .. math:: \ell = -\log p_y, \qquad p = \operatorname{softmax}(z)

    Zero logits give :math:`\log K`: 4.6 for 101 classes.

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

    Example:
        >>> import torch
        >>> softmax_loss(torch.zeros(2, 101), torch.tensor([0, 100]))
        tensor(4.6151)
    """

    def hard(z: Tensor, y: Tensor) -> tuple[Tensor, Gradient]:
        own = y.unsqueeze(-1)
        others, error, losses = softmax_at(z, own)
        return losses, lambda: others.scatter_(-1, own, error.neg_())

    def soft(z: Tensor, q: Tensor) -> Tensor:
        return F.cross_entropy(z, q, reduction="none")

    check_floating("logits", logits)
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


def softmax_log_probs(logits: Tensor) -> Tensor:
    r"""Class log-probabilities of a head with one logit a class, :math:`\log\operatorname{softmax}(z)`.

    Args:
        logits: ``(..., K)``.

    Returns:
        ``(..., K)`` in float32 or wider; each row's exponentials sum to one.

    Raises:
        ValueError: if ``logits`` is not a floating-point tensor of shape ``(..., K)``.

    Example:
        >>> import torch
        >>> softmax_log_probs(torch.zeros(4)).exp()
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    check_floating("logits", logits)
    return F.log_softmax(full_precision(logits), dim=-1)


def softmax_at(z: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Softmax with all digits at the class that is right.

    A confident right answer has :math:`-\log p_y \approx 1 - p_y`, far below the rounding of :math:`p_y`. So both are
    taken from the sum over the other classes, :math:`-\log p_y = \operatorname{softplus}(\log(1 - p_y) - \log p_y)`.

    Args:
        z: ``(N, K)``.
        own: The classes, ``(N, 1)``.

    Returns:
        The probabilities of the other classes, ``(N, K)``, zero at ``own``, which the caller may overwrite;
        :math:`1 - p_y`, ``(N, 1)``; and :math:`-\log p_y`, ``(N, 1)``.

    Example:
        >>> softmax_at(torch.tensor([[30.0, 0.0]]), torch.tensor([[0]]))
        (tensor([[0.0000e+00, 9.3576e-14]]), tensor([[9.3576e-14]]), tensor([[9.3576e-14]]))
    """
    log_probs = log_softmax(z)
    mine = log_probs.gather(-1, own)
    others = exp_over(log_probs)
    others = torch.scatter(others, -1, own, 0, out=over(others))
    error = others.sum(-1, keepdim=True)
    # The logarithm of 0 is right, but its derivative is not a number.
    held = error.clamp(min=torch.finfo(z.dtype).tiny) if is_recorded() else error
    return others, error, softplus(held.log() - mine)


@register("softmax")
class SoftmaxLoss(OrdinalLoss):
    """Softmax cross-entropy as a module, see :func:`softmax_loss` and, for the options, :class:`OrdinalLoss`.

    Example:
        >>> import torch
        >>> SoftmaxLoss(num_classes=101)(torch.zeros(2, 101), torch.tensor([0, 100]))
        tensor(4.6151)
    """

    summary = "cross-entropy over the classes, blind to their order: the baseline"
    source = "multinomial logistic regression"
    paper_decoder = "mode"

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`softmax_loss`."""
        return softmax_loss(logits, target, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`softmax_log_probs`."""
        return softmax_log_probs(logits)
