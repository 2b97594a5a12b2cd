import math

import pytest
import torch
from dlordinal.losses import SORDLoss

from ordage.losses import SordLoss, soft_label_loss, sord_labels, sord_loss

LOGITS = 3 * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6
VALUES = torch.tensor([2.0, 3.5, 8.0, 20.0, 40.0, 41.0], dtype=torch.float64)


def softmax(row):
    exponentials = [math.exp(logit) for logit in row]
    return [exponential / sum(exponentials) for exponential in exponentials]


@pytest.mark.parametrize(("distance", "power"), [("absolute", 1), ("squared", 2)])
def test_value_equals_the_formula_of_the_paper(distance, power):
    values, expected = VALUES.tolist(), []
    for row, label in zip(LOGITS.tolist(), TARGET.tolist(), strict=True):
        heights = [math.exp(-0.3 * abs(value - values[label]) ** power) for value in values]
        expected.append(-sum(h / sum(heights) * math.log(p) for h, p in zip(heights, softmax(row), strict=True)))

    loss = sord_loss(LOGITS, TARGET, class_values=VALUES, distance=distance, scale=0.3, reduction="none")

    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_value_and_gradient_equal_dlordinal(scale):
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()

    value = sord_loss(ours, TARGET, scale=scale)
    expected = SORDLoss(alpha=scale, num_classes=6, train_targets=TARGET)(theirs, TARGET)

    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)


def test_module_uses_its_options():
    loss = SordLoss(6, class_values=VALUES, distance="squared", scale=0.1)

    expected = soft_label_loss(LOGITS, TARGET, sord_labels(VALUES, "squared", 0.1))
    torch.testing.assert_close(loss(LOGITS, TARGET), expected)


def test_unknown_distance_is_an_error():
    with pytest.raises(ValueError, match=r"`distance` to be one of 'absolute', 'squared', but got 'square'.*did you"):
        SordLoss(5, distance="square")
