"""Recorded steps; `pytest -m cuda` where there is a GPU."""

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import ordage
from ordage import learner, losses
from ordage.muon import Muon
from ordage.step_graph import StepGraph, fits_a_graph


def muon(parameters):
    return Muon(parameters, lr=0.1, weight_decay=0.1)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.1, fused=True, capturable=True)


def test_only_optimisers_without_numbers_of_their_own_are_recorded():
    parameters = [nn.Parameter(torch.ones(2, 2))]

    assert fits_a_graph(muon(parameters))
    assert fits_a_graph(torch.optim.AdamW(parameters, capturable=True))
    assert not fits_a_graph(torch.optim.AdamW(parameters))
    assert not fits_a_graph(torch.optim.SGD(parameters))


@pytest.mark.cuda
@pytest.mark.parametrize("optimizer_of", [muon, adamw])
def test_replays_follow_rates_and_seeds_to_the_same_bits_as_eager_steps(optimizer_of):
    images, target = torch.rand(20, 32, 64, device="cuda"), torch.randint(5, (20, 32), device="cuda")

    def train(recorded):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.Dropout(0.5), nn.ReLU(), nn.Linear(128, 5)).cuda()
        optimizer = optimizer_of(model.parameters())
        graph = None

        def step(images, target):
            for parameter in model.parameters():
                parameter.grad = None
            loss = nn.functional.cross_entropy(model(images), target)
            loss.backward()
            optimizer.step()
            return loss.detach()

        losses = []
        for place in range(len(images)):
            optimizer.param_groups[0]["lr"] = 0.1 / (place + 1)
            if recorded and place == 2:
                graph = StepGraph(step, images[place], target[place], optimizer)
            torch.cuda.manual_seed(place)
            losses.append((graph or step)(images[place], target[place]).clone())
        return [*model.parameters(), *losses]

    assert all(torch.equal(a, b) for a, b in zip(train(False), train(True), strict=True))


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("model", "side", "chans", "options"),
    [
        ("seed_cnn", 28, 1, {}),
        ("mobilenetv3_small_100", 64, 3, {"freeze": 1}),
        ("resnet18", 64, 3, {"opt": "sgd", "lr": 0.01}),
        ("vit_tiny_patch16_224", 64, 3, {"layer_decay": 0.7, "augment": "none"}),
    ],
)
def test_a_run_of_recorded_steps_is_the_run_of_eager_ones(model, side, chans, options, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    ages = rng.integers(100, size=1600)
    images = rng.integers(64, size=(1600, side, side, chans)) + ages[:, None, None, None]
    np.savez(tmp_path / "faces.npz", X=images.astype(np.uint8), y=ages)
    found, replays = {}, []
    call = StepGraph.__call__
    monkeypatch.setattr(StepGraph, "__call__", lambda *arguments: replays.append(1) or call(*arguments))

    for record in (True, False):
        run = ordage.fit(
            data=str(tmp_path / "faces.npz"),
            model=model,
            pretrained=False,
            epochs=2,
            batch_size=64,
            deterministic=True,
            device="cuda",
            record=record,
            out=tmp_path,
            verbosity=0,
            **options,
        )
        found[record] = safetensors.torch.load_file(run.best / "model.safetensors")
        steps = 2 * (run.report["data"]["parts"]["train"] // 64)
        assert len(replays) >= steps - 2 * learner.WARM_UP  # and no more by the second run

    assert len(replays) < 1.5 * steps
    recorded, eager = found.values()
    assert all(torch.equal(recorded[name], eager[name]) for name in eager)


@pytest.mark.cuda
def test_a_step_that_waits_for_the_device_is_made_as_it_comes(tmp_path, monkeypatch):
    """As with a loss of somebody else that asks for a number; a recording that breaks off would spoil the process."""
    criterion = losses.get("softmax")
    forward = criterion.forward

    def asking(self, *arguments, **options):
        value = forward(self, *arguments, **options)
        return value if value.item() > -1 else -value

    monkeypatch.setattr(criterion, "forward", asking)
    monkeypatch.setattr(StepGraph, "__init__", None)  # is not even tried
    noise = np.random.default_rng(0).integers(256, size=(1000, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", X=noise, y=np.arange(1000) % 99)
    run = ordage.fit(
        data=str(tmp_path / "noise.npz"), loss="softmax", epochs=1, device="cuda", out=tmp_path, verbosity=0
    )

    assert run.finished


@pytest.mark.cuda
def test_no_step_waits_for_the_device(tmp_path, monkeypatch):
    np.savez(
        tmp_path / "noise.npz",
        X=np.random.default_rng(0).integers(256, size=(4000, 28, 28), dtype=np.uint8),
        y=np.arange(4000) % 99,
    )
    step, done = learner.Learner.step, []

    def watched(*arguments):
        done.append(1)
        torch.cuda.set_sync_debug_mode("error" if 5 <= len(done) < 40 else "default")
        return step(*arguments)

    monkeypatch.setattr(learner.Learner, "step", watched)
    try:
        ordage.fit(data=str(tmp_path / "noise.npz"), epochs=1, batch_size=64, device="cuda", out=tmp_path, verbosity=0)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert len(done) >= 40
