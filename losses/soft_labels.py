"""Label distributions: a sample's label is spread over the classes near its own.

Each table has one row a class. Whatever the number of classes is, a row sums to one and has its maximum at its own
class and nowhere else, as far as float64 can tell probabilities apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Literal, Unpack

import torch
from torch import Tensor

from .base import CallOptions, LossOptions, Option, OrdinalLoss
from .checks import (
    Reduction,
    as_integer,
    check_choice,
    check_floating,
    check_positive_number,
    check_tensor,
    describe,
)
from .class_values import pairwise_differences
from .closed_form import Gradient, constant, over
from .cross_entropy import softmax_log_probs
from .elementary import log_softmax, log_softmax_gradient
from .reduction import cast_like, reduce_loss
from .registry import register

Distance = Literal["absolute", "squared"]
DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {"absolute": torch.abs, "squared": torch.square}


def binomial_labels(num_classes: int) -> Tensor:
    r"""Binomial label distributions.

    .. math:: q_{jk} = \binom{K - 1}{k} p_j^k (1 - p_j)^{K - 1 - k}, \qquad p_j = \frac{j + 1/2}{K}

    The literature lets :math:`p_j` go from 0.1 to 0.9 in equal steps, whatever K is; from ten classes on, the first
    and the last rows then no longer have their maximum at their own class. Here :math:`j < K p_j < j + 1`, so that
    they always do. The standard deviation is :math:`\sqrt{(K - 1)\, p_j (1 - p_j)}` classes, up to 5 at 101 classes.

    Args:
        num_classes: Number of ordered classes K.

    Returns:
        ``(K, K)``, float64; row j is the distribution of class j.

    Raises:
        ValueError: if ``num_classes`` is not an integer of at least 2.

    Source: da Costa, Alonso, Cardoso 2008 (Neural Networks 21); Liu et al. 2020 (Neurocomputing 388).

    Example:
        >>> binomial_labels(2)
        tensor([[0.7500, 0.2500],
                [0.2500, 0.7500]], dtype=torch.float64)
    """
    classes = _classes(num_classes)
    log_factorial = (classes + 1).lgamma()
    # 1 - p is p from behind: nothing cancels next to 1, and the table mirrors itself.
    log_p = ((classes + 0.5) / len(classes)).log().unsqueeze(-1)
    powers = classes * log_p + classes.flip(0) * log_p.flip(0)
    return (powers - log_factorial - log_factorial.flip(0)).softmax(-1)


def poisson_labels(num_classes: int) -> Tensor:
    r"""Poisson label distributions, truncated to the K classes.

    .. math:: q_{jk} \propto \frac{\lambda_j^k}{k!}, \qquad \lambda_j = j + \frac{1}{2}

    The literature takes integer rates, at which two neighbouring classes share the maximum, and ``dlordinal`` the
    softmax of the probabilities, which is almost flat: these rates lie between, and the rows are only divided by their
    sums. The standard deviation is about :math:`\sqrt{\lambda_j}` classes, so old classes are spread wider than young
    ones.

    Args:
        num_classes: Number of ordered classes K.

    Returns:
        ``(K, K)``, float64; row j is the distribution of class j.

    Raises:
        ValueError: if ``num_classes`` is not an integer of at least 2.

    Source: Beckham, Pal 2017 (arXiv:1705.05278); Liu et al. 2020 (Neurocomputing 388).

    Example:
        >>> poisson_labels(3)  # the first row is 1, 1/2, 1/8 over their sum
        tensor([[0.6154, 0.3077, 0.0769],
                [0.2759, 0.4138, 0.3103],
                [0.1509, 0.3774, 0.4717]], dtype=torch.float64)
    """
    classes = _classes(num_classes)
    log_rate = (classes + 0.5).log().unsqueeze(-1)
    return (classes * log_rate - (classes + 1).lgamma()).softmax(-1)


def beta_labels(num_classes: int, spread: float = 0.59) -> Tensor:
    r"""Beta label distributions: the beta density with its mode at the class, taken at the centres of the classes.

    .. math:: q_{jk} \propto x_k^{\nu_j x_j} (1 - x_k)^{\nu_j (1 - x_j)},
        \qquad x_k = \frac{k + 1/2}{K}, \quad \nu_j = \frac{K^2}{s^2} x_j (1 - x_j)

    Up to a factor that is :math:`\exp(-\nu_j \mathrm{KL}(x_j \| x_k))`, of the Bernoulli distributions with these
    probabilities, so the own class is the maximum for every K and spread. The standard deviation of the density is
    about :math:`s` classes, more in the first and the last rows.

    The paper tabulates beta parameters for 3 to 14 classes and integrates the density over each class. The default
    spread, of all with two digits, comes closest to these tables (mean absolute difference 0.03): middle rows of 9 to
    13 classes agree within 0.01, while the first and the last row give their own class up to 0.28 less, because it is
    the mean, not the mode, that the paper puts at the centre of the class. Its 14 classes are spread twice as wide.

    Args:
        num_classes: Number of ordered classes K.
        spread: The standard deviation :math:`s` of the density, in classes.

    Returns:
        ``(K, K)``, float64; row j is the distribution of class j.

    Raises:
        ValueError: if ``num_classes`` is not an integer of at least 2 or ``spread`` not a finite number above 0.

    Source: Vargas, Gutiérrez, Hervás-Martínez 2022 (Pattern Recognition 122).

    Example:
        >>> beta_labels(3)
        tensor([[0.6946, 0.2907, 0.0147],
                [0.1152, 0.7697, 0.1152],
                [0.0147, 0.2907, 0.6946]], dtype=torch.float64)
    """
    check_positive_number("spread", spread)
    classes = _classes(num_classes)
    x = (classes + 0.5) / len(classes)
    own = x.unsqueeze(-1)
    # The divergence, not the density: it is exactly 0 at the own class, however large nu is.
    log_ratio = own.log() - x.log()
    divergence = own * log_ratio + own.flip(0) * log_ratio.flip(0, 1)
    # Divided twice: the square of a tiny spread would be 0.
    return (-own * own.flip(0) * divergence * len(x) ** 2 / spread / spread).softmax(-1)


def exponential_labels(num_classes: int, exponent: float = 1.0, temperature: float = 1.0) -> Tensor:
    r"""Exponential label distributions.

    .. math:: q_{jk} \propto \exp\left(-\frac{|j - k|^p}{\tau}\right)

    Args:
        num_classes: Number of ordered classes K.
        exponent: The exponent :math:`p`: 1 is a two-sided exponential, 2 a Gaussian.
        temperature: The temperature :math:`\tau`; a higher one is flatter.

    Returns:
        ``(K, K)``, float64; row j is the distribution of class j.

    Raises:
        ValueError: if ``num_classes`` is not an integer of at least 2, or ``exponent`` or ``temperature`` not a finite
            number above 0.

    Source: Liu et al. 2020 (Neurocomputing 388); with the exponent: Vargas et al. 2023 (Applied Soft Computing 138).

    Example:
        >>> exponential_labels(3)
        tensor([[0.6652, 0.2447, 0.0900],
                [0.2119, 0.5761, 0.2119],
                [0.0900, 0.2447, 0.6652]], dtype=torch.float64)
    """
    check_positive_number("exponent", exponent)
    check_positive_number("temperature", temperature)
    return (-(_steps(num_classes) ** exponent) / temperature).softmax(-1)


def triangular_labels(num_classes: int, neighbor: float = 0.01) -> Tensor:
    r"""Triangular label distributions: a symmetric triangular density, integrated over each class.

    .. math:: q_{jj} = 1 - 2 \alpha, \qquad q_{j, j \pm 1} = \alpha

    and nothing beyond. In classes, the density is centred at j, and its half base :math:`b = \frac{1}{2} /
    (1 - \sqrt{2 \alpha})` gives each neighbour exactly :math:`\alpha`; up to :math:`\alpha = 2/9` it ends before the
    class after the neighbour. The first and the last row have one neighbour only; the part of the density that falls
    off the end is cut off there and the rest divided by its sum, :math:`1 - \alpha`. The paper has formulas of their
    own for these two rows, under which the one does not mirror the other.

    Args:
        num_classes: Number of ordered classes K.
        neighbor: The probability :math:`\alpha` of each neighbour.

    Returns:
        ``(K, K)``, float64; row j is the distribution of class j.

    Raises:
        ValueError: if ``num_classes`` is not an integer of at least 2 or ``neighbor`` not above 0 and at most 2/9.

    Source: Vargas et al. 2023 (Information Fusion 93).

    Example:
        >>> triangular_labels(3, neighbor=0.2)
        tensor([[0.7500, 0.2500, 0.0000],
                [0.2000, 0.6000, 0.2000],
                [0.0000, 0.2500, 0.7500]], dtype=torch.float64)
    """
    if not isinstance(neighbor, (int, float)) or not 0 < neighbor <= 2 / 9:
        raise ValueError(
            "Expected `neighbor` to be a number above 0 and at most 2/9 (with more the triangle reaches beyond the "
            f"neighbours), but got {describe(neighbor)}"
        )
    steps = _steps(num_classes)
    table = torch.where(steps == 0, 1 - 2 * neighbor, neighbor * (steps == 1).double())
    return table / table.sum(-1, keepdim=True)


def geometric_labels(num_classes: int, alpha: float = 0.1) -> Tensor:
    r"""Geometric label distributions: a fixed probability for the class itself, the rest falls geometrically.

    .. math:: q_{jj} = 1 - \alpha, \qquad q_{jk} = \alpha \frac{\alpha^{|j - k|}}{\sum_{i \ne j} \alpha^{|j - i|}}

    Args:
        num_classes: Number of ordered classes K.
        alpha: The probability :math:`\alpha` of all other classes together; below 1/2, because next to an end a
            single class can have almost all of it.

    Returns:
        ``(K, K)``, float64; row j is the distribution of class j.

    Raises:
        ValueError: if ``num_classes`` is not an integer of at least 2 or ``alpha`` not strictly between 0 and 1/2.

    Source: Haas, Hüllermeier, ECML PKDD 2023.

    Example:
        >>> geometric_labels(3)
        tensor([[0.9000, 0.0909, 0.0091],
                [0.0500, 0.9000, 0.0500],
                [0.0091, 0.0909, 0.9000]], dtype=torch.float64)
    """
    if not isinstance(alpha, (int, float)) or not 0 < alpha < 0.5:
        raise ValueError(
            "Expected `alpha` to be a number strictly between 0 and 1/2 (with more the own class need not be the most "
            f"probable), but got {describe(alpha)}"
        )
    steps = _steps(num_classes)
    own = steps == 0
    others = (steps * math.log(alpha)).masked_fill(own, -math.inf).softmax(-1)
    return torch.where(own, 1 - alpha, alpha * others)


def gaussian_labels(class_values: Tensor | Sequence[float], sigma: float = 2.0) -> Tensor:
    r"""Gaussian label distributions over the values of the classes, as in deep label distribution learning.

    .. math:: q_{jk} \propto \exp\left(-\frac{(a_k - a_j)^2}{2 \sigma^2}\right)

    Args:
        class_values: The values :math:`a` of the classes, e.g. ages: ``(K,)``, all different. They are not looked at,
            so this is cheap enough for a training step.
        sigma: The standard deviation :math:`\sigma`, in the unit of the values.

    Returns:
        ``(K, K)`` on the device of the values, float64 (float32 where the device has none); row j is the distribution
        of class j.

    Raises:
        ValueError: if ``class_values`` are not at least 2 numbers in one dimension or ``sigma`` not a finite number
            above 0.

    Source: Gao, Xing, Xie, Wu, Geng 2017 (arXiv:1611.01731).

    Example:
        >>> gaussian_labels([0, 2, 6])
        tensor([[0.6182, 0.3749, 0.0069],
                [0.3482, 0.5741, 0.0777],
                [0.0097, 0.1180, 0.8723]], dtype=torch.float64)
    """
    check_positive_number("sigma", sigma)
    # Divided before it is squared: the square of a tiny sigma would be 0.
    return (_differences(class_values) / sigma).square().mul(-0.5).softmax(-1)


def sord_labels(class_values: Tensor | Sequence[float], distance: Distance = "absolute", scale: float = 1.0) -> Tensor:
    r"""SORD label distributions: the softmax of minus the distance from the class.

    .. math:: q_{jk} = \frac{\exp(-\phi(a_j, a_k))}{\sum_i \exp(-\phi(a_j, a_i))},
        \qquad \phi(a, b) = s\, |a - b| \quad\text{or}\quad s\, (a - b)^2

    Args:
        class_values: The values :math:`a` of the classes, e.g. ages: ``(K,)``, all different. They are not looked at,
            so this is cheap enough for a training step.
        distance: ``"absolute"`` or ``"squared"``.
        scale: The factor :math:`s`; a higher one is more peaked.

    Returns:
        ``(K, K)`` on the device of the values, float64 (float32 where the device has none); row j is the distribution
        of class j.

    Raises:
        ValueError: if ``class_values`` are not at least 2 numbers in one dimension, ``distance`` is unknown or
            ``scale`` not a finite number above 0.

    Source: Díaz, Marathe, CVPR 2019, equation 1.

    Example:
        >>> sord_labels([0, 1, 3])
        tensor([[0.7054, 0.2595, 0.0351],
                [0.2447, 0.6652, 0.0900],
                [0.0420, 0.1142, 0.8438]], dtype=torch.float64)
    """
    check_choice("distance", distance, tuple(DISTANCES))
    check_positive_number("scale", scale)
    return DISTANCES[distance](_differences(class_values)).mul(-scale).softmax(-1)


# The tables that need nothing but the number of classes, by name.
LABELS: dict[str, Callable[[int], Tensor]] = {
    "binomial": binomial_labels,
    "poisson": poisson_labels,
    "beta": beta_labels,
    "exponential": exponential_labels,
    "triangular": triangular_labels,
    "geometric": geometric_labels,
}


def soft_label_loss(
    logits: Tensor,
    target: Tensor,
    soft_labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross-entropy to the label distribution of the class.

    .. math:: \ell = -\sum_k q_{yk} \log p_k, \qquad p = \operatorname{softmax}(z)

    Its least value is the entropy of :math:`q_y`, not 0. A soft target is a mixture of rows of the table.

    Args:
        logits: ``(..., K)``.
        target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
        soft_labels: The distribution :math:`q_y` of each class, ``(K, K)``, a row a class.
        class_weights: ``(K,)``.
        sample_weight: ``(...)``.
        ignore_index: The class of samples that do not count; for integer targets only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Returns:
        A scalar, or ``(...)`` for ``"none"``, in float32 or wider.

    Raises:
        ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.

    Source: Díaz, Marathe, CVPR 2019, equation 2; Liu et al. 2020 (Neurocomputing 388).

    Example:
        >>> soft_label_loss(torch.zeros(2, 3), torch.tensor([0, 2]), triangular_labels(3))  # log 3
        tensor(1.0986)
    """
    check_floating("logits", logits)
    num_classes = logits.shape[-1]
    check_tensor("soft_labels", soft_labels, (num_classes, num_classes), logits.device)
    return soft_label_loss_of(
        logits,
        target,
        -soft_labels,
        class_weights=class_weights,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def soft_label_loss_of(logits: Tensor, target: Tensor, minus_labels: Tensor, **options: Unpack[CallOptions]) -> Tensor:
    """Return :func:`soft_label_loss`, given minus the label distributions ``(K, K)``.

    With their sign turned no pass over ``(N, K)`` does nothing but turn a sign.

    Example:
        >>> soft_label_loss_of(torch.zeros(2, 3), torch.tensor([0, 2]), -triangular_labels(3))  # log 3
        tensor(1.0986)
    """

    def hard(z: Tensor, y: Tensor) -> tuple[Tensor, Gradient]:
        return cross_entropy_to(cast_like(minus_labels, z).index_select(0, y), z)

    def soft(z: Tensor, q: Tensor) -> Tensor:
        return cross_entropy_to(mix(q, minus_labels), z)[0]

    return reduce_loss(
        hard,
        logits,
        target,
        num_classes=logits.shape[-1],
        soft=soft,
        closed_form=constant(minus_labels),
        **options,
    )


def cross_entropy_to(minus_labels: Tensor, z: Tensor, minus_entropy: Tensor | None = None) -> tuple[Tensor, Gradient]:
    r"""Return the terms, ``(N, K)``, of the cross-entropy of the softmax of ``z`` to distributions, and its gradient.

    Args:
        minus_labels: Minus the distributions q, ``(N, K)``. Overwritten by the gradient.
        z: ``(N, K)``.
        minus_entropy: What :func:`minus_entropy_of` returns of each q, ``(N, K)``: with it they are the terms
            :math:`q_j \log(q_j / p_j)` of the Kullback-Leibler divergence. May be overwritten.

    Example:
        >>> terms, gradient = cross_entropy_to(torch.tensor([[-0.5, -0.5]]), torch.zeros(1, 2))
        >>> terms, gradient()
        (tensor([[0.3466, 0.3466]]), tensor([[0., 0.]]))
    """
    log_probs = log_softmax(z)
    if minus_entropy is None:
        terms = minus_labels * log_probs
    else:
        terms = torch.addcmul(minus_entropy, minus_labels, log_probs, out=over(minus_entropy))
    return terms, lambda: log_softmax_gradient(minus_labels, log_probs)


def minus_entropy_of(soft_labels: Tensor) -> Tensor:
    r"""Return :math:`q_j \log q_j` of each probability, ``(..., K)``; a row sums to minus its entropy.

    Args:
        soft_labels: q, ``(..., K)``.

    Example:
        >>> minus_entropy_of(torch.tensor([0.5, 0.5, 0.0]))
        tensor([-0.3466, -0.3466,  0.0000])
    """
    return torch.xlogy(soft_labels, soft_labels)


def mix(weights: Tensor, table: Tensor) -> Tensor:
    """Return the sums of the rows of a table ``(K, K)`` with the weights ``(N, K)``, in the precision of the weights.

    Example:
        >>> mix(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        tensor([[0.7500, 0.2500]])
    """
    device = weights.device.type
    # Autocast would round both to half precision. Devices that only trace, such as "meta", have none.
    exact = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
    with exact:
        return weights @ table.to(weights.dtype)


@register("soft-labels")
class SoftLabelLoss(OrdinalLoss):
    """Cross-entropy to label distributions as a module, see :func:`soft_label_loss`.

    Args:
        num_classes: Number of ordered classes K.
        labels: The name of a table of this module in its default form, one of ``LABELS``, or a table of your own,
            ``(K, K)``: one distribution a row.
        eta: How much of the label is spread, from 0 (one-hot) to 1.
        **options: See :class:`OrdinalLoss`.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Example:
        >>> loss = SoftLabelLoss(num_classes=5, labels=beta_labels(5, spread=1.0))
        >>> loss(torch.zeros(2, 5), torch.tensor([0, 4]))  # log 5
        tensor(1.6094)
    """

    summary = "cross-entropy to a label spread over the neighbouring classes"
    source = "Liu et al. 2020 (Neurocomputing 388)"
    paper_decoder = "mode"

    minus_labels: Option[Tensor] = Option()

    def __init__(
        self,
        num_classes: int,
        *,
        labels: str | Tensor = "exponential",
        eta: float = 1.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, **options)
        if isinstance(labels, str):
            check_choice("labels", labels, tuple(LABELS))
        table = LABELS[labels](num_classes) if isinstance(labels, str) else _as_table(labels, num_classes)
        if not isinstance(eta, (int, float)) or not 0 <= eta <= 1:
            raise ValueError(f"Expected `eta` to be a number from 0 to 1, but got {describe(eta)}")
        self.labels = labels if isinstance(labels, str) else "..."
        self.eta = eta
        one_hot = torch.eye(num_classes, dtype=table.dtype, device=table.device)
        self.register_option("minus_labels", ((eta - 1) * one_hot - eta * table).to(torch.get_default_dtype()))

    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return :func:`soft_label_loss`."""
        return soft_label_loss_of(logits, target, self.minus_labels, **options)

    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return :func:`softmax_log_probs`."""
        return softmax_log_probs(logits)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return f"{super().extra_repr()}, labels={self.labels!r}, eta={self.eta}"


def _classes(num_classes: int) -> Tensor:
    return torch.arange(as_integer("num_classes", num_classes, at_least=2), dtype=torch.float64)


def _steps(num_classes: int) -> Tensor:
    """How many classes lie from each class to each other one."""
    classes = _classes(num_classes)
    return (classes - classes.unsqueeze(-1)).abs()


def _differences(class_values: Tensor | Sequence[float]) -> Tensor:
    """Return what each class (column) has more than each other one (row), as precisely as the device can."""
    values = class_values if isinstance(class_values, torch.Tensor) else _from_sequence(class_values)
    if values.dim() != 1 or len(values) < 2 or values.is_complex() or values.dtype == torch.bool:
        raise ValueError(
            f"Expected `class_values` to hold at least 2 numbers in one dimension, but got {describe(class_values)}"
        )
    # In float32 a row would sum to one within 1e-7 only. Apple's devices have no wider type.
    wide = values.to(torch.float32 if values.device.type == "mps" else torch.float64)
    return pairwise_differences(wide)


def _from_sequence(class_values: Sequence[float]) -> Tensor:
    try:
        return torch.as_tensor(class_values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"Expected `class_values` to hold at least 2 numbers in one dimension, but got {describe(class_values)}"
        ) from None


def _as_table(labels: object, num_classes: int) -> Tensor:
    shape = (num_classes, num_classes)
    if not isinstance(labels, torch.Tensor) or not labels.is_floating_point() or labels.shape != shape:
        names = ", ".join(map(repr, LABELS))
        raise ValueError(
            f"Expected `labels` to be one of {names} or a tensor of shape {shape}, but got {describe(labels)}"
        )
    if bool((labels < 0).any()) or not bool(((labels.sum(-1) - 1).abs() < 1e-3).all()):
        raise ValueError("Expected `labels` to hold rows of non-negative numbers that sum to 1")
    return labels.detach()
