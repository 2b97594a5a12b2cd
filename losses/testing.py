"""The contract that every loss keeps, as checks that anybody can run on a loss of their own.

It needs torch alone. In a test suite::

    from ordage.losses.testing import CHECKS, check_loss

    def test_my_loss_keeps_the_contract():
        check_loss("my-loss")

or, for a test of its own for each point, parametrise over ``CHECKS``.
"""

from __future__ import annotations

import copy
import functools
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .base import Decoder, OrdinalLoss
from .registry import create

LossFactory = Callable[..., OrdinalLoss]
Check = Callable[[LossFactory], None]

CHECKS: dict[str, Check] = {}
"""The checks by name, in the order in which :func:`check_loss` runs them.

Each takes a factory, called as ``factory(num_classes, **options)``, and raises an ``AssertionError`` that says what is
wrong.
"""


def check_loss(loss: str | LossFactory, **options: Any) -> None:
    """Run every check on a loss.

    Args:
        loss: The name of a registered loss, or a class or function called as ``loss(num_classes, **options)``.
        **options: Options to check it with.

    Raises:
        AssertionError: at the first check that fails; the message names the loss, the check and what is wrong.

    Example:
        >>> check_loss("corn", normalization="samples")
    """
    for name, check in CHECKS.items():
        try:
            check(factory(loss, **options))
        except AssertionError as error:
            raise AssertionError(f"The loss {loss!r} fails the check {name!r}: {error}") from error


def factory(loss: str | LossFactory, **options: Any) -> LossFactory:
    """Return what the checks take: ``factory(num_classes, **more_options)``.

    Example:
        >>> factory("corn", normalization="samples")(5)
        CornLoss(num_classes=5, reduction='mean', normalization='samples')
    """
    make = functools.partial(create, loss) if isinstance(loss, str) else loss
    return functools.partial(make, **options)


def _check(function: Check) -> Check:
    """Add a check to ``CHECKS``; whatever it meets, it fails with an ``AssertionError``."""

    @functools.wraps(function)
    def check(make: LossFactory) -> None:
        try:
            function(make)
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"unexpected {type(error).__name__}: {error}") from error

    CHECKS[function.__name__.removeprefix("_check_")] = check
    return check


@_check
def _check_interface(make: LossFactory) -> None:
    """It is a module that names what it is, and its methods return what they promise."""
    loss = make(4)
    _require(isinstance(loss, OrdinalLoss), f"expected an OrdinalLoss, but got {type(loss).__name__}")
    for attribute in ("summary", "source"):
        text = getattr(loss, attribute, None)
        _require(isinstance(text, str) and text and "\n" not in text, f"`{attribute}` should be one line, not {text!r}")
    decoder = getattr(loss, "paper_decoder", None)
    _require(decoder in get_args(Decoder), f"`paper_decoder` should be one of {get_args(Decoder)}, not {decoder!r}")
    _require(loss.num_classes == 4, f"`num_classes` should be 4, not {loss.num_classes}")
    _require(isinstance(loss.out_features, int) and loss.out_features >= 1, f"`out_features` is {loss.out_features!r}")
    _require(f"num_classes={loss.num_classes}" in repr(loss), f"repr should show the options: {loss!r}")
    _close(loss.class_values, torch.arange(4.0), "`class_values` should default to 0 .. K - 1")
    _close(make(3, class_values=[1, 5, 20]).class_values, torch.tensor([1.0, 5, 20]), "`class_values` should be kept")

    logits, target = _batch(loss, 8)
    logits.requires_grad_()
    value = loss(logits, target)
    _require(value.shape == () and value.dtype == torch.float32, f"the loss should be a float32 scalar, not {value!r}")
    (grad,) = torch.autograd.grad(value, logits)
    _require(grad.any(), "the loss should have a gradient")
    log_probs = loss.log_probs(logits)
    _require(log_probs.shape == (8, 4), f"`log_probs` should have shape (8, 4), not {tuple(log_probs.shape)}")
    violations = loss.violations(logits)
    _require(violations.shape == (8,) and violations.dtype == torch.bool, "`violations` should be (N,) bools")
    _require(loss.normalizer(target).shape == (8,), "`normalizer` should be one number a sample")


