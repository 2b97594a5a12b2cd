import math

import torch
from dlordinal.losses import EMDLoss
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from ordage.losses import emd_loss

LOGITS = 3 * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6
VALUES = torch.tensor([2.0, 3.5, 8.0, 20.0, 40.0, 41.0], dtype=torch.float64)


def softmax(row):
    exponentials = [math.exp(logit) for logit in row]
    return [exponential / sum(exponentials) for exponential in exponentials]


def test_value_equals_the_formula_of_the_paper():
    expected = []
    for row, label in zip(LOGITS.tolist(), TARGET.tolist(), strict=True):
        probs = softmax(row)
        expected.append(sum((sum(probs[: k + 1]) - (label <= k)) ** 2 for k in range(6)))

    loss = emd_loss(LOGITS, TARGET, reduction="none")

    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_value_and_gradient_equal_dlordinal():
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()

    value, expected = emd_loss(ours, TARGET), EMDLoss(num_classes=6)(theirs, TARGET)

    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)


def test_a_point_at_another_class_costs_the_number_of_classes_between():
    logits = torch.full((1, 6), -1e4)
    logits[0, 5] = 1e4

    assert emd_loss(logits, torch.tensor([1])) == wasserstein_distance([5], [1])


@settings(deadline=None, database=None, max_examples=50)
@given(st.integers(2, 40), st.data())
def test_is_a_proper_score(num_classes, data):
    # In expectation over the labels nothing is better than their own distribution.
    draw = st.lists(st.floats(-5, 5), min_size=num_classes, max_size=num_classes)
    truth, guess = (torch.tensor(data.draw(draw), dtype=torch.float64) for _ in range(2))
    labels = truth.softmax(-1)

    assert emd_loss(truth, labels) <= emd_loss(guess, labels) + 1e-12
