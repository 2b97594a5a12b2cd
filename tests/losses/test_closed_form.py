import pytest
import torch

from ordage import losses
from ordage.losses import available, create, reduce_loss
from ordage.losses.closed_form import over, with_gradient


def cube(z):
    return (z**3).sum(-1), lambda: 3 * z**2


def test_gradient_is_the_one_that_comes_along():
    logits = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)

    with_gradient(lambda z: (z.sum(-1), lambda: torch.full_like(z, 7.0)), logits).sum().backward()

    assert torch.equal(logits.grad, torch.full((2, 2), 7.0))


def test_gradient_may_be_asked_for_twice():
    logits = torch.tensor([[1.0, 2.0]], requires_grad=True)
    value = with_gradient(cube, logits).sum()

    first, second = (torch.autograd.grad(value, logits, retain_graph=True)[0] for _ in range(2))

    assert torch.equal(first, second)


@pytest.mark.parametrize("name", available())
def test_gradient_is_kept_from_those_who_change_theirs(name):
    loss = create(name, 4)
    logits = torch.randn(6, loss.out_features, generator=torch.Generator().manual_seed(1), requires_grad=True)
    value = loss(logits, torch.arange(6) % 4)

    value.backward(retain_graph=True)
    first = logits.grad.clone()
    logits.grad.mul_(7)  # as an optimizer that clips it would
    logits.grad = None
    value.backward(retain_graph=True)
    assert torch.equal(logits.grad, first)
    (shared,) = torch.autograd.grad(value, logits, retain_graph=True)
    shared.numpy()[:] = 0  # unseen by torch
    value.backward()  # added to the one that is there
    torch.testing.assert_close(logits.grad, 2 * first)


@pytest.mark.parametrize("name", available())
def test_gradient_is_scaled_by_what_is_done_with_the_loss(name):
    loss = create(name, 4)
    logits = torch.randn(6, loss.out_features, generator=torch.Generator().manual_seed(1), requires_grad=True)
    value = loss(logits, torch.arange(6) % 4)
    (plain,) = torch.autograd.grad(value, logits, retain_graph=True)

    (scaled,) = torch.autograd.grad(3 * value, logits, retain_graph=True)
    torch.testing.assert_close(scaled, 3 * plain)
    outer = torch.tensor([1.0, -2.0])
    (batched,) = torch.autograd.grad(value, logits, outer, is_grads_batched=True)
    torch.testing.assert_close(batched, outer[:, None, None] * plain)


def test_third_derivative_is_right():
    logits = torch.tensor([[2.0]], requires_grad=True, dtype=torch.float64)

    value = with_gradient(cube, logits).sum()
    for _ in range(3):
        (value,) = torch.autograd.grad(value.sum(), logits, create_graph=True)

    assert value.item() == 6


def test_gradient_is_not_computed_for_nobody():
    def fail():
        raise AssertionError("nobody asked")

    with torch.no_grad():
        assert with_gradient(lambda z: (z.sum(), fail), torch.ones(1, 2, requires_grad=True)) == 2
    assert with_gradient(lambda z: (z.sum(), fail), torch.ones(1, 2)) == 2


def test_buffers_are_overwritten_only_where_nothing_is_recorded():
    buffer = torch.zeros(2)

    assert over(buffer) is None
    with torch.no_grad():
        assert over(buffer) is buffer


VALUES = torch.tensor([1.0, 2.0, 5.0, 9.0], dtype=torch.float64)


@pytest.mark.parametrize("target", [torch.arange(6) % 4, torch.rand(6, 4, dtype=torch.float64).softmax(-1)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", available())
def test_weights_that_are_learned_get_their_gradient_beside_the_logits(name, reduction, target):
    # The gradient that comes along is that of the logits.
    loss = create(name, 4, reduction=reduction)
    logits = torch.randn(6, loss.out_features, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = torch.linspace(0.5, 2, 6, dtype=torch.float64)

    assert torch.autograd.gradcheck(lambda z, w: loss(z, target, w), (logits.requires_grad_(), weight.requires_grad_()))


@pytest.mark.parametrize(
    ("function", "option", "value"),
    [
        (losses.coral_loss, "task_weights", VALUES[:3]),
        (losses.or_cnn_loss, "task_weights", VALUES[:3]),
        (losses.corn_loss, "task_weights", VALUES[:3]),
        (losses.soft_label_loss, "soft_labels", losses.exponential_labels(4)),
        *(
            (function, "class_values", VALUES)
            for function in (
                losses.mean_variance_loss,
                losses.dldl_loss,
                losses.dldl_v2_loss,
                losses.sord_loss,
                losses.unimodal_loss,
                losses.weighted_kappa_loss,
                losses.regression_loss,
            )
        ),
    ],
)
def test_options_that_are_learned_get_their_gradient_beside_the_logits(function, option, value):
    width = {"task_weights": 3}.get(option, 1 if function is losses.regression_loss else 4)
    logits = torch.randn(6, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    assert torch.autograd.gradcheck(
        lambda z, learned: function(z, torch.arange(6) % 4, **{option: learned}),
        (logits.requires_grad_(), value.clone().requires_grad_()),
    )


def test_formula_of_a_user_takes_weights_and_ignored_samples():
    def hard(z, y):
        error = z[:, 0] - y
        return error**2, lambda: 2 * error.unsqueeze(-1)

    logits = torch.tensor([[1.0], [5.0], [9.0]], requires_grad=True)
    loss = reduce_loss(
        hard,
        logits,
        torch.tensor([0, 2, -100]),
        num_classes=3,
        closed_form=True,
        class_weights=torch.tensor([1.0, 1.0, 3.0]),
    )
    loss.backward()

    assert loss.item() == (1 + 3 * 9) / 4
    assert logits.grad.flatten().tolist() == [2 / 4, 3 * 6 / 4, 0]
