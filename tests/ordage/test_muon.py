import copy

import pytest
import torch
from torch import nn

from ordage.muon import Muon, _iterate, _iterate_on_gram, orthogonalize


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    )


def gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(16, 3, 8, 8, generator=generator), torch.randint(5, (16,), generator=generator)
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()


@pytest.mark.parametrize("shape", [(3, 16, 64), (2, 64, 16), (1, 7, 7)])
def test_directions_stay_and_lengths_become_one_within_the_known_bounds(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)

    found = left.mT @ orthogonalize(matrices) @ right.mT

    lengths = found.diagonal(dim1=-2, dim2=-1)
    assert lengths.min() > 0.3  # those that were nearly nothing
    assert lengths.max() < 1.3
    assert lengths.median() > 0.65
    torch.testing.assert_close(found, torch.diag_embed(lengths), rtol=0, atol=1e-9)


def test_nothing_stays_nothing():
    assert torch.equal(orthogonalize(torch.zeros(2, 4, 6)), torch.zeros(2, 4, 6))


def test_what_is_no_matrix_moves_as_under_adamw():
    model = net()
    other = copy.deepcopy(model)
    ours = Muon([{"params": model.parameters(), "matrix": False}], lr=0.01, weight_decay=0.1)
    theirs = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.1)

    for step in range(5):
        for net_, optimizer in ((model, ours), (other, theirs)):
            gradients(net_, step)
            optimizer.step()

    for mine, reference in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)


def test_a_matrix_moves_by_the_formula():
    model, lr, decay, momentum = net(), 0.02, 0.1, 0.95
    optimizer = Muon(model.parameters(), lr=lr, weight_decay=decay)
    weight = model[0].weight
    kept, buffer = weight.detach().clone(), torch.zeros_like(weight)

    for step in range(3):
        gradients(model, step)
        buffer = momentum * buffer + (1 - momentum) * weight.grad
        update = (1 - momentum) * weight.grad + momentum * buffer
        x = update.reshape(8, 27)
        x = x / x.norm()
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        kept = (1 - lr * decay) * kept - lr * 0.2 * 27**0.5 * x.reshape(weight.shape)
        optimizer.step()

    torch.testing.assert_close(weight.detach(), kept, rtol=1e-4, atol=1e-6)


def test_it_goes_on_from_its_state_to_the_same_bits():
    model = net()
    optimizer = Muon(model.parameters(), lr=0.02)
    for step in range(3):
        gradients(model, step)
        optimizer.step()
    again = copy.deepcopy(model)
    resumed = Muon(again.parameters(), lr=0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    for net_, chosen in ((model, optimizer), (again, resumed)):
        gradients(net_, 9)
        chosen.step()

    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_it_brings_a_loss_down_and_calls_a_closure():
    model = net()
    optimizer = Muon(model.parameters(), lr=0.01)
    losses = []

    def closure():
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(16, 3, 8, 8, generator=generator), torch.randint(5, (16,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(20):
        losses.append(optimizer.step(closure).item())

    assert losses[-1] < 0.3 * losses[0]


def test_a_rate_of_zero_moves_nothing():
    model = net()
    before = copy.deepcopy(model.state_dict())
    optimizer = Muon(model.parameters(), lr=0.0)
    gradients(model, 0)
    optimizer.step()

    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_iterating_on_the_gram_matrix_is_iterating_on_the_matrix(dtype, tolerance):
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(2, 24, 90, dtype=torch.float64), full_matrices=False)
    matrices = (left * torch.logspace(0, -3, 24, dtype=torch.float64)) @ right  # condition 1000, as gradients have it
    matrices = (matrices / matrices.norm(dim=(-2, -1), keepdim=True)).to(dtype)

    torch.testing.assert_close(_iterate_on_gram(matrices), _iterate(matrices), rtol=0, atol=tolerance)


def test_a_rate_in_a_tensor_moves_by_the_same_bits_as_a_number():
    model = net()
    other = copy.deepcopy(model)
    numbers = Muon(model.parameters(), lr=0.5, weight_decay=0.1)
    tensors = Muon(other.parameters(), lr=torch.tensor(0.5), weight_decay=0.1)

    for step in range(4):
        rate = 0.03 / (step + 1)
        numbers.param_groups[0]["lr"] = rate
        tensors.param_groups[0]["lr"].fill_(rate)
        for net_, optimizer in ((model, numbers), (other, tensors)):
            gradients(net_, step)
            optimizer.step()

    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_groups_move_as_each_would_alone():
    def make_groups():
        torch.manual_seed(1)
        options = [{}, {"weight_decay": 0.1}, {"lr": 0.02}, {"matrix": False}, {"betas": (0.5, 0.9)}, {"eps": 0.1}]
        shapes = ((5,), (4, 3), (1, 6))
        return [{"params": [nn.Parameter(torch.randn(shape)) for shape in shapes], **more} for more in options]

    together, apart = make_groups(), make_groups()
    optimizers = [Muon(together, lr=0.1), *(Muon([group], lr=0.1) for group in apart)]

    for step in range(4):
        for place, (group, alone) in enumerate(zip(together, apart, strict=True)):
            for a, b in zip(group["params"], alone["params"], strict=True):
                a.grad = b.grad = None if place == step == 0 else torch.randn(a.shape)  # the first begins later
        for optimizer in optimizers:
            optimizer.step()

    for group, alone in zip(together, apart, strict=True):
        for a, b in zip(group["params"], alone["params"], strict=True):
            assert torch.equal(a, b)
