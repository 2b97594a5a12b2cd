import math

import pytest
import torch
from dlordinal.losses import ExponentialLoss, GeometricLoss
from torch import nn

from ordage.losses import SoftLabelLoss, beta_labels, exponential_labels, soft_label_loss
from ordage.losses.soft_labels import LABELS
from ordage.losses.testing import check_loss

LOGITS = 3 * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("name", "reference"), [("exponential", ExponentialLoss), ("geometric", GeometricLoss)])
def test_value_and_gradient_equal_dlordinal(name, reference, eta):
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()

    value = SoftLabelLoss(6, labels=name, eta=eta)(ours, TARGET)
    expected = reference(nn.CrossEntropyLoss(), 6, eta=eta).double()(theirs, TARGET)

    # Both keep their tables in float32.
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)


def test_value_by_hand():
    # Half on the own class, a quarter on each other; the prediction has 1/2, 1/4, 1/4.
    labels = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]])
    logits = torch.tensor([0.5, 0.25, 0.25]).log()

    losses = [soft_label_loss(logits, torch.tensor(k), labels).item() for k in range(3)]

    assert losses == pytest.approx([1.5 * math.log(2), 1.75 * math.log(2), 1.75 * math.log(2)])


def test_least_value_is_the_entropy_of_the_label():
    labels = beta_labels(6, spread=1.5)

    losses = soft_label_loss(labels.log(), torch.arange(6), labels, reduction="none")

    torch.testing.assert_close(losses, -(labels * labels.log()).sum(-1))


@pytest.mark.parametrize("name", LABELS)
def test_every_table_keeps_the_contract(name):
    check_loss("soft-labels", labels=name, eta=0.7)


def test_table_of_your_own():
    own, named = SoftLabelLoss(5, labels=exponential_labels(5)), SoftLabelLoss(5, labels="exponential")

    assert torch.equal(own(LOGITS[:, :5], TARGET % 5), named(LOGITS[:, :5], TARGET % 5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "betta"}, r"`labels` to be one of 'binomial'.*but got 'betta' \(str\); did you mean 'beta'\?"),
        (
            {"labels": torch.eye(4)},
            r"`labels` to be one of 'binomial'.* or a tensor of shape \(5, 5\), but got a tensor",
        ),
        ({"labels": torch.ones(5, 5)}, "`labels` to hold rows of non-negative numbers that sum to 1"),
        ({"labels": 3}, r"`labels` to be one of .*but got 3 \(int\)"),
        ({"eta": 1.5}, "`eta` to be a number from 0 to 1, but got 1.5"),
    ],
)
def test_wrong_option_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        SoftLabelLoss(5, **options)