@_check
def _check_inputs_untouched(make: LossFactory) -> None:
    """Computing changes neither the arguments nor the random state, and gives the same value again."""
    loss = make(5)
    logits, target = _batch(loss, 10)
    target[0] = loss.ignore_index
    weight = torch.linspace(0.5, 2, 10)
    before = [tensor.clone() for tensor in (logits, target, weight)]
    state = torch.get_rng_state()

    first, second = loss(logits, target, weight), loss(logits, target, weight)
    loss.log_probs(logits)

    _require(torch.equal(first, second), f"the same arguments gave {first} and {second}")
    _require(torch.equal(state, torch.get_rng_state()), "the global random state changed")
    for name, old, new in zip(("logits", "target", "sample_weight"), before, (logits, target, weight), strict=True):
        _require(torch.equal(old, new), f"`{name}` was changed in place")


@_check
def _check_log_probs(make: LossFactory) -> None:
    """Any logits give a distribution: no negative probability, no NaN, a sum of one, and a gradient that is finite."""
    for num_classes in (2, 3, 10, 101):
        loss = make(num_classes)
        for logits in _extreme_logits(loss.out_features):
            for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
                if dtype == torch.float16:
                    logits = logits.clamp(-6e4, 6e4)
                log_probs = loss.log_probs(logits.to(dtype))
                wanted = torch.float64 if dtype == torch.float64 else torch.float32
                _require(log_probs.dtype == wanted, f"{dtype} logits should give {wanted}, not {log_probs.dtype}")
                _require(not log_probs.isnan().any(), f"NaN for K={num_classes}, logits {_short(logits)}")
                _require((log_probs <= 1e-5).all(), f"a probability over 1 for K={num_classes}, {_short(logits)}")
                total = log_probs.exp().sum(-1)
                _close(total, torch.ones_like(total), f"probabilities should sum to 1, K={num_classes}", atol=2e-5)
            leaf = logits.float().requires_grad_()
            log_probs = loss.log_probs(leaf)
            if loss.predicts_point:
                _require(((log_probs == 0).sum(-1) == 1).all(), "a point should have all its probability at one class")
                continue
            (grad,) = torch.autograd.grad(torch.where(log_probs.isfinite(), log_probs, 0).sum(), leaf)
            _require(grad.isfinite().all(), f"gradient of log_probs for K={num_classes}, logits {_short(logits)}")


@_check
def _check_head(make: LossFactory) -> None:
    """The head is fresh, gives logits of the right width, and the loss trains all of it."""
    loss = make(4)
    head = loss.make_head(6)
    logits = head(torch.randn(5, 6, generator=_generator()))
    _require(logits.shape == (5, loss.out_features), f"logits should be (5, {loss.out_features}), not {logits.shape}")
    parameters = dict(head.named_parameters())
    grads = torch.autograd.grad(loss(logits, torch.arange(5) % 4), list(parameters.values()), allow_unused=True)
    for name, grad in zip(parameters, grads, strict=True):
        _require(grad is not None and grad.isfinite().all(), f"no gradient for {name} of the head")
    other = loss.make_head(6)
    shared = {id(parameter) for parameter in parameters.values()} & {id(parameter) for parameter in other.parameters()}
    _require(not shared, "two heads share parameters")
    prior = torch.tensor([0.1, 0.2, 0.4, 0.3])
    informed = loss.make_head(6, prior=prior)
    start = informed(torch.zeros(1, 6))[0]
    if loss.predicts_point:
        _close(start, loss.prior_logits(prior), "a head should start from the best constant of its `prior`")
    else:
        _close(loss.log_probs(start).exp(), prior, "a head should start from its `prior`")
    _raises("in_features", loss.make_head, 0)
    for wrong in ([0.5, 0.5], [0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]):
        _raises("prior", loss.make_head, 6, prior=wrong)


