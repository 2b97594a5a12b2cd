import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ordage.losses import MeanVarianceLoss, mean_variance_loss, softmax_loss

LOGITS = 3 * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6
VALUES = torch.tensor([2.0, 3.5, 8.0, 20.0, 40.0, 41.0], dtype=torch.float64)

quick = settings(deadline=None, database=None, max_examples=50)


def paper(logits, label, values, mean_weight, variance_weight):
    """Equations 2 to 5 of Pan et al. 2018, one number after the other."""
    exponentials = [math.exp(logit) for logit in logits]
    probs = [exponential / sum(exponentials) for exponential in exponentials]
    mean = sum(prob * value for prob, value in zip(probs, values, strict=True))
    variance = sum(prob * (value - mean) ** 2 for prob, value in zip(probs, values, strict=True))
    return -math.log(probs[label]) + mean_weight / 2 * (mean - values[label]) ** 2 + variance_weight * variance


def test_value_by_hand():
    # Half at 0 and half at 4: the mean is 2, the variance 4; the label is at 0.
    logits = torch.tensor([0.0, -1e4, 0.0])

    loss = mean_variance_loss(logits, torch.tensor(0), class_values=torch.tensor([0.0, 1.0, 4.0]))

    torch.testing.assert_close(loss, torch.tensor(math.log(2) + 0.2 / 2 * 4 + 0.05 * 4))


def test_zero_logits_give_the_documented_scale():
    loss = mean_variance_loss(torch.zeros(2, 101), torch.tensor([50, 0]), reduction="none")

    assert loss.tolist() == pytest.approx([4.615 + 42.5, 4.615 + 42.5 + 250], abs=1e-3)


@pytest.mark.parametrize("weights", [(0.2, 0.05), (0.0, 1.0), (1.0, 0.0)])
def test_value_equals_the_formula_of_the_paper(weights):
    expected = [
        paper(row, label, VALUES.tolist(), *weights)
        for row, label in zip(LOGITS.tolist(), TARGET.tolist(), strict=True)
    ]

    loss = mean_variance_loss(
        LOGITS, TARGET, class_values=VALUES, mean_weight=weights[0], variance_weight=weights[1], reduction="none"
    )

    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_module_uses_its_class_values():
    loss = MeanVarianceLoss(6, class_values=VALUES)

    torch.testing.assert_close(loss(LOGITS, TARGET), mean_variance_loss(LOGITS, TARGET, class_values=VALUES))


def test_without_its_weights_it_is_cross_entropy():
    loss = mean_variance_loss(LOGITS, TARGET, mean_weight=0.0, variance_weight=0.0)

    torch.testing.assert_close(loss, softmax_loss(LOGITS, TARGET))


def test_second_derivative_is_right():
    leaf = LOGITS[:3].clone().requires_grad_()

    assert torch.autograd.gradgradcheck(lambda z: mean_variance_loss(z, TARGET[:3], class_values=VALUES), (leaf,))


@quick
@given(st.floats(-1000, 1000), st.lists(st.floats(-20, 20), min_size=3, max_size=3), st.integers(0, 2))
def test_only_differences_of_class_values_matter(shift, row, label):
    values = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    logits = torch.tensor(row, dtype=torch.float64)

    here = mean_variance_loss(logits, torch.tensor(label), class_values=values)
    there = mean_variance_loss(logits, torch.tensor(label), class_values=values + shift)

    torch.testing.assert_close(here, there, rtol=1e-7, atol=1e-7)


def test_float32_is_precise_far_from_zero():
    # Years of birth: squares of 2000 would leave float32 no digits for a variance of 1/4.
    logits = torch.tensor([0.0, 0.0, -1e4])
    values = torch.tensor([1999.0, 2000.0, 2001.0])

    loss = mean_variance_loss(logits, torch.tensor(0), class_values=values)

    torch.testing.assert_close(loss, torch.tensor(math.log(2) + 0.2 / 2 / 4 + 0.05 / 4))


@pytest.mark.parametrize("option", ["mean_weight", "variance_weight"])
@pytest.mark.parametrize("wrong", [-0.1, float("nan"), "0.2"])
def test_weight_that_is_no_number_is_an_error(option, wrong):
    with pytest.raises(ValueError, match=f"`{option}` to be a finite number of at least 0, but got"):
        MeanVarianceLoss(5, **{option: wrong})
