"""Every loss has its digits: what half precision and autocast give is what float64 gives."""

import pytest
import torch

from ordage.losses import available, create

LEVELS = torch.tensor([-20.0, -6.0, 0.0, 6.0, 20.0])
# float16 holds nothing smaller than this, so no gradient either: that is what gradient scaling is for.
SMALLEST = {torch.float32: 0.0, torch.bfloat16: 0.0, torch.float16: torch.finfo(torch.float16).tiny}


def rows(width):
    """Every combination of two levels; of more logits, all alike, each one alone, and rising or falling steps."""
    if width <= 2:
        return torch.cartesian_prod(*[LEVELS] * width).reshape(-1, width)
    alone = (LEVELS[:, None, None] * torch.eye(width)).reshape(-1, width)
    alike = LEVELS[:, None].expand(-1, width)
    steps = LEVELS[torch.arange(width).clamp(max=4)].expand(1, -1)
    return torch.cat([alike, alone, steps, steps.flip(-1)])


def value_and_grad(loss, logits, target):
    leaf = logits.detach().clone().requires_grad_()
    values = loss(leaf, target)
    (grad,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach().double(), grad.double()


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
@pytest.mark.parametrize("dtype", SMALLEST, ids=str)
@pytest.mark.parametrize("num_classes", [2, 3, 5, 10])
@pytest.mark.parametrize("name", available())
def test_value_and_gradient_are_those_of_float64(name, num_classes, dtype, autocast):
    # Uneven values: where the mean hits a label exactly, |m - a_y| has no derivative.
    loss = create(name, num_classes, torch.arange(num_classes) ** 1.3, reduction="none")
    logits = rows(loss.out_features)
    target = torch.arange(num_classes).repeat(len(logits))
    logits = logits.repeat_interleave(num_classes, 0)
    exact, exact_grad = value_and_grad(loss, logits.double(), target)

    with torch.autocast("cpu", torch.float16 if dtype == torch.float16 else torch.bfloat16, enabled=autocast):
        value, grad = value_and_grad(loss, logits.to(dtype), target)

    # The only room beside 1 %: rounding of float32 at the scale of the same sample, whose loss and gradient are both
    # tiny where it is confident and right.
    scale = exact_grad.abs().amax(-1, keepdim=True) + exact.abs().unsqueeze(-1)
    rounding = 4 * torch.finfo(torch.float32).eps * scale
    limit = torch.finfo(dtype).max
    assert bool(((value - exact).abs() <= 0.01 * exact.abs()).all())
    off = (grad.clamp(-limit, limit) - exact_grad.clamp(-limit, limit)).abs()
    assert bool((off <= 0.01 * exact_grad.abs() + rounding + SMALLEST[dtype]).all())