@_check
def _check_prior(make: LossFactory) -> None:
    """Any distribution without a zero has logits; for a head that predicts a point, the best constant one."""
    for num_classes in (2, 3, 101):
        loss = make(num_classes)
        for scale in (0.0, 1.0, 5.0):
            prior = (scale * torch.randn(num_classes, generator=_generator())).softmax(-1)
            logits = loss.prior_logits(prior)
            _require(logits.shape == (loss.out_features,), f"`prior_logits` have shape {tuple(logits.shape)}")
            if loss.predicts_point:
                constants = logits + torch.tensor([[0.0], [-0.1], [0.1]])
                losses = make(num_classes, reduction="none")(constants, prior.expand(3, -1))
                _require(losses.argmin() == 0, f"{logits} is not the best constant for {prior}: {losses}")
            else:
                _close(loss.log_probs(logits).exp(), prior, "`log_probs` should undo `prior_logits`")


@_check
def _check_reductions(make: LossFactory) -> None:
    """``"sum"`` and ``"mean"`` follow from ``"none"``."""
    logits, target = _batch(make(5), 12)
    losses = make(5, reduction="none")(logits, target)
    _require(losses.shape == (12,), f"'none' should give (12,), not {tuple(losses.shape)}")
    _close(make(5, reduction="sum")(logits, target), losses.sum(), "'sum' should be the sum of 'none'")
    loss = make(5, reduction="mean")
    expected = losses.sum() / loss.normalizer(target).sum()
    _close(loss(logits, target), expected, "'mean' should be the sum of 'none' over the sum of `normalizer`")


@_check
def _check_class_weights(make: LossFactory) -> None:
    """A class of weight n counts as n samples; in a sum over samples, its losses and the divisor are multiplied."""
    logits, target = _batch(make(4), 12)
    copies = torch.tensor([1, 2, 0, 3])
    again = copies[target]
    for reduction in ("mean", "sum"):
        _close(
            make(4, reduction=reduction, class_weights=copies)(logits, target),
            make(4, reduction=reduction)(logits.repeat_interleave(again, 0), target.repeat_interleave(again)),
            f"a class of weight n should count as n samples, {reduction!r}",
        )
    weights = torch.tensor([0.5, 2.0, 0.0, 3.0])
    weighted = make(4, reduction="none", class_weights=weights)(logits, target)
    loss = make(4, class_weights=weights)
    expected = weighted.sum() / (weights[target] * loss.normalizer(target)).sum()
    _close(loss(logits, target), expected, "'mean' should be the weighted mean")
    if loss.separable:
        plain = make(4, reduction="none")(logits, target)
        _close(weighted, plain * weights[target], "'none' should be multiplied by the weight of the class")


@_check
def _check_sample_weight(make: LossFactory) -> None:
    """A sample of weight n counts as n samples; in a sum over samples, its loss and the divisor are multiplied."""
    logits, target = _batch(make(4), 12)
    again = torch.arange(12) % 4
    for reduction in ("mean", "sum"):
        loss = make(4, reduction=reduction)
        _close(
            loss(logits, target, again),
            loss(logits.repeat_interleave(again, 0), target.repeat_interleave(again)),
            f"a sample of weight n should count as n samples, {reduction!r}",
        )
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0])
    samples = torch.linspace(0, 2, 12)
    weighted = make(4, reduction="none", class_weights=weights)(logits, target, samples)
    loss = make(4, class_weights=weights)
    expected = weighted.sum() / (weights[target] * samples * loss.normalizer(target)).sum()
    _close(loss(logits, target, samples), expected, "'mean' should be the weighted mean")
    if loss.separable:
        plain = make(4, reduction="none")(logits, target)
        _close(weighted, plain * weights[target] * samples, "'none' should be multiplied by both weights")


