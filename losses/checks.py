"""Argument checks: every error names the argument, what is allowed and what came.

Only shapes and dtypes are looked at everywhere. Values are looked at where that is free: on the CPU and outside of a
compiled graph. On an accelerator reading a value would make the host wait for the device at every step.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Sequence
from typing import Literal, SupportsIndex

import torch
from torch import Tensor
from torch.autograd import forward_ad

Reduction = Literal["mean", "sum", "none"]
REDUCTIONS = ("mean", "sum", "none")


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word that is closest, or nothing.

    Example:
        >>> did_you_mean("corall", ["coral", "corn"])
        "; did you mean 'coral'?"
    """
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def describe(value: object) -> str:
    """Say what an argument is, in the words of an error message.

    Example:
        >>> describe(torch.zeros(4, 3))
        'a tensor of float32, shape (4, 3)'
        >>> describe("3")
        "'3' (str)"
    """
    if isinstance(value, torch.Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}, shape {tuple(value.shape)}"
    return f"{value!r} ({type(value).__name__})"


def check_choice(argument: str, value: object, allowed: Sequence[str]) -> None:
    """Raise a ``ValueError`` unless ``value`` is one of ``allowed``.

    Example:
        >>> check_choice("reduction", "avg", ("mean", "sum", "none"))
        Traceback (most recent call last):
        ValueError: Expected `reduction` to be one of 'mean', 'sum', 'none', but got 'avg' (str)
    """
    if value not in allowed:
        words = ", ".join(map(repr, allowed))
        raise ValueError(
            f"Expected `{argument}` to be one of {words}, but got {describe(value)}{did_you_mean(value, allowed)}"
        )


def as_integer(argument: str, value: object, at_least: int | None = None) -> int:
    """Return an integer, of any library, as an ``int``.

    Raises:
        ValueError: if it is no integer, or below ``at_least``.

    Example:
        >>> as_integer("num_classes", 1, at_least=2)
        Traceback (most recent call last):
        ValueError: Expected `num_classes` to be an integer of at least 2, but got 1 (int)
    """
    number = None if isinstance(value, bool) or not isinstance(value, SupportsIndex) else operator.index(value)
    if number is None or (at_least is not None and number < at_least):
        wanted = "an integer" if at_least is None else f"an integer of at least {at_least}"
        raise ValueError(f"Expected `{argument}` to be {wanted}, but got {describe(value)}")
    return number


def check_non_negative_number(argument: str, value: object) -> None:
    """Raise a ``ValueError`` unless ``value`` is a finite number that is not negative.

    Example:
        >>> check_non_negative_number("mean_weight", -1.0)
        Traceback (most recent call last):
        ValueError: Expected `mean_weight` to be a finite number of at least 0, but got -1.0 (float)
    """
    if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"Expected `{argument}` to be a finite number of at least 0, but got {describe(value)}")


def check_positive_number(argument: str, value: object) -> None:
    """Raise a ``ValueError`` unless ``value`` is a finite number above 0.

    Example:
        >>> check_positive_number("sigma", 0)
        Traceback (most recent call last):
        ValueError: Expected `sigma` to be a finite number above 0, but got 0 (int)
    """
    if not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"Expected `{argument}` to be a finite number above 0, but got {describe(value)}")


def check_floating(argument: str, value: Tensor) -> None:
    """Raise a ``ValueError`` unless ``value`` is a floating-point tensor whose last dimension is not empty.

    Example:
        >>> check_floating("logits", "0.5")
        Traceback (most recent call last):
        ValueError: Expected `logits` to be a floating-point tensor of shape (..., C), but got '0.5' (str)
    """
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or not value.dim() or not value.shape[-1]:
        raise ValueError(
            f"Expected `{argument}` to be a floating-point tensor of shape (..., C), but got {describe(value)}"
        )


def check_width(logits: Tensor, width: int) -> None:
    """Raise a ``ValueError`` unless ``logits`` are ``(..., width)``.

    Example:
        >>> check_width(torch.zeros(4, 3), 2)
        Traceback (most recent call last):
        ValueError: Expected `logits` to have shape (..., 2), but got a tensor of float32, shape (4, 3)
    """
    if isinstance(logits, torch.Tensor) and logits.is_floating_point() and logits.dim() and logits.shape[-1] == width:
        return  # what is right needs one look
    check_floating("logits", logits)
    raise ValueError(f"Expected `logits` to have shape (..., {width}), but got {describe(logits)}")


