import math

import pytest
import torch

from ordage.losses import DldlLoss, create, dldl_loss, gaussian_labels, softmax_loss

LOGITS = 3 * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6
VALUES = torch.tensor([2.0, 3.5, 8.0, 20.0, 40.0, 41.0], dtype=torch.float64)


def softmax(row):
    exponentials = [math.exp(logit) for logit in row]
    return [exponential / sum(exponentials) for exponential in exponentials]


def paper(row, label, values, sigma):
    """Gao et al. 2017: the Kullback-Leibler divergence from the normalised Gaussian, one number after the other."""
    gaussian = [math.exp(-((value - values[label]) ** 2) / (2 * sigma**2)) for value in values]
    labels = [height / sum(gaussian) for height in gaussian]
    return sum(q * math.log(q / p) for q, p in zip(labels, softmax(row), strict=True) if q > 0)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 10.0])
def test_value_equals_the_formula_of_the_paper(sigma):
    values = VALUES.tolist()
    expected = [paper(row, label, values, sigma) for row, label in zip(LOGITS.tolist(), TARGET.tolist(), strict=True)]

    loss = dldl_loss(LOGITS, TARGET, class_values=VALUES, sigma=sigma, reduction="none")

    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_is_zero_with_zero_gradient_at_the_label_distribution():
    logits = gaussian_labels(VALUES)[2].log().requires_grad_()

    loss = dldl_loss(logits, torch.tensor(2), class_values=VALUES)
    loss.backward()

    assert abs(loss.item()) < 1e-12
    assert float(logits.grad.abs().max()) < 1e-12


def test_label_without_width_is_cross_entropy():
    torch.testing.assert_close(dldl_loss(LOGITS, TARGET, sigma=0.01), softmax_loss(LOGITS, TARGET))


def test_module_uses_its_class_values_and_sigma():
    loss = DldlLoss(6, class_values=VALUES, sigma=3.0)

    torch.testing.assert_close(loss(LOGITS, TARGET), dldl_loss(LOGITS, TARGET, class_values=VALUES, sigma=3.0))


def test_zero_logits_give_the_documented_scale():
    assert dldl_loss(torch.zeros(2, 101), torch.tensor([50, 0]), reduction="none").tolist() == pytest.approx(
        [math.log(101) - (0.5 + math.log(2 * math.sqrt(2 * math.pi))), 3.1], abs=0.05
    )


@pytest.mark.parametrize("wrong", [0, -1.0, float("inf"), "2"])
@pytest.mark.parametrize("name", ["dldl", "dldl-v2"])
def test_sigma_that_is_no_width_is_an_error(name, wrong):
    with pytest.raises(ValueError, match="`sigma` to be a finite number above 0, but got"):
        create(name, 5, sigma=wrong)
