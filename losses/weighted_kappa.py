"""Weighted kappa: quadratic disagreement over the disagreement of chance, for a batch as a whole."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from .base import CallOptions, LossOptions, Option, OrdinalLoss
from .checks import REDUCTIONS, Reduction, check_choice, check_floating
from .class_values import check_class_values, class_values_like, pairwise_differences
from .closed_form import Gradient, constant, with_gradient
from .cross_entropy import softmax_log_probs
from .elementary import number, softmax, softmax_gradient
from .reduction import as_batch, cast_like, full_precision
from .registry import register
from .soft_labels import mix


def weighted_kappa_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_values: Tensor | None = None,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Weighted kappa loss: expected quadratic disagreement over that of chance, one minus Cohen's quadratic kappa.

    .. math:: \ell = \frac{\sum_i w_i \sum_j p_{ij} (a_j - a_{y_i})^2}
        {W \sum_j \sum_k \bar p_j \bar t_k (a_j - a_k)^2}, \qquad p_i = \operatorname{softmax}(z_i)

    with the weights :math:`w_i` of samples and classes, :math:`W = \sum_i w_i`, and the batch's weighted mean
    prediction :math:`\bar p` and mean label :math:`\bar t`. It is 0 for perfect predictions and 1 for predictions
    that know nothing of their sample, whatever K is.

    Chance is that of the batch, so the loss of a batch is not the mean of losses of its samples: a batch of one class
    has the loss 1 and no gradient, and small batches make a noisy loss. ``"mean"`` gives the formula, ``"none"`` what
    each sample adds to it times W, ``"sum"`` the sum of that.

    Args:
        logits: ``(..., K)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        class_values: The values :math:`a` of the classes, e.g. ages: ``(K,)``; 0 to K - 1 without.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: de la Torre, Puig, Valls 2018 (Pattern Recognition Letters 105), without its logarithm, as in Vargas,
    Gutiérrez, Hervás-Martínez 2020.

    Example:
        >>> weighted_kappa_loss(torch.zeros(3, 3), torch.tensor([0, 1, 2]))
        tensor(1.0000)
    """
    check_floating("logits", logits)
    num_classes = logits.shape[-1]
    check_class_values(class_values, logits, num_classes)
    values = class_values_like(full_precision(logits), class_values, num_classes)
    return _loss(
        logits,
        target,
        values,
        pairwise_differences(values).square(),
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def _loss(
    logits: Tensor,
    target: Tensor,
    values: Tensor,
    squares: Tensor,
    *,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the loss, given the class values ``(K,)`` and the squares of their differences ``(K, K)``."""
    check_choice("reduction", reduction, REDUCTIONS)
    batch = as_batch(logits, target, logits.shape[-1], class_weights, sample_weight, ignore_index)
    values, squares = cast_like(values, batch.logits), cast_like(squares, batch.logits)

    # What does not depend on the logits: the squared distances from each label, and the labels' mean and variance.
    # Around the mean label the disagreement of chance is a sum of two variances: nothing cancels.
    mass = batch.weight
    total: Tensor | float
    if batch.measure is None and mass is None:
        distances, total = squares.index_select(0, batch.target), number(len(batch.target), values)
        variance, mean = torch.var_mean(values.index_select(0, batch.target), correction=0)
        from_mean = (values - mean).square()
    else:
        if batch.measure is None:
            assert mass is not None
            distances = squares.index_select(0, batch.target) * mass.unsqueeze(-1)
            share = batch.logits.new_zeros(len(values)).index_add(0, batch.target, mass)
        else:
            labels = batch.target if mass is None else batch.target * mass.unsqueeze(-1)
            distances, mass, share = mix(labels, squares), labels.sum(-1), labels.sum(0)
        total = share.sum()
        total = torch.where(total > 0, total, 1)
        from_mean = (values - (share * values).sum() / total).square()
        variance = (share * from_mean).sum() / total

    def weighed(numbers: Tensor) -> Tensor:
        return numbers if mass is None else numbers * mass.unsqueeze(-1)

    def chance_of(of_predictions: Tensor) -> Tensor:
        # No disagreement by chance means that all is one class: nothing is observed either.
        return (of_predictions.sum() / total + variance).clamp(min=torch.finfo(values.dtype).tiny)

    def formula(z: Tensor) -> tuple[Tensor, Gradient]:
        probs = softmax(z)
        # Products and sums, not a matrix product: autocast and TF32 would round the values.
        chance = chance_of(weighed(probs).sum(0) * from_mean)
        value = (probs * distances).sum() / chance

        def gradient() -> Tensor:
            slopes = distances - weighed(from_mean * (value / total))
            return softmax_gradient(slopes, probs, exact=True).div_(chance)

        return value if reduction == "sum" else value / total, gradient

    if reduction == "none":
        # Each number depends on every sample, through chance. Two sums for each sample and what is done with them.
        observed, of_predictions = (_expectations(table, batch.logits) for table in (distances, from_mean))
        return (observed / chance_of(weighed(of_predictions.unsqueeze(-1)))).reshape(logits.shape[:-1])
    if constant(distances, mass):
        return with_gradient(formula, batch.logits, divisor=None if reduction == "sum" else total)
    return formula(batch.logits)[0]


def _expectations(values: Tensor, logits: Tensor) -> Tensor:
    """Return the expected value under the softmax of each row, ``(N,)``."""

    def formula(z: Tensor) -> tuple[Tensor, Gradient]:
        probs = softmax(z)
        return (probs * values).sum(-1), lambda: softmax_gradient(values.expand_as(probs).clone(), probs, exact=True)

    return with_gradient(formula, logits) if constant(values) else formula(logits)[0]


@register("weighted-kappa")
class WeightedKappaLoss(OrdinalLoss):
    """Weighted kappa loss as a module, see :func:`weighted_kappa_loss` and, for the options, :class:`OrdinalLoss`.

    The ``class_values`` are what the squared distances are between.

    Example:
        >>> WeightedKappaLoss(num_classes=3)(torch.zeros(3, 3), torch.tensor([0, 1, 2]))
        tensor(1.0000)
    """

    summary = "quadratic disagreement over that of chance, one minus Cohen's kappa of the batch"
    source = "de la Torre, Puig, Valls 2018 (Pattern Recognition Letters 105)"
    paper_decoder = "mode"
    separable = False

    squares: Option[Tensor] = Option()

    def __init__(self, num_classes: int, **options: Unpack[LossOptions]) -> None:
        super().__init__(num_classes, **options)
        self.register_option("squares", pairwise_differences(self.class_values).square())

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`weighted_kappa_loss`."""
        return _loss(logits, target, self.class_values, self.squares, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`softmax_log_probs`."""
        return softmax_log_probs(logits)
