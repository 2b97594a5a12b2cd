"""Regression: one number, the age itself, by its absolute, squared or Huber error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from .base import CallOptions, LossOptions, OrdinalLoss
from .checks import Reduction, as_prior, check_choice, check_device, check_positive_number, check_width
from .class_values import class_values_like
from .heads import ValueHead
from .reduction import full_precision, reduce_loss
from .registry import register

Penalty = Literal["l1", "l2", "huber"]


def _huber(error: Tensor, delta: float) -> Tensor:
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


class _Penalty(NamedTuple):
    """A function of the error and Huber's delta, and its derivative in the error."""

    value: Callable[[Tensor, float], Tensor]
    slope: Callable[[Tensor, float], Tensor]


PENALTIES = {
    "l1": _Penalty(lambda error, delta: error.abs(), lambda error, delta: error.sign()),
    "l2": _Penalty(lambda error, delta: error.square() / 2, lambda error, delta: error),
    "huber": _Penalty(_huber, lambda error, delta: error.clamp(-delta, delta)),
}


def regression_loss(
    logits: Tensor,
    target: Tensor,
    class_values: Tensor,
    *,
    penalty: Penalty = "l1",
    delta: float = 1.0,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Error of one predicted value.

    .. math:: \ell = |f - a_y|, \qquad \tfrac{1}{2} (f - a_y)^2, \qquad\text{or}\quad
        \begin{cases} \frac{1}{2} (f - a_y)^2 & |f - a_y| \le \delta \\
        \delta \, (|f - a_y| - \frac{\delta}{2}) & \text{else} \end{cases}

    Args:
        logits: The predicted values f, ``(..., 1)``, in the unit of ``class_values``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        class_values: The values :math:`a` of the classes, e.g. ages: ``(K,)``.
        penalty: ``"l1"``, ``"l2"`` or ``"huber"``.
        delta: Where Huber's penalty turns from squared to absolute, in the unit of ``class_values``.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: least absolute deviations, least squares, and Huber 1964.

    Example:
        >>> regression_loss(torch.tensor([[30.0], [7.0]]), torch.tensor([1, 0]), torch.tensor([5.0, 40.0]))
        tensor(6.)
    """
    check_width(logits, 1)
    check_choice("penalty", penalty, tuple(PENALTIES))
    check_positive_number("delta", delta)
    check_device("class_values", class_values, logits.device)
    num_classes = class_values.shape[-1]

    def errors(z: Tensor, y: Tensor) -> Tensor:
        values = class_values_like(z, class_values, num_classes)
        return PENALTIES[penalty].value(z.squeeze(-1) - values.index_select(0, y), delta)

    def soft(z: Tensor, q: Tensor) -> Tensor:
        values = class_values_like(z, class_values, num_classes)
        return (q * PENALTIES[penalty].value(z - values, delta)).sum(-1)

    return reduce_loss(
        errors,
        logits,
        target,
        num_classes=num_classes,
        soft=soft,
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def regression_log_probs(logits: Tensor, class_values: Tensor) -> Tensor:
    """Log-probabilities of a point: all the probability at the class whose value is nearest, the lower one of two.

    They are no likelihood: the logarithm is 0 for one class and minus infinity for the others, so a log-likelihood or
    a calibration of them says nothing. They have no gradient.

    Args:
        logits: The predicted values, ``(..., 1)``, in the unit of ``class_values``.
        class_values: The values of the classes: ``(K,)``, increasing.

    Returns:
        ``(..., K)`` in float32 or wider.

    Raises:
        ValueError: if ``logits`` is not a floating-point tensor of shape ``(..., 1)``.

    Example:
        >>> regression_log_probs(torch.tensor([22.0]), torch.tensor([5.0, 20.0, 40.0]))
        tensor([-inf, 0., -inf])
    """
    check_width(logits, 1)
    z = full_precision(logits)
    values = class_values_like(z, class_values, class_values.shape[-1])
    nearest = torch.bucketize(z.detach(), (values[1:] + values[:-1]) / 2)
    log_probs = z.new_full((*z.shape[:-1], values.shape[-1]), -torch.inf)
    return log_probs.scatter(-1, nearest, 0)


@register("regression")
class RegressionLoss(OrdinalLoss):
    """Regression as a module, see :func:`regression_loss`.

    Args:
        num_classes: Number of ordered classes K.
        penalty: ``"l1"``, ``"l2"`` or ``"huber"``.
        delta: Where Huber's penalty turns from squared to absolute, in the unit of the class values.
        **options: See :class:`OrdinalLoss`. The ``class_values`` are what is predicted.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> loss = RegressionLoss(num_classes=2, class_values=[5, 40])
        >>> loss(torch.tensor([[30.0], [7.0]]), torch.tensor([1, 0]))
        tensor(6.)
    """

    summary = "absolute, squared or Huber error of one predicted value: a point, not a distribution"
    source = "least absolute deviations, least squares, and Huber 1964"
    paper_decoder = "mode"
    predicts_point = True

    def __init__(
        self,
        num_classes: int,
        *,
        penalty: Penalty = "l1",
        delta: float = 1.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, **options)
        check_choice("penalty", penalty, tuple(PENALTIES))
        check_positive_number("delta", delta)
        self.penalty: Penalty = penalty
        self.delta = delta

    @property
    def out_features(self) -> int:
        """Number of logits that the loss takes, 1: the predicted value."""
        return 1

    def make_head(self, in_features: int, *, prior: Tensor | Sequence[float] | None = None) -> nn.Module:
        """Return a fresh :class:`ValueHead`, which learns in units of the spread of the class values.

        Args:
            in_features: Number of features.
            prior: Class probabilities ``(K,)``; the head starts from their best constant prediction.

        Raises:
            ValueError: if ``in_features`` is not an integer of at least 1, or ``prior`` is no distribution over K.
        """
        start = None if prior is None else self.prior_logits(as_prior(prior, self.num_classes))
        return ValueHead(in_features, self.class_values, start)

    def prior_logits(self, probs: Tensor) -> Tensor:
        """Return the best constant prediction under ``probs``, ``(1,)``: the median for l1, the mean for l2."""
        values = self.class_values.to(probs)
        low, high = values[:1], values[-1:]
        # The derivative of the expected penalty rises with the prediction: halve the range down to the last bit.
        for _ in range(64):
            middle = (low + high) / 2
            too_high = (probs * PENALTIES[self.penalty].slope(middle - values, self.delta)).sum(-1, keepdim=True) > 0
            low, high = torch.where(too_high, low, middle), torch.where(too_high, middle, high)
        return high

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`regression_loss`."""
        return regression_loss(logits, target, self.class_values, penalty=self.penalty, delta=self.delta, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`regression_log_probs`."""
        return regression_log_probs(logits, self.class_values)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return f"{super().extra_repr()}, penalty={self.penalty!r}, delta={self.delta}"
