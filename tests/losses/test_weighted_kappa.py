import pytest
import torch
from dlordinal.losses import WKLoss
from sklearn.metrics import cohen_kappa_score

from ordage.losses import WeightedKappaLoss, weighted_kappa_loss

LOGITS = 3 * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6
VALUES = torch.tensor([2.0, 3.5, 8.0, 20.0, 40.0, 41.0], dtype=torch.float64)


def certain(classes):
    return torch.nn.functional.one_hot(classes, 6) * 1e4


def test_of_certain_predictions_it_is_one_minus_the_kappa_of_scikit_learn():
    predicted = torch.tensor([0, 1, 2, 2, 4, 5, 5, 1, 0, 3])
    target = torch.tensor([0, 1, 2, 3, 4, 5, 4, 0, 2, 3])

    loss = weighted_kappa_loss(certain(predicted).float(), target)

    assert loss.item() == pytest.approx(1 - cohen_kappa_score(target, predicted, weights="quadratic"), abs=1e-6)


@pytest.mark.parametrize("weights", [None, torch.linspace(0.5, 2, 20, dtype=torch.float64)], ids=["plain", "weighted"])
def test_value_equals_the_formula_as_a_plain_loop(weights):
    probs = LOGITS.softmax(-1)
    w = torch.ones(20, dtype=torch.float64) if weights is None else weights
    total = w.sum()
    observed = sum(w[i] * probs[i, j] * (VALUES[j] - VALUES[TARGET[i]]) ** 2 for i in range(20) for j in range(6))
    predicted = [sum(w[i] * probs[i, j] for i in range(20)) / total for j in range(6)]
    labels = [sum(w[i] for i in range(20) if TARGET[i] == j) / total for j in range(6)]
    chance = sum(predicted[j] * labels[k] * (VALUES[j] - VALUES[k]) ** 2 for j in range(6) for k in range(6))

    loss = weighted_kappa_loss(LOGITS, TARGET, class_values=VALUES, sample_weight=weights)

    torch.testing.assert_close(loss, observed / total / chance, rtol=1e-9, atol=1e-9)


def test_value_and_gradient_equal_dlordinal_up_to_its_epsilon():
    # It computes in float32.
    ours, theirs = LOGITS.float().requires_grad_(), LOGITS.float().requires_grad_()

    value, expected = weighted_kappa_loss(ours, TARGET), WKLoss(num_classes=6, use_logits=True)(theirs, TARGET)

    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_units_of_the_class_values_do_not_matter():
    loss = WeightedKappaLoss(6, class_values=VALUES)
    in_months = WeightedKappaLoss(6, class_values=12 * VALUES + 7)

    torch.testing.assert_close(loss(LOGITS, TARGET), in_months(LOGITS, TARGET))


def test_batch_of_one_class_has_the_loss_of_chance_and_no_gradient():
    logits = LOGITS.clone().requires_grad_()

    loss = weighted_kappa_loss(logits, torch.full((20,), 3))
    loss.backward()

    assert loss.item() == pytest.approx(1)
    assert float(logits.grad.abs().max()) < 1e-12


def test_batch_of_one_class_that_is_predicted_with_certainty_is_perfect():
    logits = certain(torch.full((20,), 3)).float().requires_grad_()

    loss = weighted_kappa_loss(logits, torch.full((20,), 3))
    loss.backward()

    assert loss.item() == 0
    assert not logits.grad.any()
