import math

import pytest
import torch
from coral_pytorch.dataset import corn_label_from_logits
from coral_pytorch.losses import corn_loss as reference_loss
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ordage.losses import CornLoss, corn_log_probs, corn_loss, median

LOGITS = 3 * torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6

quick = settings(deadline=None, database=None, max_examples=50)
rows = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=12)


def paper(logits, labels, task_weights=None):
    """Equation 6 of Shi et al. 2021, task after task over the samples that reach it: sum and number of terms."""
    total, asked = 0.0, 0
    for k in range(len(logits[0])):
        for row, label in zip(logits, labels, strict=True):
            if label >= k:
                probability = 1 / (1 + math.exp(-row[k]))
                term = -math.log(probability if label > k else 1 - probability)
                total += term if task_weights is None else task_weights[k] * term
                asked += 1
    return total, asked


def test_value_by_hand():
    # P(y > 0) = 1/2 and P(y > 1 | y > 0) = 1/4, so P(y = 1) = 1/2 * 3/4.
    logits = torch.tensor([0.5, 0.25]).logit()

    loss = corn_loss(logits, torch.tensor(1), normalization="samples")

    torch.testing.assert_close(loss, -torch.tensor(3 / 8).log())


def test_zero_logits_give_the_documented_scale():
    assert corn_loss(torch.zeros(2, 100), torch.tensor([7, 100])).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("task_weights", [None, [0.5, 1.0, 2.0, 0.0, 3.0]], ids=["unweighted", "weighted"])
def test_value_equals_the_formula_of_the_paper(task_weights):
    total, asked = paper(LOGITS.tolist(), TARGET.tolist(), task_weights)

    loss = CornLoss(6, task_weights=task_weights).double()(LOGITS, TARGET)

    assert loss.item() == pytest.approx(total / asked, rel=1e-9)


def test_value_and_gradient_equal_coral_pytorch():
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()

    value = corn_loss(ours, TARGET)
    expected = reference_loss(theirs, TARGET, num_classes=6)

    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)


@quick
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_normalizations_differ_by_the_number_of_tasks_a_sample(labels):
    target = torch.tensor(labels)
    logits = LOGITS[: len(labels)]
    tasks = sum(min(label + 1, 5) for label in labels)

    by_tasks = corn_loss(logits, target)
    by_samples = corn_loss(logits, target, normalization="samples")

    torch.testing.assert_close(by_tasks * tasks, by_samples * len(labels))


def test_by_samples_it_is_the_exact_negative_log_likelihood():
    expected = -corn_log_probs(LOGITS).gather(-1, TARGET[:, None]).mean()

    torch.testing.assert_close(corn_loss(LOGITS, TARGET, normalization="samples"), expected)


def test_weights_enter_the_number_of_tasks():
    # Labels 0 and 2 of 3 are asked 1 and 2 tasks; all logits are 0, so every task costs log 2.
    weight = torch.tensor([3.0, 5.0])
    sums = corn_loss(torch.zeros(2, 2), torch.tensor([0, 2]), sample_weight=weight, reduction="sum")

    torch.testing.assert_close(sums, math.log(2) * torch.tensor(3.0 * 1 + 5.0 * 2))
    mean = corn_loss(torch.zeros(2, 2), torch.tensor([0, 2]), sample_weight=weight)
    torch.testing.assert_close(mean, torch.tensor(math.log(2)))


def test_task_that_is_not_reached_has_no_gradient():
    logits = torch.zeros(4, requires_grad=True)

    corn_loss(logits, torch.tensor(1), reduction="sum").backward()

    assert logits.grad.tolist() == [-0.5, 0.5, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_confident_right_answer_keeps_its_loss_and_gradient(dtype):
    # log(sigmoid(z)) - z cancels here: in bfloat16 the loss of -6 becomes 0, in float32 the gradient of -20.
    logits = torch.tensor([[-6.0], [-20.0]], dtype=dtype, requires_grad=True)

    losses = corn_loss(logits, torch.tensor([0, 0]), reduction="none")
    losses.sum().backward()

    exact = torch.tensor([-6.0, -20.0], dtype=torch.float64)
    torch.testing.assert_close(losses.double(), exact.exp().log1p(), rtol=1e-5, atol=0)
    torch.testing.assert_close(logits.grad[:, 0].double(), exact.sigmoid(), rtol=1e-2, atol=0)


def test_unknown_normalization_is_an_error():
    with pytest.raises(
        ValueError, match=r"`normalization` to be one of 'tasks', 'samples', but got 'sample'.*'samples'"
    ):
        CornLoss(5, normalization="sample")


class TestLogProbs:
    def test_are_the_products_of_the_paper(self):
        older = torch.cat([torch.ones(20, 1), LOGITS.sigmoid().cumprod(-1), torch.zeros(20, 1)], dim=-1)

        torch.testing.assert_close(corn_log_probs(LOGITS).exp(), -older.diff())

    @quick
    @given(rows)
    def test_are_a_distribution_whatever_the_logits(self, row):
        log_probs = corn_log_probs(torch.tensor(row))

        assert bool(log_probs.isfinite().all())
        assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-5)

    @quick
    @given(rows)
    def test_median_is_the_rule_of_the_paper(self, row):
        logits = torch.tensor(row)
        assume(bool(((logits.sigmoid().cumprod(-1) - 0.5).abs() > 1e-5).all()))

        assert median(corn_log_probs(logits)) == corn_label_from_logits(logits[None])[0]

    def test_median_of_an_untrained_head_of_zeros_is_the_rule_of_the_paper(self):
        # P(y > 0) is exactly 1/2, which is not more than 1/2.
        assert median(corn_log_probs(torch.zeros(4))) == corn_label_from_logits(torch.zeros(1, 4))[0] == 0