@_check
def _check_ignore_index(make: LossFactory) -> None:
    """Ignored samples are as if they were not there."""
    for ignore_index in (-100, 255, 1):
        loss = make(4, ignore_index=ignore_index)
        logits, target = _batch(loss, 12)
        target[::3] = ignore_index
        keep = target != ignore_index
        logits.requires_grad_()
        value = loss(logits, target)
        (grad,) = torch.autograd.grad(value, logits)
        _close(value, loss(logits[keep], target[keep]), f"ignore_index={ignore_index} should leave those samples out")
        _require(not grad[~keep].any(), f"ignore_index={ignore_index} should give those samples no gradient")
        losses = make(4, ignore_index=ignore_index, reduction="none")(logits, target)
        _require(not losses[~keep].any(), "'none' should be zero where ignored")


@_check
def _check_nothing_weighs(make: LossFactory) -> None:
    """A batch that weighs nothing has the loss 0 and the gradient 0."""
    for reduction in ("mean", "sum", "none"):
        loss = make(4, reduction=reduction)
        logits, target = _batch(loss, 6)
        logits.requires_grad_()
        ignored = torch.full_like(target, loss.ignore_index)
        nothing = torch.zeros(6)
        soft = torch.full((6, 4), 0.25)
        for what, arguments in {
            "all ignored": (ignored,),
            "zero weights": (target, nothing),
            "soft targets with zero weights": (soft, nothing),
        }.items():
            value = loss(logits, *arguments)
            (grad,) = torch.autograd.grad(value.sum(), logits)
            _require(not value.any() and not grad.any(), f"{what}, {reduction!r}: loss {value}, gradient {grad}")


@_check
def _check_soft_targets(make: LossFactory) -> None:
    """A soft target is the sample once for each class, weighted by its probability."""
    num_classes = 5
    logits, target = _batch(make(num_classes), 8)
    one_hot = torch.nn.functional.one_hot(target, num_classes).float()
    for reduction in ("mean", "sum", "none"):
        loss = make(num_classes, reduction=reduction)
        _close(loss(logits, one_hot), loss(logits, target), f"a one-hot target should equal its class, {reduction!r}")

    soft = torch.randn(8, num_classes, generator=_generator()).softmax(-1)
    weights, samples = torch.linspace(0.5, 2, num_classes), torch.linspace(0, 2, 8)
    rows, classes = logits.repeat_interleave(num_classes, 0), torch.arange(num_classes).repeat(8)
    shares = (soft * samples[:, None]).flatten()
    for reduction in ("mean", "sum"):
        loss = make(num_classes, reduction=reduction)
        expected = loss(rows, classes, shares)
        _close(loss(logits, soft, samples), expected, f"a soft target should be a mixture of classes, {reduction!r}")
    total = make(num_classes, reduction="sum", class_weights=weights)
    _close(total(logits, soft, samples), total(rows, classes, shares), "class weights should weigh each class of it")
    loss = make(num_classes, class_weights=weights)
    if loss.separable:
        divisor = ((loss.normalizer(torch.arange(num_classes)) * soft).sum(-1) * samples).sum()
        _close(loss(logits, soft, samples), total(logits, soft, samples) / divisor, "the divisor has no class weights")
        each = make(num_classes, reduction="none", class_weights=weights)
        losses = torch.stack([each(logits, torch.full_like(target, k)) for k in range(num_classes)], -1)
        _close(each(logits, soft, samples), (losses * soft).sum(-1) * samples, "'none' should be the expected loss")


