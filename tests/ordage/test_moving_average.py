import pytest
import torch
from torch import nn

from ordage.model import OrdinalModel
from ordage.moving_average import MovingAverage
from ordage.transforms import ImageSpec


@pytest.fixture
def model():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    return OrdinalModel(backbone, nn.Linear(8, 3), ImageSpec(4, 1))


def train(model):
    """Change all that training changes."""
    model.train()
    model(torch.rand(5, 1, 4, 4))
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter))


@pytest.mark.parametrize(("steps", "every"), [(5, 1), (64, 4), (10_000, 8)])
def test_the_average_is_that_of_a_loop_with_the_decay_of_all_the_steps_between(model, steps, every):
    weight = model.head.weight
    expected = weight.detach().clone()
    average = MovingAverage(model, 0.7, steps)

    for updates in range(40):
        train(model)
        average.update(updates)
        if updates % every == 0:
            warm_up = 1 - updates ** (-2 / 3) if updates > 1 else 0.0  # Crowson's, in timm: 1 - (1 + step)^(-2/3)
            decay = min(0.7, warm_up) ** every
            expected = decay * expected + (1 - decay) * weight.detach()
        torch.testing.assert_close(average.model.head.weight, expected, rtol=0, atol=1e-5)


def test_batch_statistics_are_averaged_and_their_number_of_batches_is_copied(model):
    average = MovingAverage(model, 0.5, 1)

    for updates in range(9):
        train(model)
        average.update(updates)

    latest, averaged = model.backbone[1], average.model.backbone[1]
    assert averaged.num_batches_tracked == latest.num_batches_tracked == 9
    assert not torch.equal(averaged.running_mean, latest.running_mean)
    assert not torch.equal(averaged.running_mean, torch.zeros(2))
    assert not average.model.training


def test_tensors_that_were_put_elsewhere_are_followed(model):
    average = MovingAverage(model, 0.5, 1)
    average.update(0)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()

    average.forget_tensors()
    train(model)
    average.update(1)

    assert torch.equal(average.model.head.weight, model.head.weight)  # timm's warm-up begins at a decay of 0
