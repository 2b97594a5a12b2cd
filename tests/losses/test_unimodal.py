import itertools
import math

import pytest
import torch

from ordage.losses import UnimodalLoss, unimodal_loss

LOGITS = 3 * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6
VALUES = torch.tensor([2.0, 3.5, 8.0, 20.0, 40.0, 41.0], dtype=torch.float64)


def softmax(row):
    exponentials = [math.exp(logit) for logit in row]
    return [exponential / sum(exponentials) for exponential in exponentials]


def paper(row, label, values, weight, min_variance):
    """Li et al. 2022: Gaussian likelihood of mean and variance, and the steps in the wrong direction."""
    probs = softmax(row)
    mean = sum(p * value for p, value in zip(probs, values, strict=True))
    variance = sum(p * (value - mean) ** 2 for p, value in zip(probs, values, strict=True)) + min_variance
    wrong = 0.0
    for k, (before, after) in enumerate(itertools.pairwise(probs)):
        wrong += max(before - after if k < label else after - before, 0.0)
    return math.log(variance) / 2 + (mean - values[label]) ** 2 / (2 * variance) + weight * wrong


@pytest.mark.parametrize(("weight", "min_variance"), [(1000.0, 1e-12), (0.0, 1e-12), (2.0, 0.5)])
def test_value_equals_the_formula_of_the_paper(weight, min_variance):
    values, rows = VALUES.tolist(), zip(LOGITS.tolist(), TARGET.tolist(), strict=True)
    expected = [paper(row, label, values, weight, min_variance) for row, label in rows]

    loss = unimodal_loss(
        LOGITS, TARGET, class_values=VALUES, unimodal_weight=weight, min_variance=min_variance, reduction="none"
    )

    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_variance_of_one_certain_class_is_that_inside_of_it():
    # A step of 10 years between classes, each uniform inside: 100 / 12.
    logits = torch.tensor([0.0, 1e4, 0.0])

    loss = unimodal_loss(logits, torch.tensor(1), class_values=torch.tensor([5.0, 15.0, 25.0]))

    torch.testing.assert_close(loss, torch.tensor(math.log(100 / 12) / 2))


def test_distribution_that_rises_to_the_label_and_falls_behind_it_has_no_penalty():
    logits = torch.tensor([[0.0, 1.0, 2.0, 1.0, -1.0]])

    assert unimodal_loss(logits, torch.tensor([2])) == unimodal_loss(logits, torch.tensor([2]), unimodal_weight=0.0)
    assert unimodal_loss(logits, torch.tensor([1])) > unimodal_loss(logits, torch.tensor([1]), unimodal_weight=0.0)


def test_module_uses_its_options():
    options = {"unimodal_weight": 2.0, "min_variance": 0.5}

    loss = UnimodalLoss(6, class_values=VALUES, **options)

    torch.testing.assert_close(loss(LOGITS, TARGET), unimodal_loss(LOGITS, TARGET, class_values=VALUES, **options))


@pytest.mark.parametrize(("option", "wrong"), [("unimodal_weight", -1.0), ("min_variance", 0.0)])
def test_wrong_option_is_an_error(option, wrong):
    with pytest.raises(ValueError, match=f"`{option}` to be a finite number"):
        UnimodalLoss(5, **{option: wrong})
