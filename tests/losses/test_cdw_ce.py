import math

import pytest
import torch
from dlordinal.losses import CDWCELoss

from ordage.losses import CdwCeLoss, cdw_ce, cdw_ce_loss

LOGITS = 3 * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6
VALUES = torch.tensor([2.0, 3.5, 8.0, 20.0, 40.0, 41.0], dtype=torch.float64)


def softmax(row):
    exponentials = [math.exp(logit) for logit in row]
    return [exponential / sum(exponentials) for exponential in exponentials]


@pytest.mark.parametrize("alpha", [0.5, 2.0, 5.0])
def test_value_equals_the_formula_of_the_paper(alpha):
    expected = []
    for row, label in zip(LOGITS.tolist(), TARGET.tolist(), strict=True):
        terms = [abs(j - label) ** alpha * math.log(1 - p) for j, p in enumerate(softmax(row))]
        expected.append(-sum(terms))

    loss = cdw_ce_loss(LOGITS, TARGET, alpha=alpha, reduction="none")

    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_value_and_gradient_equal_dlordinal_up_to_what_it_adds_inside_its_logarithms():
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()

    value, expected = cdw_ce_loss(ours, TARGET, alpha=1.5), CDWCELoss(num_classes=6, alpha=1.5)(theirs, TARGET)

    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-6)


def test_confident_wrong_answer_costs_its_logit_for_each_step():
    # 1 - p of the wrong class is exp(-200): -log of it is 200, twice for two classes away at alpha 1.
    logits = torch.tensor([0.0, 0.0, 200.0], requires_grad=True)

    loss = cdw_ce_loss(logits, torch.tensor(0), alpha=1.0)
    loss.backward()

    torch.testing.assert_close(loss, torch.tensor(2 * (200 - math.log(2))))
    torch.testing.assert_close(logits.grad, torch.tensor([-1.0, -1.0, 2.0]))


# Between 5.79 and 5.82 the probability of the wrong class passes 0.99, below and above which the loss is computed in
# two ways; beyond 17 it is 1 in float32.
@pytest.mark.parametrize("certainty", [4.0, 5.79, 5.82, 8.0, 30.0])
def test_certainty_of_a_wrong_class_changes_nothing_abruptly(certainty):
    logits = torch.tensor([[0.3, 0.0, 0.0, certainty], [1.0, 2.0, 0.0, -1.0], [40.0, 1.0, 0.0, 2.0]])
    single, double = logits.clone().requires_grad_(), logits.double().requires_grad_()
    target = torch.tensor([1, 2, 0])

    value = cdw_ce_loss(single, target)
    value.backward()
    probs = double.softmax(-1)
    others = torch.eye(4, dtype=torch.bool).logical_not()
    rest = torch.stack([probs[:, others[j]].sum(-1) for j in range(4)], dim=-1)  # 1 - p, of which nothing cancels
    distances = (torch.arange(4) - target.unsqueeze(-1)).abs()
    expected = -torch.xlogy(distances.double() ** 2, rest).sum(-1).mean()
    expected.backward()

    torch.testing.assert_close(value.double(), expected, rtol=2e-6, atol=0)
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize(("certainty", "rough"), [(5.79, True), (5.82, False), (math.nan, False)])
def test_formula_as_it_stands_is_left_where_it_cancels(certainty, rough):
    logits = torch.tensor([[0.3, 0.0, 0.0, certainty], [40.0, 1.0, 0.0, 2.0]])
    target = torch.tensor([1, 0])

    with torch.no_grad():
        assert (cdw_ce._unless_nearly_certain(logits, target, torch.ones(2, 4)) is not None) == rough


def test_sample_that_is_not_a_number_leaves_the_others_alone():
    logits = torch.tensor([[math.nan, 0.0, 0.0], [0.0, 0.0, 200.0]], requires_grad=True)

    losses = cdw_ce_loss(logits, torch.tensor([0, 0]), alpha=1.0, reduction="none")
    losses[1].backward()

    assert losses[0].isnan()
    torch.testing.assert_close(losses[1], torch.tensor(2 * (200 - math.log(2))))
    torch.testing.assert_close(logits.grad[1], torch.tensor([-1.0, -1.0, 2.0]))


def test_two_equal_largest_logits_are_no_special_case():
    logits = torch.tensor([[3.0, 3.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    expected = [-sum(j * math.log(1 - p) for j, p in enumerate(softmax(row))) for row in logits.tolist()]

    loss = cdw_ce_loss(logits, torch.tensor([0, 0]), alpha=1.0, reduction="none")

    assert loss.tolist() == pytest.approx(expected)


def test_exponent_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="`alpha` to be a finite number above 0, but got 0"):
        CdwCeLoss(5, alpha=0)
