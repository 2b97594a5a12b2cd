import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ordage.losses import available, coral_loss, corn_loss, create, mean_variance_loss, reduce_loss, softmax_loss


def squared_distance(logits, classes):
    return (logits[:, 0] - classes).square()


def test_loss_without_a_soft_form_is_averaged_over_the_classes():
    logits = torch.tensor([[1.0], [3.0]])
    target = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])

    loss = reduce_loss(squared_distance, logits, target, num_classes=3, reduction="none")

    torch.testing.assert_close(loss, torch.tensor([0.5 * 1 + 0.5 * 0, 0.25 * 4 + 0.75 * 1]))


def test_weights_by_hand():
    logits = torch.tensor([[1.0], [3.0], [7.0]])  # losses 1, 4 and one that is ignored
    target = torch.tensor([0, 1, -100])
    weights = {"class_weights": torch.tensor([2.0, 0.5]), "sample_weight": torch.tensor([3.0, 4.0, 5.0])}

    loss = reduce_loss(squared_distance, logits, target, num_classes=2, **weights)

    torch.testing.assert_close(loss, torch.tensor((6.0 * 1 + 2.0 * 4) / (6.0 + 2.0)))


def test_normalizer_divides_the_mean_only():
    logits, target = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1])
    options = {"num_classes": 2, "normalizer": lambda classes: classes + 1}

    assert reduce_loss(squared_distance, logits, target, **options) == (1 + 4) / (1 + 2)
    assert reduce_loss(squared_distance, logits, target, reduction="sum", **options) == 5


def test_numbers_that_sum_up_to_the_losses():
    def parts(logits, classes):
        return torch.stack([squared_distance(logits, classes), torch.ones(len(logits))], dim=-1)

    logits, target = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1])
    weights = {"num_classes": 2, "sample_weight": torch.tensor([3.0, 1.0])}

    assert reduce_loss(parts, logits, target, num_classes=2, reduction="none").tolist() == [2, 5]
    assert reduce_loss(parts, logits, target, num_classes=2) == (2 + 5) / 2
    assert reduce_loss(parts, logits, target, **weights) == (3 * 2 + 5) / 4
    assert reduce_loss(parts, logits, torch.eye(2), num_classes=2) == (2 + 5) / 2


@pytest.mark.parametrize("name", available())
def test_device_that_others_have_made_the_default_does_not_matter(name):
    loss = create(name, num_classes=4)
    logits = torch.zeros(3, loss.out_features, requires_grad=True)
    target = torch.tensor([0, 3, 1])

    with torch.device("meta"):
        value = loss(logits, target)
        value.backward()

    assert value.device.type == logits.grad.device.type == "cpu"


def test_gradient_reaches_soft_targets():
    # A teacher's distribution can be trained through, as with torch's cross-entropy.
    logits = torch.randn(3, 4)
    ours, torchs = (torch.full((3, 4), 0.25, requires_grad=True) for _ in range(2))

    softmax_loss(logits, ours).backward()
    F.cross_entropy(logits, torchs).backward()

    torch.testing.assert_close(ours.grad, torchs.grad)


@pytest.mark.parametrize("function", [softmax_loss, coral_loss, corn_loss, mean_variance_loss])
class TestErrorsOfFunctions:
    def test_class_weights_of_the_wrong_length(self, function):
        with pytest.raises(
            ValueError, match=r"`class_weights` to be a tensor of shape \(\d,\), but got .* shape \(2,\)"
        ):
            function(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64), class_weights=torch.ones(2))

    def test_label_out_of_range(self, function):
        with pytest.raises(ValueError, match=r"`target` to hold classes from 0 to \d, or -100 .*, but got 99"):
            function(torch.zeros(3, 4), torch.tensor([0, 99, 1]))

    def test_unknown_reduction(self, function):
        with pytest.raises(
            ValueError, match=r"`reduction` to be one of 'mean', 'sum', 'none', but got 'means'.*did you"
        ):
            function(torch.zeros(1, 4), torch.tensor([0]), reduction="means")

    def test_target_on_another_device(self, function):
        with pytest.raises(ValueError, match="`target` to be on the device of `logits`, cpu, but it is on meta"):
            function(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64, device="meta"))

    def test_empty_batch(self, function):
        with pytest.raises(ValueError, match="`target` to hold at least one sample"):
            function(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))

    def test_no_logits(self, function):
        with pytest.raises(ValueError, match="`logits` to be a floating-point tensor"):
            function(torch.zeros(3, 0), torch.zeros(3, dtype=torch.int64))
