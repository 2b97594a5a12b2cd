"""CORN: ordinal regression by a chain of conditional probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from .base import CallOptions, LossOptions, Option, OrdinalLoss
from .binary import binary_terms, older_signs
from .checks import Reduction, as_weights, check_choice, check_floating, check_tensor
from .closed_form import Gradient, constant
from .elementary import log_sigmoid, softplus
from .reduction import cast_like, full_precision, reduce_loss
from .registry import register

Normalization = Literal["tasks", "samples"]
NORMALIZATIONS = get_args(Normalization)  # here, because torch.compile before 2.7 cannot trace it


def corn_loss(
    logits: Tensor,
    target: Tensor,
    *,
    normalization: Normalization = "tasks",
    task_weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""CORN loss: the binary cross-entropies of "older than class k, given at least k".

    .. math:: \ell = -\sum_{k < y} \lambda_k \log\sigma(z_k) - 1[y < K - 1]\, \lambda_y \log\sigma(-z_y)

    Sample y is asked the :math:`n(y) = \min(y + 1, K - 1)` tasks that its chain reaches, and without task weights
    :math:`\ell` is exactly :math:`-\log P(y)`. Under ``reduction="mean"``, ``normalization="tasks"`` divides the
    batch's sum by its number of tasks, :math:`\sum_i n(y_i)`, as the paper and ``coral_pytorch.losses.corn_loss`` do,
    so a step's size depends on the labels in the batch, while ``"samples"`` divides by the number of samples and is the
    exact mean negative log-likelihood. The one is the other times :math:`N / \sum_i n(y_i)`. Zero logits give
    :math:`\log 2 = 0.69` by tasks, whatever K is.

    Args:
        logits: ``(..., K - 1)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        normalization: ``"tasks"`` or ``"samples"``; matters to ``reduction="mean"`` only.
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

    Source: Shi, Cao, Raschka 2021 (arXiv:2111.08851), equation 6.

    Example:
        >>> import torch
        >>> corn_loss(torch.zeros(2, 100), torch.tensor([0, 100]))
        tensor(0.6931)
    """
    check_floating("logits", logits)
    num_classes = logits.shape[-1] + 1
    if task_weights is not None:
        check_tensor("task_weights", task_weights, (num_classes - 1,), logits.device)
    return _loss(
        logits,
        target,
        older_signs(num_classes, logits),
        _asked(num_classes, logits),
        _tasks_asked(num_classes, logits),
        task_weights,
        normalization,
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def _loss(
    logits: Tensor,
    target: Tensor,
    signs: Tensor,
    asked: Tensor,
    tasks_asked: Tensor,
    task_weights: Tensor | None,
    normalization: Normalization,
    **options: Unpack[CallOptions],
) -> Tensor:
    """Return the loss, given the tables of :func:`older_signs`, :func:`_asked` and :func:`_tasks_asked`."""
    check_choice("normalization", normalization, NORMALIZATIONS)

    def weights_like(z: Tensor) -> Tensor | None:
        return None if task_weights is None else cast_like(task_weights, z)

    def hard(z: Tensor, y: Tensor) -> tuple[Tensor, Gradient]:
        own_signs, own_asked = (cast_like(table, z).index_select(0, y) for table in (signs, asked))
        return binary_terms(z, own_signs, weights_like(z), own_asked)

    def soft(z: Tensor, q: Tensor) -> Tensor:
        older = q[..., 1:].flip(-1).cumsum(-1).flip(-1)
        terms = older * softplus(-z) + q[..., :-1] * softplus(z)
        weights = weights_like(z)
        return (terms if weights is None else terms * weights).sum(-1)

    return reduce_loss(
        hard,
        logits,
        target,
        num_classes=logits.shape[-1] + 1,
        soft=soft,
        closed_form=constant(task_weights),
        normalizer=(lambda y: tasks_asked.index_select(0, y)) if normalization == "tasks" else None,
        **options,
    )


def _asked(num_classes: int, like: Tensor) -> Tensor:
    """Return ``(K, K - 1)``: 0 where the chain of the class (row) reaches the task, else minus infinity."""
    return torch.full((num_classes, num_classes - 1), -torch.inf, dtype=like.dtype, device=like.device).triu_(1)


def _tasks_asked(num_classes: int, like: Tensor) -> Tensor:
    """Return how many tasks the chain of each class reaches, ``(K,)``, float32."""
    return torch.arange(1, num_classes + 1, dtype=torch.float32, device=like.device).clamp_(max=num_classes - 1)


def corn_log_probs(logits: Tensor) -> Tensor:
    r"""Class log-probabilities from the logits of "older than class k, given at least k".

    .. math:: \log P(y = k) = \sum_{j<k} \log\sigma(z_j) + \log\sigma(-z_k),

    without the last term for the oldest class.

    Args:
        logits: ``(..., K - 1)``.

    Returns:
        ``(..., K)`` in float32 or wider; each row's exponentials sum to one.

    Raises:
        ValueError: if ``logits`` is not a floating-point tensor of shape ``(..., K - 1)``.

    Source: Shi, Cao, Raschka 2021 (arXiv:2111.08851), equation 3.

    Example:
        >>> import torch
        >>> corn_log_probs(torch.zeros(3)).exp()
        tensor([0.5000, 0.2500, 0.1250, 0.1250])
    """
    check_floating("logits", logits)
    z = full_precision(logits)
    reached = log_sigmoid(z).cumsum(-1)
    stopped = log_sigmoid(-z)
    return F.pad(reached, (1, 0)) + F.pad(stopped, (0, 1))


@register("corn")
class CornLoss(OrdinalLoss):
    """CORN as a module, see :func:`corn_loss`.

    Args:
        num_classes: Number of ordered classes K.
        normalization: ``"tasks"`` divides by the number of conditional tasks in the batch, as the paper does;
            ``"samples"`` by the number of samples.
        task_weights: Weights of the K - 1 tasks, ``(K - 1,)``.
        **options: See :class:`OrdinalLoss`.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> import torch
        >>> CornLoss(num_classes=101)(torch.zeros(2, 100), torch.tensor([0, 100]))
        tensor(0.6931)
    """

    summary = 'a chain of binary tasks "older than class k, given at least k"'
    source = "Shi, Cao, Raschka 2021 (arXiv:2111.08851)"
    paper_decoder = "median"

    task_weights: Option[Tensor | None] = Option()
    signs: Option[Tensor] = Option()
    asked: Option[Tensor] = Option()
    tasks_asked: Option[Tensor] = Option()

    def __init__(
        self,
        num_classes: int,
        *,
        normalization: Normalization = "tasks",
        task_weights: Tensor | Sequence[float] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, **options)
        check_choice("normalization", normalization, NORMALIZATIONS)
        weights = None if task_weights is None else as_weights("task_weights", task_weights, num_classes - 1)
        self.register_option("task_weights", weights)
        self.register_option("signs", older_signs(num_classes, self.class_values))
        self.register_option("asked", _asked(num_classes, self.class_values))
        self.register_option("tasks_asked", _tasks_asked(num_classes, self.class_values))
        self.normalization: Normalization = normalization

    @property
    def out_features(self) -> int:
        """Number of logits that the loss takes, K - 1."""
        return self.num_classes - 1

    def prior_logits(self, probs: Tensor) -> Tensor:
        """Return the log-odds of "older than class k, given at least k" under ``probs``, ``(K - 1,)``."""
        older = probs.flip(-1).cumsum(-1).flip(-1)[1:]
        return older.log() - probs[:-1].log()

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`corn_loss`."""
        tables = self.signs, self.asked, self.tasks_asked
        return _loss(logits, target, *tables, self.task_weights, self.normalization, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`corn_log_probs`."""
        return corn_log_probs(logits)

    def normalizer(self, target: Tensor) -> Tensor:
        """Return the number of tasks that each sample is asked, or 1 for ``normalization="samples"``."""
        if self.normalization == "samples":
            return super().normalizer(target)
        return self.tasks_asked.index_select(0, target.reshape(-1).long()).reshape(target.shape)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        weights = "" if self.task_weights is None else ", task_weights=..."
        return f"{super().extra_repr()}, normalization={self.normalization!r}{weights}"
