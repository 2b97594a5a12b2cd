import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ordage.losses import RegressionLoss, ValueHead, mean, median, mode, regression_log_probs, regression_loss

VALUES = torch.tensor([5.0, 15.0, 30.0, 60.0], dtype=torch.float64)
PREDICTED = 40 * torch.randn(12, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(12) % 4


@pytest.mark.parametrize(
    ("penalty", "reference"),
    [
        ("l1", F.l1_loss),
        ("l2", lambda f, y: F.mse_loss(f, y) / 2),
        ("huber", lambda f, y: F.huber_loss(f, y, delta=7.0)),
    ],
)
def test_value_and_gradient_equal_those_of_torch_on_the_values(penalty, reference):
    ours, theirs = PREDICTED.clone().requires_grad_(), PREDICTED.clone().requires_grad_()

    value = regression_loss(ours, TARGET, VALUES, penalty=penalty, delta=7.0)
    expected = reference(theirs[:, 0], VALUES[TARGET])

    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_soft_target_between_classes_is_the_expected_error():
    loss = regression_loss(torch.tensor([10.0]), torch.tensor([0.5, 0.25, 0.25, 0.0]), VALUES.float())

    torch.testing.assert_close(loss, torch.tensor(0.5 * 5 + 0.25 * 5 + 0.25 * 20))


def test_log_probs_are_a_point_at_the_nearest_class_for_every_decoder():
    predicted = torch.tensor([[-3.0], [9.9], [10.0], [10.1], [44.0], [46.0], [500.0]])
    nearest = [0, 0, 0, 1, 2, 3, 3]

    log_probs = regression_log_probs(predicted, VALUES)

    assert mode(log_probs).tolist() == median(log_probs).tolist() == nearest
    assert mean(log_probs, VALUES).tolist() == VALUES[nearest].tolist()


def test_says_that_it_is_a_point():
    loss = RegressionLoss(4)

    assert loss.predicts_point
    assert "point" in loss.summary


class TestHead:
    def test_starts_from_the_best_constant_of_its_penalty(self):
        prior = [0.2, 0.35, 0.15, 0.3]
        predicted = {
            penalty: RegressionLoss(4, class_values=VALUES, penalty=penalty).make_head(3, prior=prior)(torch.zeros(3))
            for penalty in ("l1", "huber", "l2")
        }

        assert predicted["l1"].item() == pytest.approx(15)
        assert 15 < predicted["huber"].item() < 16
        assert predicted["l2"].item() == pytest.approx(0.2 * 5 + 0.35 * 15 + 0.15 * 30 + 0.3 * 60)

    def test_without_a_prior_starts_in_the_middle_of_the_values(self):
        assert ValueHead(3, VALUES)(torch.zeros(3)).item() == pytest.approx(27.5)

    def test_half_precision_rounds_the_deviation_and_not_the_value(self):
        head = ValueHead(4, torch.arange(101.0))
        features = torch.randn(200, 4, generator=torch.Generator().manual_seed(1)) / 4

        exact = head(features).detach()
        with torch.autocast("cpu", torch.bfloat16):
            rounded = head(features).detach()

        # A bfloat16 near 50 can only say 50.0, 50.25, 50.5.
        assert rounded.dtype == torch.float32
        assert float((rounded - exact).abs().max()) < 0.25

    def test_checkpoint_predicts_without_the_loss(self):
        head, other = ValueHead(3, VALUES, torch.tensor([20.0])), ValueHead(3, torch.tensor([0.0, 1.0]))

        other.load_state_dict(head.state_dict())

        assert torch.equal(head(torch.ones(3)), other(torch.ones(3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": "L1"}, "`penalty` to be one of 'l1', 'l2', 'huber', but got 'L1'"),
        ({"delta": 0}, "`delta` to be a finite number above 0, but got 0"),
    ],
)
def test_wrong_option_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        RegressionLoss(4, **options)