@_check
def _check_task_weights(make: LossFactory) -> None:
    """The loss, if it has binary tasks that can be weighted, is linear in their weights."""
    if not hasattr(make(5), "task_weights"):
        return
    logits, target = _batch(make(5), 10)
    soft = torch.randn(10, 5, generator=_generator()).softmax(-1)
    first, second = torch.tensor([1.0, 0.0, 2.0, 0.5]), torch.tensor([0.0, 1.0, 1.0, 3.0])
    for labels in (target, soft):
        _close(
            make(5, task_weights=torch.ones(4))(logits, labels), make(5)(logits, labels), "ones should change nothing"
        )
        parts = make(5, task_weights=first)(logits, labels) + make(5, task_weights=second)(logits, labels)
        _close(make(5, task_weights=first + second)(logits, labels), parts, "the loss should be linear in the weights")
    for wrong in (torch.ones(5), torch.ones(1), -torch.ones(4)):
        _raises("task_weights", make, 5, task_weights=wrong)


@_check
def _check_errors(make: LossFactory) -> None:
    """A wrong argument is a ``ValueError`` that names it; nothing is broadcast."""
    loss = make(4)
    logits, target = _batch(loss, 6)
    soft = torch.full((6, 4), 0.25)
    width = loss.out_features
    for wrong_logits in (
        torch.zeros(6, width + 1),
        torch.zeros(6, 0),
        torch.zeros(6, width, dtype=torch.int64),
        torch.tensor(0.0),
        [[0.0]],
    ):
        _raises("logits", loss, wrong_logits, target)
        _raises("logits", loss.log_probs, wrong_logits)
    for wrong_target in (
        target[:1],
        target[:, None],
        target[None],
        target.float(),
        target == 1,
        target.tolist(),
        torch.full_like(target, 4),
        torch.full_like(target, 99),
        torch.full_like(target, -1),
        soft[:1],
        soft[:, :3],
        torch.zeros(6, 5),
        soft * 2,
        torch.tensor([-0.5, 0.5, 0.5, 0.5]).expand(6, 4),
        soft * float("nan"),
    ):
        _raises("target", loss, logits, wrong_target)
    _raises("target", loss, logits[:0], target[:0])
    for wrong_weight in (torch.ones(1), torch.ones(6, 1), torch.tensor(1.0), -torch.ones(6), 2.0):
        _raises("sample_weight", loss, logits, target, wrong_weight)
    for option, wrongs in {
        "num_classes": (1, 0, -3, 2.5, "4", None, True),
        "class_values": ([1, 2], torch.zeros(4), [0, 2, 1, 3], [0, 1, 2, float("nan")], torch.zeros(1), "abcd"),
        "class_weights": ([1, 2], torch.ones(1), torch.ones(4, 1), [1, 1, 1, -1], "abcd"),
        "ignore_index": (0.5, "x"),
        "reduction": ("avg", None),
    }.items():
        for wrong in wrongs:
            _raises(option, make, **{"num_classes": 4, option: wrong})


@_check
def _check_saturated_logits(make: LossFactory) -> None:
    """Value and gradient are finite for logits up to 1e4, right or wrong, for any number of classes."""
    for num_classes in (2, 3, 10, 101):
        loss = make(num_classes)
        classes = torch.arange(num_classes)
        for row in _extreme_logits(loss.out_features):
            logits = row.expand(num_classes, -1).clone().requires_grad_()
            value = loss(logits, classes)
            (grad,) = torch.autograd.grad(value, logits)
            _require(value.isfinite(), f"the loss is {value} for K={num_classes}, logits {_short(row)}")
            _require(grad.isfinite().all(), f"the gradient is not finite for K={num_classes}, logits {_short(row)}")


