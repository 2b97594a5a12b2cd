import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ordage.losses import SoftmaxLoss, mode, softmax_log_probs, softmax_loss

LOGITS = torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6
SOFT = LOGITS.flip(0).softmax(-1)
WEIGHTS = torch.linspace(0.5, 2, 6, dtype=torch.float64)


def test_value_by_hand():
    loss = softmax_loss(torch.tensor([0.0, math.log(3.0)]), torch.tensor(0))

    torch.testing.assert_close(loss, torch.tensor(4.0).log())


def test_zero_logits_give_the_documented_scale():
    assert softmax_loss(torch.zeros(1, 101), torch.tensor([7])).item() == pytest.approx(math.log(101))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("target", [TARGET, TARGET.where(TARGET != 2, -100), SOFT], ids=["hard", "ignored", "soft"])
def test_value_and_gradient_equal_torch(target, class_weights, reduction):
    ours, torchs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()

    value = softmax_loss(ours, target, class_weights=class_weights, reduction=reduction)
    expected = F.cross_entropy(torchs, target, weight=class_weights, reduction=reduction)

    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, torchs.grad, rtol=1e-9, atol=1e-9)


def test_log_probs_are_the_negative_loss():
    loss = softmax_loss(LOGITS, TARGET, reduction="none")

    torch.testing.assert_close(softmax_log_probs(LOGITS).gather(-1, TARGET[:, None])[:, 0], -loss)


def test_mode_is_the_largest_logit():
    assert torch.equal(mode(SoftmaxLoss(6).log_probs(LOGITS)), LOGITS.argmax(-1))
