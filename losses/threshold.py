"""What CORAL and OR-CNN share: K - 1 binary tasks "older than class k", each asked of every sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from .base import CallOptions, LossOptions, Option, OrdinalLoss
from .binary import binary_terms, older_signs
from .checks import as_weights, check_floating, check_tensor, check_width
from .closed_form import Gradient, constant
from .elementary import log1mexp, log_sigmoid, softplus
from .reduction import cast_like, full_precision, reduce_loss


def threshold_loss(
    logits: Tensor,
    target: Tensor,
    task_weights: Tensor | None = None,
    signs: Tensor | None = None,
    **options: Unpack[CallOptions],
) -> Tensor:
    """Return the sum of the binary cross-entropies of "older than class k".

    Args:
        logits: ``(..., K - 1)``, known to be a floating-point tensor.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        task_weights: The weights of the tasks, ``(K - 1,)``; ones without.
        signs: What :func:`older_signs` returns, if it is at hand.
        **options: See :func:`reduce_loss`.

    Example:
        >>> threshold_loss(torch.zeros(1, 2), torch.tensor([0]))  # 2 log 2
        tensor(1.3863)
    """
    if task_weights is not None:
        check_tensor("task_weights", task_weights, (logits.shape[-1],), logits.device)

    def weights_like(z: Tensor) -> Tensor | None:
        return None if task_weights is None else cast_like(task_weights, z)

    def hard(z: Tensor, y: Tensor) -> tuple[Tensor, Gradient]:
        table = older_signs(z.shape[-1] + 1, z) if signs is None else cast_like(signs, z)
        return binary_terms(z, table.index_select(0, y), weights_like(z))

    def soft(z: Tensor, q: Tensor) -> Tensor:
        # Both sums are cumulated, none is taken as one minus the other: small probabilities keep their digits.
        older = q[..., 1:].flip(-1).cumsum(-1).flip(-1)
        not_older = q[..., :-1].cumsum(-1)
        terms = older * softplus(-z) + not_older * softplus(z)
        weights = weights_like(z)
        return (terms if weights is None else terms * weights).sum(-1)

    return reduce_loss(
        hard,
        logits,
        target,
        num_classes=logits.shape[-1] + 1,
        soft=soft,
        closed_form=constant(task_weights),
        **options,
    )


def threshold_log_probs(logits: Tensor) -> Tensor:
    r"""Class log-probabilities from the logits of "older than class k".

    .. math:: \log P(y = k) = \log\bigl(\sigma(z_{k-1}) - \sigma(z_k)\bigr),
        \qquad \sigma(z_{-1}) = 1, \quad \sigma(z_{K-1}) = 0

    computed in log space. Nothing makes independent tasks agree, and the plain CORAL head orders its biases at the
    optimum only. Where :math:`\sigma(z_k)` increases in k, the logits are sorted first: the distribution is proper, and
    the number of :math:`\sigma(z_k) > 1/2`, the class by the papers' rule, stays as it is. Equal logits give the class
    between them probability 0, its logarithm :math:`-\infty` and the gradient 0.

    Args:
        logits: ``(..., K - 1)``.

    Returns:
        ``(..., K)`` in float32 or wider; each row's exponentials sum to one.

    Raises:
        ValueError: if ``logits`` is not a floating-point tensor of shape ``(..., K - 1)``.

    Source: Cao, Mirjalili, Raschka 2020 (arXiv:1901.07884), section 3; sorting is the rearrangement of Chernozhukov,
    Fernández-Val, Galichon 2010 (arXiv:0704.3649).

    Example:
        >>> threshold_log_probs(torch.tensor([0.75, 0.25]).logit()).exp()
        tensor([0.2500, 0.5000, 0.2500])
    """
    check_floating("logits", logits)
    z = full_precision(logits).sort(dim=-1, descending=True).values
    older, not_older = log_sigmoid(z), log_sigmoid(-z)
    # sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a))
    between = older[..., :-1] + not_older[..., 1:] + log1mexp(z[..., 1:] - z[..., :-1])
    return torch.cat([not_older[..., :1], between, older[..., -1:]], dim=-1)


def tail_log_odds(probs: Tensor) -> Tensor:
    """Return the log-odds of "older than class k" under ``probs``: ``(K,)`` to ``(K - 1,)``.

    Example:
        >>> tail_log_odds(torch.tensor([0.25, 0.25, 0.5])).sigmoid()
        tensor([0.7500, 0.5000])
    """
    # Each tail is summed from its own end: neither is one minus a number near one.
    older = probs.flip(-1).cumsum(-1).flip(-1)[1:]
    return older.log() - probs.cumsum(-1)[:-1].log()


def rises(logits: Tensor) -> Tensor:
    """Return where a logit is larger than the one before it: ``(..., K - 1)`` to ``(...)``.

    Example:
        >>> rises(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        tensor([False,  True])
    """
    return (logits[..., 1:] > logits[..., :-1]).any(-1)


class ThresholdLoss(OrdinalLoss):
    """Base class of the losses with K - 1 logits of "older than class k".

    Args:
        num_classes: Number of ordered classes K.
        task_weights: Weights of the K - 1 binary tasks, ``(K - 1,)``.
        **options: See :class:`OrdinalLoss`.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.
    """

    paper_decoder = "median"

    task_weights: Option[Tensor | None] = Option()
    signs: Option[Tensor] = Option()

    def __init__(
        self,
        num_classes: int,
        *,
        task_weights: Tensor | Sequence[float] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, **options)
        weights = None if task_weights is None else as_weights("task_weights", task_weights, num_classes - 1)
        self.register_option("task_weights", weights)
        self.register_option("signs", older_signs(num_classes, self.class_values))

    @property
    def out_features(self) -> int:
        """Number of logits that the loss takes, K - 1."""
        return self.num_classes - 1

    def prior_logits(self, probs: Tensor) -> Tensor:
        """Return the log-odds of "older than class k" under ``probs``, ``(K - 1,)``."""
        return tail_log_odds(probs)

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`threshold_loss`."""
        return threshold_loss(logits, target, self.task_weights, self.signs, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`threshold_log_probs`."""
        return threshold_log_probs(logits)

    def violations(self, logits: Tensor) -> Tensor:
        """Return where a logit is larger than the one before it, ``(...)``; the sigmoid keeps their order.

        Raises:
            ValueError: if ``logits`` are not ``(..., K - 1)``.
        """
        check_width(logits, self.out_features)
        return rises(logits)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        weights = "" if self.task_weights is None else ", task_weights=..."
        return f"{super().extra_repr()}{weights}"
