import math

import pytest
import torch

from ordage.losses import DldlV2Loss, dldl_loss, dldl_v2_loss

LOGITS = 3 * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6
VALUES = torch.tensor([2.0, 3.5, 8.0, 20.0, 40.0, 41.0], dtype=torch.float64)


def softmax(row):
    exponentials = [math.exp(logit) for logit in row]
    return [exponential / sum(exponentials) for exponential in exponentials]


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_value_is_dldl_and_the_absolute_error_of_the_mean(weight):
    values = VALUES.tolist()
    means = [sum(p * value for p, value in zip(softmax(row), values, strict=True)) for row in LOGITS.tolist()]
    errors = [abs(mean - values[label]) for mean, label in zip(means, TARGET.tolist(), strict=True)]
    divergence = dldl_loss(LOGITS, TARGET, class_values=VALUES, reduction="none")

    loss = dldl_v2_loss(LOGITS, TARGET, class_values=VALUES, mean_weight=weight, reduction="none")

    expected = divergence + weight * torch.tensor(errors, dtype=torch.float64)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)


def test_value_by_hand():
    # One class has all, ten years off; the label is spread over itself alone.
    logits = torch.tensor([0.0, 200.0], dtype=torch.float64)

    loss = dldl_v2_loss(logits, torch.tensor(0), class_values=torch.tensor([20.0, 30.0]), sigma=0.1)

    torch.testing.assert_close(loss, torch.tensor(200.0 + 10.0, dtype=torch.float64))


def test_module_uses_its_options():
    loss = DldlV2Loss(6, class_values=VALUES, sigma=3.0, mean_weight=0.5)

    expected = dldl_v2_loss(LOGITS, TARGET, class_values=VALUES, sigma=3.0, mean_weight=0.5)
    torch.testing.assert_close(loss(LOGITS, TARGET), expected)


def test_negative_weight_is_an_error():
    with pytest.raises(ValueError, match="`mean_weight` to be a finite number of at least 0, but got -1"):
        DldlV2Loss(5, mean_weight=-1)