@_check
def _check_precision(make: LossFactory) -> None:
    """Value and gradient are those of float64 for confident logits, right or wrong, in any floating-point type."""
    points = torch.tensor([-20.0, -6.0, 0.0, 6.0, 20.0])
    for num_classes in (2, 5):
        loss = make(num_classes, reduction="none")
        width = loss.out_features
        # Every combination of two logits; of more, all alike and each one alone.
        if width <= 2:
            grid = torch.cartesian_prod(*[points] * width).reshape(-1, width)
        else:
            patterns = torch.cat([torch.ones(1, width), torch.eye(width)])
            grid = (points[:, None, None] * patterns).reshape(-1, width)
        logits = grid.repeat_interleave(num_classes, 0)
        target = torch.arange(num_classes).repeat(len(grid))
        exact, exact_grad = _value_and_grad(loss, logits.double(), target)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            value, grad = _value_and_grad(loss, logits.to(dtype), target)
            _require(value.dtype == torch.float32, f"{dtype} logits should give a float32 loss, not {value.dtype}")
            # Beside 1% of the true number, the rounding of float32 at the scale of the sample.
            rounding = 4 * torch.finfo(torch.float32).eps * (1 + exact_grad.abs().amax(-1))
            limits = torch.finfo(dtype)
            off_value = (value.double() - exact).abs() > 0.01 * exact.abs() + rounding
            exact_here = exact_grad.clamp(limits.min, limits.max)
            off = (grad.double().clamp(limits.min, limits.max) - exact_here).abs()
            wrong = off > 0.01 * exact_here.abs() + rounding[:, None] + limits.tiny
            # Rounding may hide the gradient of one logit behind that of the others, but not all of them: a confident
            # and right sample still has a gradient, exp(-20) = 2e-9.
            seen = exact_grad.abs() > max(limits.tiny, 1e-9)
            lost = seen.any(-1) & ~((off <= 0.01 * exact_here.abs()) & seen).any(-1)
            for index in (off_value | wrong.any(-1) | lost).nonzero().flatten()[:1].tolist():
                raise AssertionError(
                    f"{dtype}, K={num_classes}, class {int(target[index])}, logits {logits[index].tolist()}: "
                    f"loss {value[index]:.6g} where {exact[index]:.6g} is right, "
                    f"gradient {grad[index].tolist()} where {exact_grad[index].tolist()} is right"
                )


@_check
def _check_autocast(make: LossFactory) -> None:
    """Autocast changes nothing: the loss computes in float32."""
    loss = make(10)
    logits, target = _batch(loss, 16)
    soft = torch.randn(16, 10, generator=_generator()).softmax(-1)
    for labels in (target, soft):
        value, grad = _value_and_grad(loss, logits, labels)
        with torch.autocast("cpu", torch.bfloat16):
            cast_value, cast_grad = _value_and_grad(loss, logits, labels)
            log_probs = loss.log_probs(logits)
        _require(cast_value.dtype == log_probs.dtype == torch.float32, "autocast changed the dtype")
        _close(cast_value, value, "autocast changed the loss")
        _close(cast_grad, grad, "autocast changed the gradient")
        _close(log_probs, loss.log_probs(logits), "autocast changed the log-probabilities")


@_check
def _check_leading_shapes(make: LossFactory) -> None:
    """Any leading shape works, none included, and any memory layout."""
    each, mean = make(4, reduction="none"), make(4)
    logits, target = _batch(each, 12)
    flat = each(logits, target)
    for shape in ((12,), (3, 4), (2, 3, 2)):
        shaped = logits.reshape(*shape, -1), target.reshape(shape)
        _close(each(*shaped), flat.reshape(shape), f"'none' for leading shape {shape}")
        _close(mean(*shaped), mean(logits, target), f"'mean' for leading shape {shape}")
        _require(each.log_probs(shaped[0]).shape == (*shape, 4), f"log_probs for leading shape {shape}")
        _require(each.violations(shaped[0]).shape == shape, f"violations for leading shape {shape}")
    alone = flat[0] if each.separable else each(logits[:1], target[:1])[0]
    _close(each(logits[0], target[0]), alone, "'none' for one sample without a leading shape")
    _close(mean(logits[0], target[0]), mean(logits[:1], target[:1]), "'mean' for one sample without a leading shape")
    _require(each.log_probs(logits[0]).shape == (4,), "log_probs for one sample without a leading shape")
    strided = torch.empty(logits.shape[::-1]).t().copy_(logits)
    _close(each(strided, target), flat, "logits that are not contiguous")
    _close(each(logits, target.int()), flat, "int32 classes")
    _close(each(logits, target.to(torch.uint8)), flat, "uint8 classes")


