import math

import pytest
import torch
from dlordinal.output_layers import ResNetOrdinalFullyConnected

from ordage.losses import OrCnnLoss, coral_loss, median, or_cnn_log_probs, or_cnn_loss

LOGITS = 3 * torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 6
TASK_WEIGHTS = torch.linspace(0.5, 2, 5, dtype=torch.float64)


def test_value_equals_the_formula_of_the_paper():
    expected = []
    for row, label in zip(LOGITS.tolist(), TARGET.tolist(), strict=True):
        older = [1 / (1 + math.exp(-logit)) for logit in row]
        terms = [math.log(p) if label > k else math.log(1 - p) for k, p in enumerate(older)]
        expected.append(-sum(weight * term for weight, term in zip(TASK_WEIGHTS.tolist(), terms, strict=True)))

    loss = or_cnn_loss(LOGITS, TARGET, task_weights=TASK_WEIGHTS, reduction="none")

    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_formula_is_that_of_coral_and_the_head_is_not():
    assert torch.equal(or_cnn_loss(LOGITS, TARGET), coral_loss(LOGITS, TARGET))
    assert OrCnnLoss(6).make_head(3).weight.shape == (5, 3)  # a weight vector for each task


def test_number_of_logits_is_that_of_the_layer_of_dlordinal():
    assert ResNetOrdinalFullyConnected(3, 6)(torch.zeros(1, 3)).shape[-1] == OrCnnLoss(6).out_features


def test_tasks_that_contradict_each_other_are_reported_and_repaired():
    # "Older than 0": 0.2, "older than 1": 0.9. Differences of these would give class 1 the probability -0.7.
    logits = torch.tensor([[0.2, 0.9], [0.9, 0.2]]).logit()

    probs = or_cnn_log_probs(logits).exp()

    assert OrCnnLoss(3).violations(logits).tolist() == [True, False]
    torch.testing.assert_close(probs[0], torch.tensor([0.1, 0.7, 0.2]))
    torch.testing.assert_close(probs[0], probs[1])


def test_repair_keeps_the_number_of_yes_that_the_paper_decodes_by():
    assert median(or_cnn_log_probs(LOGITS)).tolist() == (LOGITS > 0).sum(-1).tolist()


def test_wrong_number_of_task_weights_is_an_error():
    with pytest.raises(ValueError, match=r"`task_weights` to hold 5 numbers, shape \(5,\), but got"):
        OrCnnLoss(6, task_weights=[1, 2])
