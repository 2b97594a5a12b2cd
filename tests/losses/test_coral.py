import math

import pytest
import torch
from coral_pytorch.dataset import levels_from_labelbatch, proba_to_label
from coral_pytorch.layers import CoralLayer
from coral_pytorch.losses import coral_loss as reference_loss
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ordage.losses import CoralLoss, OrderedHead, coral_log_probs, coral_loss, median

LOGITS = 3 * torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6
TASK_WEIGHTS = torch.linspace(0.5, 2, 5, dtype=torch.float64)

quick = settings(deadline=None, database=None, max_examples=50)
rows = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=12)


def paper(logits, label, task_weights):
    """Equation 4 of Cao et al. 2020, one number after the other."""
    total = 0.0
    for k, (logit, weight) in enumerate(zip(logits, task_weights, strict=True)):
        probability = 1 / (1 + math.exp(-logit))
        total -= weight * (math.log(probability) if label > k else math.log(1 - probability))
    return total


def test_value_by_hand():
    # P(y > 0) = 3/4 and P(y > 1) = 1/4, the label is 1.
    logits = torch.tensor([0.75, 0.25]).logit()

    torch.testing.assert_close(coral_loss(logits, torch.tensor(1)), -2 * torch.tensor(0.75).log())


def test_zero_logits_give_the_documented_scale():
    assert coral_loss(torch.zeros(1, 100), torch.tensor([7])).item() == pytest.approx(100 * math.log(2))


def test_value_equals_the_formula_of_the_paper():
    expected = [
        paper(row, label, TASK_WEIGHTS.tolist()) for row, label in zip(LOGITS.tolist(), TARGET.tolist(), strict=True)
    ]

    loss = coral_loss(LOGITS, TARGET, task_weights=TASK_WEIGHTS, reduction="none")

    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum", None])
@pytest.mark.parametrize("task_weights", [None, TASK_WEIGHTS], ids=["unweighted", "weighted"])
def test_value_and_gradient_equal_coral_pytorch(task_weights, reduction):
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    levels = levels_from_labelbatch(TARGET, num_classes=6, dtype=torch.float64)

    value = coral_loss(ours, TARGET, task_weights=task_weights, reduction=reduction or "none")
    expected = reference_loss(theirs, levels, importance_weights=task_weights, reduction=reduction)

    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_confident_right_answer_keeps_its_loss_and_gradient(dtype):
    # log(sigmoid(z)) - z cancels here: in bfloat16 the loss of -6 becomes 0, in float32 the gradient of -20.
    logits = torch.tensor([[-6.0], [-20.0]], dtype=dtype, requires_grad=True)

    losses = coral_loss(logits, torch.tensor([0, 0]), reduction="none")
    losses.sum().backward()

    exact = torch.tensor([-6.0, -20.0], dtype=torch.float64)
    torch.testing.assert_close(losses.double(), exact.exp().log1p(), rtol=1e-5, atol=0)
    torch.testing.assert_close(logits.grad[:, 0].double(), exact.sigmoid(), rtol=1e-2, atol=0)


def test_soft_target_between_two_neighbours_asks_the_task_between_them_for_half():
    # The optimum of an even split between classes 1 and 2 has P(y > 1) = 1/2.
    logits = torch.tensor([9.0, 0.0, -9.0], requires_grad=True)

    coral_loss(logits, torch.tensor([0.0, 0.5, 0.5, 0.0])).backward()

    torch.testing.assert_close(logits.grad, torch.zeros(3), atol=2e-4, rtol=0)
    assert logits.grad[1] == 0


class TestLogProbs:
    def test_are_the_differences_of_the_paper(self):
        logits = LOGITS.sort(descending=True).values
        older = torch.cat([torch.ones(20, 1), logits.sigmoid(), torch.zeros(20, 1)], dim=-1)

        torch.testing.assert_close(coral_log_probs(logits).exp(), -older.diff())

    def test_keep_digits_where_differences_of_probabilities_would_have_none(self):
        # sigmoid(40) - sigmoid(39) is 0 in float32; the truth is exp(-39) - exp(-40).
        log_probs = coral_log_probs(torch.tensor([40.0, 39.0]))

        torch.testing.assert_close(log_probs[1], torch.tensor(math.exp(-39) - math.exp(-40)).log())

    def test_equal_logits_have_probability_zero_between_them_and_a_gradient(self):
        logits = torch.zeros(3, requires_grad=True)

        log_probs = coral_log_probs(logits)
        log_probs[0].backward()

        assert log_probs.exp().tolist() == pytest.approx([0.5, 0, 0, 0.5])
        assert bool((log_probs[1:3] == -torch.inf).all())
        assert bool(logits.grad.isfinite().all())

    @quick
    @given(rows)
    def test_are_a_distribution_whatever_the_logits(self, row):
        probs = coral_log_probs(torch.tensor(row)).exp()

        assert bool((probs >= 0).all())
        assert probs.sum().item() == pytest.approx(1, abs=1e-5)

    @quick
    @given(rows)
    def test_median_is_the_rule_of_the_paper_even_in_the_wrong_order(self, row):
        logits = torch.tensor(row)
        assume(bool(((logits.sigmoid() - 0.5).abs() > 1e-5).all()))

        assert median(coral_log_probs(logits)) == proba_to_label(logits.sigmoid()[None])[0]


class TestHead:
    def test_plain_head_is_the_layer_of_coral_pytorch(self):
        assert isinstance(CoralLoss(5).make_head(3), CoralLayer)

    def test_monotone_head_starts_where_the_plain_one_does(self):
        torch.testing.assert_close(OrderedHead(3, 7).biases(), CoralLayer(3, 7).coral_bias)

    @quick
    @given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=6, max_size=6), st.sampled_from(["float32", "bfloat16"]))
    def test_monotone_head_is_in_order_whatever_its_parameters(self, values, dtype):
        loss = CoralLoss(6, monotone=True)
        head = loss.make_head(2).to(getattr(torch, dtype))
        with torch.no_grad():
            head.steps.copy_(torch.tensor(values[:4]))
            head.first_bias.fill_(values[4])
            head.weight.weight.fill_(values[5])

        assert not loss.violations(head(torch.tensor([[0.5, -3.0], [7.0, 7.0]], dtype=head.first_bias.dtype))).any()

    def test_monotone_head_works_for_two_classes(self):
        assert OrderedHead(3, 2)(torch.zeros(4, 3)).shape == (4, 1)

    def test_plain_head_leaves_the_order_under_task_weights_and_the_monotone_one_cannot(self):
        # Rank consistency is a theorem about the optimum; on the way there a plain head may break it.
        torch.manual_seed(0)
        features, target = torch.randn(60, 4), torch.arange(60) % 10
        seen = {}
        for monotone in (False, True):
            loss = CoralLoss(10, monotone=monotone, task_weights=[8, 0.1, 8, 0.1, 8, 0.1, 8, 0.1, 8])
            head = loss.make_head(4)
            optimizer = torch.optim.SGD(head.parameters(), lr=0.2)
            seen[monotone] = False
            for _ in range(30):
                optimizer.zero_grad()
                logits = head(features)
                loss(logits, target).backward()
                optimizer.step()
                seen[monotone] |= bool(loss.violations(logits).any())

        assert seen == {False: True, True: False}

    def test_violations_are_counted_by_sample(self):
        logits = torch.tensor([[1.0, 0.0, -1.0], [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])

        assert CoralLoss(4).violations(logits).tolist() == [False, True, False]