@_check
def _check_derivatives(make: LossFactory) -> None:
    """The gradient is the derivative, and its derivative the second one, by finite differences in float64."""
    loss = make(4, class_weights=[0.5, 1, 2, 1.5])
    logits, target = _batch(loss, 5)
    target[0] = loss.ignore_index
    soft = torch.randn(5, 4, generator=_generator(), dtype=torch.float64).softmax(-1)
    weight = torch.linspace(0.5, 2, 5, dtype=torch.float64)
    leaf = logits.double().requires_grad_()
    for labels in (target, soft):
        torch.autograd.gradcheck(lambda z, labels=labels: loss(z, labels, weight), (leaf,))
        torch.autograd.gradgradcheck(lambda z, labels=labels: loss(z, labels, weight), (leaf,))
    value = loss(leaf, target, weight)
    _require(value.dtype == torch.float64, f"float64 logits should give a float64 loss, not {value.dtype}")


@_check
def _check_no_synchronisation(make: LossFactory) -> None:
    """No value is read from the device: on tensors without values, that would fail."""
    loss = make(5, class_weights=[1, 2, 3, 4, 5]).to("meta")
    logits = torch.empty(6, loss.out_features, device="meta", requires_grad=True)
    target = torch.empty(6, dtype=torch.int64, device="meta")
    soft = torch.empty(6, 5, device="meta")
    weight = torch.empty(6, device="meta")
    for reduction in ("mean", "sum", "none"):
        loss.reduction = reduction
        for arguments in ((target,), (target, weight), (soft,), (soft, weight)):
            loss(logits, *arguments).sum().backward()
    loss.log_probs(logits)
    loss.violations(logits)