def as_vector(argument: str, values: Tensor | Sequence[float], size: int) -> Tensor:
    """Return one finite number a class (or task) as a floating-point tensor.

    Raises:
        ValueError: if they are not ``size`` finite numbers in one dimension.

    Example:
        >>> as_vector("class_values", [0, 5, 15], 3)
        tensor([ 0.,  5., 15.])
    """
    try:
        vector = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"Expected `{argument}` to hold {size} numbers, but got {describe(values)}") from None
    if vector.shape != (size,) or vector.is_complex() or vector.dtype == torch.bool:
        raise ValueError(f"Expected `{argument}` to hold {size} numbers, shape ({size},), but got {describe(vector)}")
    if not vector.is_floating_point():
        vector = vector.to(torch.get_default_dtype())
    if is_readable(vector) and not bool(vector.isfinite().all()):
        raise ValueError(f"Expected `{argument}` to hold finite numbers, but got {vector.tolist()}")
    return vector.detach().clone()


def as_class_values(values: Tensor | Sequence[float], num_classes: int) -> Tensor:
    """Return the representative value of each class, which must increase from class to class.

    Raises:
        ValueError: if there is not one finite number a class, or their order is not that of the classes.

    Example:
        >>> as_class_values([0, 15, 5], 3)
        Traceback (most recent call last):
        ValueError: Expected `class_values` to increase from class to class, but got [0.0, 15.0, 5.0]
    """
    vector = as_vector("class_values", values, num_classes)
    if is_readable(vector) and not bool((vector.diff() > 0).all()):
        raise ValueError(f"Expected `class_values` to increase from class to class, but got {vector.tolist()}")
    return vector


def as_weights(argument: str, values: Tensor | Sequence[float], size: int) -> Tensor:
    """Return one non-negative weight a class (or task).

    Raises:
        ValueError: if they are not ``size`` finite non-negative numbers.

    Example:
        >>> as_weights("class_weights", [1, -2], 2)
        Traceback (most recent call last):
        ValueError: Expected `class_weights` to hold no negative number, but got [1.0, -2.0]
    """
    vector = as_vector(argument, values, size)
    if is_readable(vector) and bool((vector < 0).any()):
        raise ValueError(f"Expected `{argument}` to hold no negative number, but got {vector.tolist()}")
    return vector


def as_prior(values: Tensor | Sequence[float], size: int) -> Tensor:
    """Return one positive probability a class.

    Raises:
        ValueError: if they are not ``size`` positive numbers that sum to one.

    Example:
        >>> as_prior([0.5, 0.5, 0.0], 3)
        Traceback (most recent call last):
        ValueError: Expected `prior` to hold positive numbers that sum to 1, but got [0.5, 0.5, 0.0]
    """
    vector = as_vector("prior", values, size)
    if bool((vector <= 0).any()) or abs(float(vector.sum()) - 1) > 1e-3:
        raise ValueError(f"Expected `prior` to hold positive numbers that sum to 1, but got {vector.tolist()}")
    return vector


