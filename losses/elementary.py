"""Elementary functions as the losses need them: with all digits, and fast on a CPU.

What was measured there, on one thread: an operation costs some microseconds however small its tensor is, and a number
of Python in it as much again; ``exp`` takes two to three times as long as ``exp2``, ``softplus`` as long as ``exp`` and
``log1p`` together; and the softmax of rows that are shorter than a vector register is computed number by number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from .checks import is_readable, is_recorded, is_transformed

# torch has no public name for the derivatives of softmax and its logarithm, `_softmax_backward_data` and
# `_log_softmax_backward_data`, but its compilers, exporters and other libraries call them.

# Above it softplus returns its argument. The default of 20 drops digits that float64 has.
THRESHOLD = 80
LOG2_E = math.log2(math.e)

# From about how many numbers on an operation costs more than calling it.
MANY = 4096

# How many float32 a vector register of this processor holds, as far as torch makes use of it.
REGISTER = {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 0)

# For an argument of -0, log1p of torch on AVX-512 loads its result under a mask. Until somebody asks for that result,
# the page it lies on is not mapped, and each load that is masked out traps: softplus, log1p and expm1 take six to ten
# times as long. Asking once maps the page.
torch.log1p(torch.full((64,), -0.0, dtype=torch.float32, device="cpu"))


def number(value: float, like: Tensor) -> Tensor | float:
    """Return a number as an operand for ``like``: as a tensor on a CPU, where every operation would make one of it.

    It must not be overwritten: the next one to ask gets the same tensor.

    Example:
        >>> number(3, torch.zeros(2))
        tensor(3.)
    """
    if not like.is_cpu:
        return value
    # One that is made while a compiler, torch.func or a mode that fakes tensors is at work belongs to that work alone.
    make = _make_number if type(like) is not Tensor or is_transformed() else _kept_number
    return make(value, like.dtype)


def _make_number(value: float, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # or the tensor could not be used where something is recorded
        return torch.scalar_tensor(value, dtype=dtype, device="cpu")


_kept_number = lru_cache(maxsize=256)(_make_number)


def softplus(x: Tensor) -> Tensor:
    r"""Return :math:`\log(1 + e^x) = -\log\sigma(-x)`, with all digits of its type and a gradient anywhere.

    Not ``F.logsigmoid``: on a CPU with several threads that wakes all of them for a single number, which takes
    milliseconds on a busy machine.

    Example:
        >>> softplus(torch.tensor([-1e4, 0.0, 1e4]))
        tensor([0.0000e+00, 6.9315e-01, 1.0000e+04])
    """
    return F.softplus(x, threshold=THRESHOLD)


def log_sigmoid(x: Tensor) -> Tensor:
    r"""Return :math:`\log\sigma(x)`, see :func:`softplus`.

    Example:
        >>> log_sigmoid(torch.tensor(0.0))
        tensor(-0.6931)
    """
    return -softplus(-x)


def softplus_over(x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    r"""Return the softplus of an intermediate result, and what returns its derivative :math:`\sigma(x)`.

    Where nothing is recorded, the derivative may be asked for, once; x is overwritten. Many numbers have fewer digits
    than those of :func:`softplus`, see :func:`exp_over`.

    Args:
        x: Of any shape, which both results have.

    Example:
        >>> with torch.no_grad():
        ...     values, slopes = softplus_over(torch.tensor([0.0, 80.0]))
        ...     values, slopes()
        (tensor([ 0.6931, 80.0000]), tensor([0.5000, 1.0000]))
    """
    # One exponential for both, but some more small operations, and one look at whether it would overflow.
    one = not is_recorded() and x.numel() >= 4 * MANY and is_readable(x) and x.amax().item() <= THRESHOLD
    if not one:
        return softplus(x), x.sigmoid_
    powers = exp_over(x)
    return powers.log1p(), lambda: powers.div_(powers + number(1, powers))


def log1mexp(x: Tensor) -> Tensor:
    r"""Return :math:`\log(1 - e^x)` for x <= 0, with all digits; minus infinity with a zero gradient at 0.

    Example:
        >>> log1mexp(torch.tensor([-40.0, -0.6931, 0.0]))
        tensor([-4.2484e-18, -6.9319e-01,        -inf])
    """
    tie = x >= 0
    # Made harmless before the logarithm: a gradient through log(0) would be NaN even if masked.
    x = x.masked_fill(tie, -1)
    rest = -torch.expm1(x)
    # Near 1 the rest is rounded, by what (1 - rest) - exp(x) says without a rounding of its own.
    return (rest.log() + ((1 - rest) - x.exp())).masked_fill(tie, -torch.inf)


def exp_over(x: Tensor) -> Tensor:
    """Return the exponential of an intermediate result; where nothing is recorded, in its place.

    Many numbers go by ``exp2``, whose argument is rounded: relative to the result that is half a unit of x in the last
    place, 4e-6 at -80 in float32.

    Example:
        >>> exp_over(torch.tensor([0.0, -1.0]))
        tensor([1.0000, 0.3679])
    """
    if is_recorded():
        return x.exp()
    # One operation less is worth more than the faster one on a few numbers.
    return x.exp_() if x.numel() < MANY else x.mul_(number(LOG2_E, x)).exp2_()


def softmax(z: Tensor) -> Tensor:
    """Return the softmax of each row, ``(N, K)``.

    Example:
        >>> softmax(torch.zeros(1, 4))
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    if _in_parts(z):
        powers = (z - z.amax(-1, keepdim=True)).exp_()
        return powers.div_(powers.sum(-1, keepdim=True))
    return F.softmax(z, dim=-1)