@_check
def _check_compile(make: LossFactory) -> None:
    """``torch.compile`` makes one graph of it, with the same value and gradient, also for batches of several sizes."""
    loss = make(5)
    logits, target = _batch(loss, 6)
    target[0] = loss.ignore_index
    soft = torch.randn(6, 5, generator=_generator()).softmax(-1)
    weight = torch.linspace(0.5, 2, 6)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    log_probs = torch.compile(loss.log_probs, fullgraph=True, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler has to say about itself
        for arguments in ((target,), (soft, weight)):
            value, grad = _value_and_grad(loss, logits, *arguments)
            compiled_value, compiled_grad = _value_and_grad(compiled, logits, *arguments)
            _close(compiled_value, value, "the compiled loss differs")
            _close(compiled_grad, grad, "the compiled gradient differs")
        _close(log_probs(logits), loss.log_probs(logits), "the compiled log-probabilities differ")
        with torch.no_grad():
            for samples in (6, 4, 2):  # from the second size on the compiler takes any
                value = loss(logits[:samples], target[:samples])
                _close(compiled(logits[:samples], target[:samples]), value, "compiled without gradients it differs")
    torch.compiler.reset()


@_check
def _check_transforms(make: LossFactory) -> None:
    """``torch.func`` differentiates and vectorises it, also where gradients are switched off."""
    loss = make(4, class_weights=[0.5, 1, 2, 1.5])
    logits, target = _batch(loss, 6)
    soft = torch.randn(6, 4, generator=_generator()).softmax(-1)
    for labels in (target, soft):
        _, expected = _value_and_grad(loss, logits, labels)
        _close(torch.func.grad(loss)(logits, labels), expected, "torch.func.grad differs from backward()")
        each = torch.func.vmap(torch.func.grad(loss))(logits, labels)
        alone = torch.stack([_value_and_grad(loss, logits[i], labels[i])[1] for i in range(6)])
        _close(each, alone, "per-sample gradients by torch.func.vmap differ")
        direction = torch.linspace(-1, 1, logits.numel()).reshape(logits.shape)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch compiles some derivatives by what it calls deprecated itself
            losses = torch.func.vmap(loss)(logits, labels)
            change = torch.func.jvp(lambda z, labels=labels: loss(z, labels), (logits,), (direction,))[1]
            with forward_ad.dual_level():
                dual = forward_ad.make_dual(logits, direction)  # type: ignore[no-untyped-call, unused-ignore]
                by_hand = forward_ad.unpack_dual(loss(dual, labels)).tangent  # type: ignore[no-untyped-call, unused-ignore]
        alone = torch.stack([loss(logits[i], labels[i]) for i in range(6)])
        _close(losses, alone, "torch.func.vmap without gradients differs")
        _close(change, (expected * direction).sum(), "torch.func.jvp without gradients differs from backward()")
        _close(by_hand, change, "forward_ad without gradients differs from torch.func.jvp")


@_check
def _check_state(make: LossFactory) -> None:
    """Options are no state; copies, pickles and changes of the module's dtype keep the loss."""
    loss = make(4, class_weights=[1, 2, 3, 4])
    parameters = {name for name, _ in loss.named_parameters()}
    _require(set(loss.state_dict()) == parameters, f"only parameters are state, not {sorted(loss.state_dict())}")
    logits, target = _batch(loss, 6)
    value = loss(logits, target)
    for what, other in {
        "a deep copy": copy.deepcopy(loss),
        "a pickle": pickle.loads(pickle.dumps(loss)),
        "loss.half()": copy.deepcopy(loss).half(),
        "loss.double()": copy.deepcopy(loss).double(),
    }.items():
        _close(other(logits, target), value, f"{what} should give the same loss")


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _batch(loss: OrdinalLoss, samples: int) -> tuple[Tensor, Tensor]:
    """Random logits, and classes that all occur."""
    logits = 2 * torch.randn(samples, loss.out_features, generator=_generator())
    return logits, torch.arange(samples) % loss.num_classes


def _extreme_logits(width: int) -> Iterator[Tensor]:
    """Rows of logits that break what can be broken: saturated, equal, in the wrong order."""
    signs = torch.ones(width)
    signs[::2] = -1
    for scale in (0.0, 20.0, 90.0, 1e4):
        yield torch.full((1, width), scale)
        yield torch.full((1, width), -scale)
        yield scale * signs[None]
        yield scale * torch.linspace(1, -1, width)[None]
        yield scale * torch.linspace(-1, 1, width)[None]
        yield scale * torch.randn(1, width, generator=_generator()).clamp(-1, 1)
    yield 1e-6 * torch.linspace(1, -1, width)[None]
    yield 3 * torch.randn(4, width, generator=_generator())[:1]


def _value_and_grad(loss: Callable[..., Tensor], logits: Tensor, *arguments: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, *arguments)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), grad


def _close(actual: Tensor, expected: Tensor, message: str, atol: float = 1e-5) -> None:
    torch.testing.assert_close(
        actual.detach(),
        expected.detach(),
        rtol=1e-5,
        atol=atol,
        check_dtype=False,
        msg=lambda details: f"{message}\n{details}",
    )


def _require(condition: object, message: str) -> None:
    # Not an assert statement: these are the product here, and `python -O` would remove them.
    if not condition:
        raise AssertionError(message)


def _raises(argument: str, call: Callable[..., object], *arguments: object, **options: object) -> None:
    try:
        result = call(*arguments, **options)
    except ValueError as error:
        _require(f"`{argument}`" in str(error), f"the error should name `{argument}`: {error}")
    else:
        raise AssertionError(f"a wrong `{argument}` gave no error but {result!r}")


def _short(logits: Tensor) -> str:
    return f"{logits.flatten()[:4].tolist()}{' ...' if logits.numel() > 4 else ''}"