def check_tensor(argument: str, value: Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    """Raise a ``ValueError`` unless ``value`` is a real tensor of exactly this shape on this device.

    Example:
        >>> check_tensor("task_weights", torch.ones(1), (9,), torch.device("cpu"))
        Traceback (most recent call last):
        ValueError: Expected `task_weights` to be a tensor of shape (9,), but got a tensor of float32, shape (1,)
    """
    if not isinstance(value, torch.Tensor) or value.shape != shape or value.is_complex():
        raise ValueError(f"Expected `{argument}` to be a tensor of shape {shape}, but got {describe(value)}")
    check_device(argument, value, device)


def check_device(argument: str, value: Tensor, device: torch.device) -> None:
    """Raise a ``ValueError`` unless ``value`` is on ``device``.

    Example:
        >>> check_device("target", torch.zeros(2, device="meta"), torch.device("cpu"))
        Traceback (most recent call last):
        ValueError: Expected `target` to be on the device of `logits`, cpu, but it is on meta
    """
    if value.device != device:
        raise ValueError(
            f"Expected `{argument}` to be on the device of `logits`, {device}, but it is on {value.device}"
        )


def check_not_negative(argument: str, value: Tensor) -> None:
    """Raise a ``ValueError`` if a value that can be read for free is negative or not a number.

    Example:
        >>> check_not_negative("sample_weight", torch.tensor([1.0, -1.0]))
        Traceback (most recent call last):
        ValueError: Expected `sample_weight` to hold finite numbers, none negative, but got values from -1 to 1
    """
    if is_readable(value):
        low, high = (float(bound) for bound in value.detach().aminmax())
        if not 0 <= low <= high < float("inf"):
            raise ValueError(
                f"Expected `{argument}` to hold finite numbers, none negative, but got values from {low:g} to {high:g}"
            )


def check_target(target: Tensor, logits: Tensor, num_classes: int) -> bool:
    """Check type and shape of a target; return whether it holds class probabilities.

    Raises:
        ValueError: if it is neither classes ``(...)`` nor probabilities ``(..., K)``, or the batch is empty.

    Example:
        >>> check_target(torch.tensor([0, 2]), torch.zeros(2, 3), num_classes=3)
        False
        >>> check_target(torch.tensor([0]), torch.zeros(2, 3), num_classes=3)
        Traceback (most recent call last):
        ValueError: Expected `target` to hold integer classes of shape (2,), but got a tensor of int64, shape (1,)
    """
    # What is right needs one look: on small batches a check costs as much as the arithmetic.
    usual = isinstance(target, torch.Tensor) and target.dtype is torch.int64
    if usual and target.shape == logits.shape[:-1] and target.device == logits.device and target.numel():
        return False
    leading = tuple(logits.shape[:-1])
    if not isinstance(target, torch.Tensor) or target.dtype == torch.bool or target.is_complex():
        raise ValueError(
            f"Expected `target` to be a tensor of integer classes, shape {leading}, or of class probabilities, "
            f"shape {(*leading, num_classes)}, but got {describe(target)}"
        )
    soft = target.is_floating_point()
    expected = (*leading, num_classes) if soft else leading
    if target.shape != expected:
        kind = "class probabilities" if soft else "integer classes"
        raise ValueError(f"Expected `target` to hold {kind} of shape {expected}, but got {describe(target)}")
    check_device("target", target, logits.device)
    if target.numel() == 0:
        raise ValueError(f"Expected `target` to hold at least one sample, but got {describe(target)}")
    return soft


def check_classes(target: Tensor, num_classes: int, ignore_index: int) -> bool:
    """Check the range of integer classes where that is free; return whether some may be ``ignore_index``.

    Raises:
        ValueError: if a class is outside of ``0 .. num_classes - 1`` and is not ``ignore_index``.

    Example:
        >>> check_classes(torch.tensor([0, 4]), num_classes=5, ignore_index=-100)
        False
        >>> check_classes(torch.tensor([0, 99]), num_classes=5, ignore_index=-100)
        Traceback (most recent call last):
        ValueError: Expected `target` to hold classes from 0 to 4, or -100 for samples to ignore, but got 99
    """
    if not is_readable(target):
        return True
    bounds = target.aminmax()
    low, high = bounds.min.item(), bounds.max.item()
    if low >= 0 and high < num_classes and not low <= ignore_index <= high:
        return False
    wrong = ((target < 0) | (target >= num_classes)) & (target != ignore_index)
    if bool(wrong.any()):
        first = int(target.flatten()[wrong.flatten().int().argmax()])
        raise ValueError(
            f"Expected `target` to hold classes from 0 to {num_classes - 1}, or {ignore_index} for samples to ignore, "
            f"but got {first}"
        )
    return True


def check_distribution(target: Tensor) -> None:
    """Check where it is free that class probabilities are not negative and sum to one (within 1%).

    Example:
        >>> check_distribution(torch.tensor([0.5, 0.25]))
        Traceback (most recent call last):
        ValueError: Expected `target` to hold class probabilities that sum to 1, but got sums from 0.75 to 0.75
    """
    if is_readable(target):
        check_not_negative("target", target)
        low, high = (float(bound) for bound in target.detach().sum(-1, dtype=torch.float64).aminmax())
        if not 0.99 <= low <= high <= 1.01:
            raise ValueError(
                f"Expected `target` to hold class probabilities that sum to 1, but got sums from {low:g} to {high:g}"
            )


def is_transformed() -> bool:
    """Whether somebody looks at each operation: a compiler, a tracer, ``torch.func``, forward derivatives, or a mode.

    Backward derivatives are not meant, see :func:`torch.is_grad_enabled`.

    Example:
        >>> is_transformed()
        False
    """
    # torch asks the same private functions and names; there are no public ones.
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
    )


def is_recorded() -> bool:
    """Whether what is computed now may be needed again, or seen, by somebody else: nothing may be overwritten.

    Example:
        >>> with torch.no_grad():
        ...     is_recorded()
        False
    """
    return torch.is_grad_enabled() or is_transformed()


def is_readable(value: Tensor) -> bool:
    """Whether looking at the values neither waits for a device nor breaks a graph, a ``vmap`` or a batched gradient.

    Example:
        >>> is_readable(torch.zeros(2)), is_readable(torch.zeros(2, device="meta"))
        (True, False)
    """
    # The last is what torch.autograd.grad(is_grads_batched=True) hands to a backward.
    return value.is_cpu and not is_transformed() and not torch._C._functorch.is_legacy_batchedtensor(value)