def log_softmax(z: Tensor) -> Tensor:
    """Return the logarithm of the softmax of each row, ``(N, K)``.

    Example:
        >>> log_softmax(torch.zeros(1, 4))
        tensor([[-1.3863, -1.3863, -1.3863, -1.3863]])
    """
    if _in_parts(z):
        shifted = z - z.amax(-1, keepdim=True)
        return shifted.sub_(shifted.exp().sum(-1, keepdim=True).log_())
    return F.log_softmax(z, dim=-1)


def log_softmax_gradient(outer: Tensor, log_probs: Tensor) -> Tensor:
    r"""Return the gradient in the logits of what has the gradient g in the logarithms of their softmax.

    .. math:: \frac{\partial \ell}{\partial z_j} = g_j - p_j \sum_i g_i

    Args:
        outer: g, ``(N, K)``. May be overwritten, also with the result.
        log_probs: :math:`\log p`, ``(N, K)``. May be overwritten.

    Example:
        >>> log_softmax_gradient(torch.tensor([[-1.0, 0.0]]), torch.tensor([[0.5, 0.5]]).log())
        tensor([[-0.5000,  0.5000]])
    """
    if _in_parts(log_probs):
        return outer.addcmul_(exp_over(log_probs), outer.sum(-1, keepdim=True), value=-1)
    return torch._log_softmax_backward_data(outer, log_probs, -1, log_probs.dtype, out=_place_of(outer))


def softmax_gradient(outer: Tensor, probs: Tensor, exact: bool = False) -> Tensor:
    r"""Return the gradient in the logits of what has the gradient c in their softmax.

    .. math:: \frac{\partial \ell}{\partial z_j} = p_j \Bigl( c_j - \sum_i p_i c_i \Bigr)

    For a class that has nearly all the probability the difference is mostly the rounding of c. Its digits are all there
    where c is taken relative to that class or to :math:`\sum_i p_i c_i`; else ask for ``exact``.

    Args:
        outer: c, ``(N, K)``. May be overwritten, also with the result.
        probs: p, ``(N, K)``.
        exact: Whether to subtract once more what a row sums to: that should be zero, and is that rounding.

    Example:
        >>> softmax_gradient(torch.tensor([[4.0, 0.0]]), torch.tensor([[0.25, 0.75]]))
        tensor([[ 0.7500, -0.7500]])
    """
    if _in_parts(probs):
        gradient = outer.mul_(probs)
        gradient.addcmul_(probs, gradient.sum(-1, keepdim=True), value=-1)
    else:
        gradient = torch._softmax_backward_data(outer, probs, -1, probs.dtype, grad_input=_place_of(outer))
    return gradient.addcmul_(probs, gradient.sum(-1, keepdim=True), value=-1) if exact else gradient


def _place_of(outer: Tensor) -> Tensor | None:
    """Return where a gradient may go: over ``outer`` where the kernel reads a number before it writes there."""
    # What is not contiguous would be read as it is and written as if it were.
    return outer if outer.is_cpu and outer.is_contiguous() else None


def _in_parts(z: Tensor) -> bool:
    """Return whether the rows are shorter than a vector register, but not so short that it does not matter."""
    return 3 < z.shape[-1] < REGISTER and z.is_cpu and not is_recorded()
