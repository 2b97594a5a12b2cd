"""CORAL: rank-consistent ordinal regression by K - 1 binary tasks that share one weight vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from .base import CallOptions, LossOptions, OrdinalLoss
from .binary import log_sigmoid, softplus, sum_tasks
from .checks import Reduction, as_prior, as_weights, check_floating, check_tensor, check_width
from .heads import OrderedHead, coral_head
from .reduction import full_precision, reduce_loss
from .registry import register


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
        >>> coral_loss(torch.zeros(2, 100), torch.tensor([0, 100]))
        tensor(69.3147)
    """
    check_floating("logits", logits)
    if task_weights is not None:
        check_tensor("task_weights", task_weights, (logits.shape[-1],), logits.device)

    def hard(z: Tensor, y: Tensor) -> Tensor:
        # One softplus of the logit, with its sign turned where the answer is yes. The usual form of "no",
        # logsigmoid(z) - z, cancels: its gradient is zero for a confident right answer.
        thresholds = torch.arange(0.5, z.shape[-1], dtype=z.dtype, device=z.device)
        sign = (thresholds - y.to(z.dtype).unsqueeze(-1)).sign_()
        return sum_tasks(softplus(z * sign), task_weights)

    def soft(z: Tensor, q: Tensor) -> Tensor:
        # Both sums are cumulated, none is taken as one minus the other: small probabilities keep their digits.
        older = q[..., 1:].flip(-1).cumsum(-1).flip(-1)
        not_older = q[..., :-1].cumsum(-1)
        return sum_tasks(older * softplus(-z) + not_older * softplus(z), task_weights)

    return reduce_loss(
        hard,
        logits,
        target,
        num_classes=logits.shape[-1] + 1,
        soft=soft,
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def coral_log_probs(logits: Tensor) -> Tensor:
    r"""Class log-probabilities from the logits of "older than class k".

    .. math:: \log P(y = k) = \log\bigl(\sigma(z_{k-1}) - \sigma(z_k)\bigr),
        \qquad \sigma(z_{-1}) = 1, \quad \sigma(z_{K-1}) = 0

    computed in log space. The plain CORAL head orders its biases at the optimum only. Where :math:`\sigma(z_k)`
    increases in k, the logits are sorted first: the distribution is proper, and the number of
    :math:`\sigma(z_k) > 1/2`, the class by the paper's rule, stays as it is. Equal logits give the class between them
    probability 0, its logarithm :math:`-\infty` and the gradient 0.

    Args:
        logits: ``(..., K - 1)``.

    Returns:
        ``(..., K)`` in float32 or wider; each row's exponentials sum to one.

    Raises:
        ValueError: if ``logits`` is not a floating-point tensor of shape ``(..., K - 1)``.

    Source: Cao, Mirjalili, Raschka 2020 (arXiv:1901.07884), section 3; sorting is the rearrangement of Chernozhukov,
    Fernández-Val, Galichon 2010 (arXiv:0704.3649).

    Example:
        >>> coral_log_probs(torch.tensor([0.75, 0.25]).logit()).exp()
        tensor([0.2500, 0.5000, 0.2500])
    """
    check_floating("logits", logits)
    z = full_precision(logits).sort(dim=-1, descending=True).values
    older, not_older = log_sigmoid(z), log_sigmoid(-z)
    # sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a))
    between = older[..., :-1] + not_older[..., 1:] + _log1mexp(z[..., 1:] - z[..., :-1])
    return torch.cat([not_older[..., :1], between, older[..., -1:]], dim=-1)


@register("coral")
class CoralLoss(OrdinalLoss):
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
        >>> CoralLoss(num_classes=101)(torch.zeros(2, 100), torch.tensor([0, 100]))
        tensor(69.3147)
    """

    summary = 'K - 1 binary tasks "older than class k" that share one weight vector'
    source = "Cao, Mirjalili, Raschka 2020 (arXiv:1901.07884)"
    paper_decoder = "median"

    task_weights: Tensor | None

    def __init__(
        self,
        num_classes: int,
        *,
        task_weights: Tensor | Sequence[float] | None = None,
        monotone: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, **options)
        weights = None if task_weights is None else as_weights("task_weights", task_weights, num_classes - 1)
        self.register_buffer("task_weights", weights, persistent=False)
        self.monotone = monotone

    @property
    def out_features(self) -> int:
        """Number of logits that the loss takes, K - 1."""
        return self.num_classes - 1

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

    def prior_logits(self, probs: Tensor) -> Tensor:
        """Return the log-odds of "older than class k" under ``probs``, ``(K - 1,)``."""
        # Each tail is summed from its own end: neither is one minus a number near one.
        older = probs.flip(-1).cumsum(-1).flip(-1)[1:]
        return older.log() - probs.cumsum(-1)[:-1].log()

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`coral_loss`."""
        return coral_loss(logits, target, task_weights=self.task_weights, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`coral_log_probs`."""
        return coral_log_probs(logits)

    def violations(self, logits: Tensor) -> Tensor:
        """Return where a logit is larger than the one before it, ``(...)``; the sigmoid keeps their order.

        Raises:
            ValueError: if ``logits`` are not ``(..., K - 1)``.
        """
        check_width(logits, self.out_features)
        return (logits[..., 1:] > logits[..., :-1]).any(-1)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        weights = "" if self.task_weights is None else ", task_weights=..."
        return f"{super().extra_repr()}, monotone={self.monotone}{weights}"


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0; minus infinity with a zero gradient at 0."""
    tie = x >= 0
    # The argument is made harmless before the logarithm: a gradient through log(0) would be NaN even if masked.
    safe = torch.where(tie, -1, x)
    return torch.log(-torch.expm1(safe)).masked_fill(tie, -torch.inf)
