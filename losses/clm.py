"""CLM: the cumulative link model, one score against ordered thresholds, fitted by maximum likelihood."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor, nn

from .base import CallOptions, LossOptions, Option, OrdinalLoss
from .checks import Reduction, as_prior, check_choice, check_floating, check_width
from .closed_form import Gradient
from .elementary import log1mexp, log_sigmoid, softplus
from .heads import OrderedHead
from .reduction import cast_like, full_precision, reduce_loss
from .registry import register
from .threshold import rises

LinkName = Literal["logit", "probit", "cloglog"]

# Neighbouring logits that are closer than this, or in the wrong order, count as this far apart in the loss.
_SMALLEST_GAP = 1e-6
# Further apart, what the nearer of two logits adds is below the last digit, in float64 as well.
_WIDEST_GAP = 80.0
# exp(-z) of the cloglog link overflows float32 below -88, and the sum of a batch before that.
_LINEAR_BELOW = -50.0
# The logit beyond the first and, negative, beyond the last: P(y > -1) = 1 and P(y > K - 1) = 0 in every digit, while
# its fourth power is a number of float32.
_OUTERMOST = 1e9
_LOG_SQRT_2PI = math.log(2 * math.pi) / 2


def clm_loss(
    logits: Tensor,
    target: Tensor,
    *,
    link: LinkName = "logit",
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Negative log-likelihood of the cumulative link model.

    A score :math:`f` and increasing thresholds :math:`\theta_0 < \dots < \theta_{K-2}` give
    :math:`P(y \le k) = F(\theta_k - f)`. The logits are :math:`z_k = f - \theta_k`, decreasing in k, and

    .. math:: \ell = -\log\bigl(F(\theta_{y_i} - f) - F(\theta_{y_i-1} - f)\bigr)
        = -\log\bigl(P(y > y_i - 1) - P(y > y_i)\bigr),
        \qquad P(y > -1) = 1, \quad P(y > K - 1) = 0

    for a sample of class :math:`y_i`, with the link

    * ``"logit"``: :math:`F = \sigma`, so :math:`P(y > k) = \sigma(z_k)`;
    * ``"probit"``: :math:`F = \Phi`, so :math:`P(y > k) = \Phi(z_k)`;
    * ``"cloglog"``: :math:`F(t) = 1 - e^{-e^t}`, so :math:`P(y > k) = e^{-u(z_k)}` with :math:`u(z) = e^{-z}`.

    It is computed in log space. Where the two logits of a class are in the wrong order or closer than
    :math:`\delta = 10^{-6}`, the likelihood is not defined or its gradient explodes. There the loss is

    .. math:: \ell = -\log P(y > y_i - 1) - \log P(y \le y_i) - \log \delta - r\bigl((z_{y_i-1} + z_{y_i}) / 2\bigr),
        \qquad r(z) = \log\frac{F'(-z)}{F(-z) (1 - F(-z))}

    which continues the likelihood and pulls the two logits back in order (r is zero for the logit link).

    The loss of a confidently wrong answer grows with :math:`|z|` for the logit link, with :math:`z^2 / 2` for probit,
    and with :math:`u(z) = e^{-z}` for cloglog. Below :math:`z = -50`, where :math:`u` would overflow, it goes on in a
    straight line, :math:`u(z) = e^{50} (1 - 50 - z)`: the loss stays finite and its gradient is not zero. In float16,
    which ends at 65504, the gradient of such logits is infinite below -11.

    Args:
        logits: ``(..., K - 1)``, as a rule those of an :class:`OrderedHead`.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        link: ``"logit"``, ``"probit"`` or ``"cloglog"``.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: McCullagh 1980, Regression models for ordinal data; as the last layer of a network Vargas, Gutiérrez,
    Hervás-Martínez 2020 (doi:10.1016/j.neucom.2020.03.034).

    Example:
        >>> logits = torch.tensor([0.75, 0.25]).logit()  # probabilities 1/4, 1/2, 1/4
        >>> clm_loss(logits, torch.tensor(1)), torch.tensor(2.0).log()
        (tensor(0.6931), tensor(0.6931))
    """
    check_floating("logits", logits)
    return _loss(
        logits,
        target,
        *_sides(logits.shape[-1] + 1, logits),
        link,
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def _sides(num_classes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return which two logits each class lies between, ``(K, 2)``, and what is added to them.

    Where there is none on a side it is the nearest one, moved beyond all others.
    """
    classes = torch.arange(num_classes, device=like.device)
    sides = torch.stack([classes - 1, classes], dim=-1)
    held = sides.clamp(0, num_classes - 2)
    return held, (held - sides).to(like.dtype) * _OUTERMOST


def _loss(
    logits: Tensor, target: Tensor, sides: Tensor, ends: Tensor, link: LinkName, **options: Unpack[CallOptions]
) -> Tensor:
    """Return the loss, given the tables of :func:`_sides`."""
    model = _link(link)

    def hard(z: Tensor, y: Tensor) -> tuple[Tensor, Gradient]:
        # A class looks at the logits on its two sides alone; where there is none on a side, at one beyond all others.
        own = sides.index_select(0, y)
        pair = z.gather(-1, own) + cast_like(ends, z).index_select(0, y)
        losses, slopes = model.losses(pair, _SMALLEST_GAP)
        return losses, lambda: torch.zeros_like(z).scatter_add_(-1, own, slopes())

    def soft(z: Tensor, q: Tensor) -> Tensor:
        z = _with_outermost(z)
        return -(q * model.log_between(z[..., :-1], z[..., 1:], _SMALLEST_GAP)).sum(-1)

    return reduce_loss(hard, logits, target, num_classes=logits.shape[-1] + 1, soft=soft, closed_form=True, **options)


def clm_log_probs(logits: Tensor, *, link: LinkName = "logit") -> Tensor:
    r"""Class log-probabilities of the cumulative link model.

    .. math:: \log P(y = k) = \log\bigl(P(y > k - 1) - P(y > k)\bigr)

    with :math:`P(y > k)` of the logits as in :func:`clm_loss`, computed in log space. Logits that are not in
    decreasing order are sorted first, so the distribution is proper for any head. Equal logits give the class between
    them probability 0, its logarithm :math:`-\infty` and the gradient 0. For logits in order and at least
    :math:`10^{-6}` apart, :func:`clm_loss` is minus the entry of the target.

    Args:
        logits: ``(..., K - 1)``.
        link: ``"logit"``, ``"probit"`` or ``"cloglog"``.

    Returns:
        ``(..., K)`` in float32 or wider; each row's exponentials sum to one.

    Raises:
        ValueError: if ``logits`` is not a floating-point tensor of shape ``(..., K - 1)``, or ``link`` is unknown.

    Source: McCullagh 1980; sorting is the rearrangement of Chernozhukov, Fernández-Val, Galichon 2010
    (arXiv:0704.3649).

    Example:
        >>> clm_log_probs(torch.tensor([0.75, 0.25]).logit()).exp()
        tensor([0.2500, 0.5000, 0.2500])
        >>> clm_log_probs(torch.tensor([1.0, -1.0]), link="probit").exp()
        tensor([0.1587, 0.6827, 0.1587])
    """
    check_floating("logits", logits)
    model = _link(link)
    z = _with_outermost(full_precision(logits).sort(dim=-1, descending=True).values)
    upper, lower = z[..., :-1], z[..., 1:]
    # Not zero: one over a gap of less overflows in the gradient.
    smallest_gap = torch.finfo(z.dtype).tiny
    log_probs = model.log_between(upper, lower, smallest_gap)
    return log_probs.masked_fill(upper - lower < smallest_gap, -torch.inf)


@register("clm")
class ClmLoss(OrdinalLoss):
    """The cumulative link model as a module, see :func:`clm_loss`.

    Args:
        num_classes: Number of ordered classes K.
        link: ``"logit"`` (proportional odds), ``"probit"`` or ``"cloglog"`` (proportional hazards).
        **options: See :class:`OrdinalLoss`.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> loss = ClmLoss(num_classes=3, link="probit")
        >>> loss(torch.tensor([1.0, -1.0]), torch.tensor(1))
        tensor(0.3817)
    """

    summary = "maximum likelihood of one score against ordered thresholds, the cumulative link model"
    source = "McCullagh 1980; Vargas, Gutiérrez, Hervás-Martínez 2020 (doi:10.1016/j.neucom.2020.03.034)"
    paper_decoder = "mode"

    sides: Option[Tensor] = Option()
    ends: Option[Tensor] = Option()

    def __init__(self, num_classes: int, *, link: LinkName = "logit", **options: Unpack[LossOptions]) -> None:
        super().__init__(num_classes, **options)
        _link(link)
        self.link: LinkName = link
        sides, ends = _sides(num_classes, self.class_values)
        self.register_option("sides", sides)
        self.register_option("ends", ends)

    @property
    def out_features(self) -> int:
        """Number of logits that the loss takes, K - 1."""
        return self.num_classes - 1

    def make_head(self, in_features: int, *, prior: Tensor | Sequence[float] | None = None) -> nn.Module:
        """Return a fresh :class:`OrderedHead`: a score minus thresholds that are ordered by construction.

        Args:
            in_features: Number of features.
            prior: Class probabilities ``(K,)`` to start from, see :meth:`OrdinalLoss.make_head`.

        Raises:
            ValueError: if ``in_features`` is not an integer of at least 1, or ``prior`` is no distribution over K.
        """
        biases = None
        if prior is not None:
            biases = self.prior_logits(as_prior(prior, self.num_classes)).to(torch.get_default_dtype())
        return OrderedHead(in_features, self.num_classes, biases)

    def prior_logits(self, probs: Tensor) -> Tensor:
        """Return the logits ``(K - 1,)`` whose distribution is ``probs``: the link of "older than class k"."""
        # Each tail is summed from its own end, neither is one minus a number near one; and in float64, so that no
        # rounding puts the logits of two rare classes in the wrong order.
        wide = probs.double()
        above = wide.flip(-1).cumsum(-1).flip(-1)[1:]
        below = wide.cumsum(-1)[:-1]
        return _link(self.link).logits(above, below).to(probs.dtype)

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`clm_loss`."""
        return _loss(logits, target, self.sides, self.ends, self.link, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`clm_log_probs`."""
        return clm_log_probs(logits, link=self.link)

    def violations(self, logits: Tensor) -> Tensor:
        """Return where a logit is larger than the one before it, ``(...)``; never with an :class:`OrderedHead`.

        Raises:
            ValueError: if ``logits`` are not ``(..., K - 1)``.
        """
        check_width(logits, self.out_features)
        return rises(logits)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return f"{super().extra_repr()}, link={self.link!r}"


class _Link(ABC):
    """A distribution function, as the survival function of a logit: S(z) = P(y > k) = 1 - F(-z)."""

    @abstractmethod
    def log_between(self, upper: Tensor, lower: Tensor, smallest_gap: float) -> Tensor:
        """Return log(S(upper) - S(lower)), continued to gaps below ``smallest_gap``, to ties and to the wrong order.

        S(a) - S(b) is S(a) (1 - S(b)) times a ratio, which for a small gap is the gap times S'/(S (1 - S)) at the
        middle. With the gap held, the two factors remain: their gradients raise ``upper`` and lower ``lower``. That of
        the ratio cannot turn them: as S' is log-concave, S'/S >= S''/S' >= -S'/(1 - S), and half of each is left.

        Arguments are made harmless before a logarithm: a gradient through log(0) would be NaN even if masked.
        """

    def losses(self, pair: Tensor, smallest_gap: float) -> tuple[Tensor, Gradient]:
        """Return minus :meth:`log_between` of ``(N, 2)``, upper and lower logits, and its gradient ``(N, 2)``."""

        def gradient() -> Tensor:
            with torch.enable_grad():
                leaf = pair.detach().requires_grad_()
                total = self.log_between(leaf[:, 0], leaf[:, 1], smallest_gap).sum()
            return -torch.autograd.grad(total, leaf)[0]

        return -self.log_between(pair[:, 0], pair[:, 1], smallest_gap), gradient

    @abstractmethod
    def logits(self, above: Tensor, below: Tensor) -> Tensor:
        """Return z with S(z) = above and 1 - S(z) = below."""


class _Logit(_Link):
    def log_between(self, upper: Tensor, lower: Tensor, smallest_gap: float) -> Tensor:
        # sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a)): the ratio depends on the gap alone.
        gap = upper - lower
        gap = gap.masked_fill(gap < smallest_gap, smallest_gap)
        return log_sigmoid(upper) + log_sigmoid(-lower) + log1mexp(-gap)

    def losses(self, pair: Tensor, smallest_gap: float) -> tuple[Tensor, Gradient]:
        # The same for both logits at once, in fewer operations: with -a and b, and -log(1 - exp(b - a)) = log(1 + r),
        # r = 1 / (exp(a - b) - 1), which is also minus its derivative in the gap. Beyond the widest gap r is nothing
        # beside the larger of exp(-a) and exp(b), and its own derivative would be zero times infinity.
        signs = torch.arange(-1, 2, 2, dtype=pair.dtype, device=pair.device)
        signed = pair * signs
        gap = -signed.sum(-1, keepdim=True)
        ratio = torch.expm1(gap.clamp(smallest_gap, _WIDEST_GAP)).reciprocal()
        losses = softplus(signed).sum(-1, keepdim=True) + ratio.log1p()

        def gradient() -> Tensor:
            return signed.sigmoid_().add_(ratio.mul_(gap >= smallest_gap)).mul_(signs)

        return losses.squeeze(-1), gradient

    def logits(self, above: Tensor, below: Tensor) -> Tensor:
        return above.log() - below.log()


class _Probit(_Link):
    def log_between(self, upper: Tensor, lower: Tensor, smallest_gap: float) -> Tensor:
        gap, middle = upper - lower, (upper + lower) * 0.5
        size = middle.abs()
        crossed = gap < smallest_gap
        near = (gap * (1 + size) < torch.finfo(gap.dtype).eps ** 0.1) | crossed
        # Close together: the density at the middle times the gap, times its series 1 + He2(m) g^2 / 24 +
        # He4(m) g^4 / 1920 with Hermite's polynomials. The next term, of the sixth power, is below the precision of
        # the type where this is used, and the difference further down keeps all but a few bits where it is not.
        g, m2 = gap.masked_fill(~near | crossed, 1e-3), middle.square()
        g2 = g.square()
        series = (m2 - 1 + (m2.square() - 6 * m2 + 3) * g2 * (1 / 80)) * g2 * (1 / 24)
        close = torch.log(g) + torch.log1p(series) - m2 * 0.5 - _LOG_SQRT_2PI
        # Further apart: Phi(a) (1 - Phi(b) / Phi(a)), seen from the side where the tails are small. The squares in
        # log Phi are hundreds where their difference may be less than one: it is factored.
        turned = (middle > 0) & ~crossed
        # Crossed logits need Phi(a) and Phi(-b) instead.
        high = torch.where(turned, -lower, upper)
        low = torch.where(turned, -upper, torch.where(crossed, -lower, lower))
        scaled, tail = _scaled_log_normal(torch.stack([high, low]))
        square = tail.square() * 0.5
        fall = scaled[1] - scaled[0] + (tail[0] - tail[1]) * (tail[0] + tail[1]) * 0.5
        apart = scaled[0] - square[0] + log1mexp(fall.masked_fill(near, -1))
        # In the ratio the density and the smaller tail share their exponential.
        half = torch.special.erfcx(size * math.sqrt(0.5)) * 0.5
        ratio = -torch.log(half) - torch.log1p(-half * torch.exp(m2 * -0.5)) - _LOG_SQRT_2PI
        continued = (scaled - square).sum(0) + ratio + math.log(smallest_gap)
        return torch.where(crossed, continued, torch.where(near, close, apart))

    def logits(self, above: Tensor, below: Tensor) -> Tensor:
        return torch.where(above < below, torch.special.ndtri(above), -torch.special.ndtri(below))


class _CLogLog(_Link):
    def log_between(self, upper: Tensor, lower: Tensor, smallest_gap: float) -> Tensor:
        # exp(-u(a)) - exp(-u(b)) = exp(-u(a)) (1 - exp(-(u(b) - u(a)))) with u(b) - u(a) = exp(-b) (1 - exp(b - a)).
        # On the straight part that is so large that the second factor is one, whatever the exact number.
        gap = upper - lower
        crossed = gap < smallest_gap
        start = upper.clamp(min=_LINEAR_BELOW)
        log_above = -torch.exp(-start) * (1 + (start - upper))
        log_rate, at_middle = -torch.stack([lower, (upper + lower) * 0.5]).clamp(min=_LINEAR_BELOW)
        between = log_rate + log1mexp(-gap.masked_fill(crossed, 1))
        # Crossed logits need 1 - S(b) = 1 - exp(-exp(-b)) instead, and the ratio is u / (1 - exp(-u)).
        event, event_at_middle = _log_event(torch.stack([torch.where(crossed, log_rate, between), at_middle]))
        ratio = at_middle - event_at_middle + math.log(smallest_gap)
        return log_above + event + ratio.masked_fill(~crossed, 0)

    def logits(self, above: Tensor, below: Tensor) -> Tensor:
        return -torch.log(-torch.where(below < above, torch.log1p(-below), above.log()))


_LINKS: dict[str, _Link] = {"logit": _Logit(), "probit": _Probit(), "cloglog": _CLogLog()}


def _link(name: str) -> _Link:
    check_choice("link", name, get_args(LinkName))
    return _LINKS[name]


def _with_outermost(z: Tensor) -> Tensor:
    """Return the logits ``(..., K - 1)`` between those of P(y > -1) = 1 and P(y > K - 1) = 0, ``(..., K + 1)``."""
    return torch.cat([torch.full_like(z[..., :1], _OUTERMOST), z, torch.full_like(z[..., :1], -_OUTERMOST)], dim=-1)


def _scaled_log_normal(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return log Phi(z) + t^2 / 2, and t = min(z, 0).

    Not ``torch.special.log_ndtr``: its gradient is the exponential of the difference of two numbers as large as
    z^2 / 2, which at -30 leaves four digits in float32 and at -1e4 none.
    """
    # Not abs and clamp: their gradients at 0 are not those of either side.
    left = z < 0
    tail = z.masked_fill(~left, 0)
    # Phi(-|z|) is this times the density's exponential: it serves both sides, and its square loses fewer digits than
    # that in erfc, after the division by the root of two.
    half = torch.special.erfcx(torch.where(left, -z, z) * math.sqrt(0.5)) * 0.5
    return torch.where(left, torch.log(half), torch.log1p(-half * torch.exp(z.square() * -0.5))), tail


def _log_event(log_rate: Tensor) -> Tensor:
    """Return log(1 - exp(-d)) of log d, which is at most 50; by its series where d is small."""
    rare = log_rate < -8
    d = torch.exp(log_rate.masked_fill(~rare, -8))
    common = log1mexp(-torch.exp(log_rate.masked_fill(rare, 0)))
    return torch.where(rare, log_rate - d * 0.5 + d.square() * (1 / 24), common)
