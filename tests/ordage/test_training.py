import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

import ordage as package
from ordage.balance import draw_epoch
from ordage.errors import MissingError, NonFiniteError
from ordage.eval import OrdinalScale
from ordage.losses import available
from ordage.runs import Run

SMALL = {"img_size": 24, "in_chans": 1, "model": "ordage_tiny", "device": "cpu", "verbosity": 0}


def fit(**options):
    return package.fit(**{**SMALL, **options})


def weights(run):
    return load_file(run.best / "model.safetensors")


def last_state(run):
    return run.load_state()["model"]


def assert_same_tensors(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def start_fit(faces, out, name, *more):
    command = [sys.executable, "-m", "ordage", "fit", str(faces), "--img-size", "24", "--in-chans", "1", "--model"]
    command += ["ordage_tiny", "--device", "cpu", "--epochs", "6", "--batch-size", "16", "--out", str(out)]
    return [*command, "--name", name, "-v", "--ema", "0.9", *more]


def wait_for_epoch(run, epoch, process):
    deadline = time.time() + 120
    while time.time() < deadline and process.poll() is None:
        if (run.path / "metrics.csv").exists() and len(run.metrics) >= epoch:
            return
        time.sleep(0.01)
    raise AssertionError(f"no epoch {epoch}: {process.communicate()[1]}")


@pytest.fixture(scope="module")
def uninterrupted(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    subprocess.run(start_fit(faces, out, "run"), check=True, capture_output=True, timeout=300)
    return Run(out / "run")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_and_resumed_run_ends_with_the_same_bits(faces, tmp_path, uninterrupted, how):
    run = Run(tmp_path / "run")
    process = subprocess.Popen(start_fit(faces, tmp_path, "run"), stderr=subprocess.PIPE, text=True)
    wait_for_epoch(run, 2, process)
    process.send_signal(how)
    said = process.communicate(timeout=120)[1]
    assert not run.finished
    if how != signal.SIGKILL:
        assert process.returncode == 130
        assert "--resume goes on" in said.splitlines()[-1]

    subprocess.run(start_fit(faces, tmp_path, "run", "--resume"), check=True, capture_output=True, timeout=300)

    assert_same_tensors(last_state(run), last_state(uninterrupted))
    assert_same_tensors(weights(run), weights(uninterrupted))
    dropped = ("seconds", "images_per_second")
    rows = [
        [{k: v for k, v in row.items() if k not in dropped} for row in each.metrics] for each in (run, uninterrupted)
    ]
    assert rows[0] == rows[1]
    assert run.report["test"] == uninterrupted.report["test"]


@pytest.mark.slow
def test_a_run_without_name_is_found_by_its_options(faces, tmp_path, uninterrupted):
    command = [part for part in start_fit(faces, tmp_path, "x") if part not in ("--name", "x")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("*/metrics.csv")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    subprocess.run([*command, "--resume"], check=True, capture_output=True, timeout=300)

    (folder,) = tmp_path.iterdir()

    assert_same_tensors(weights(Run(folder)), weights(uninterrupted))


def test_the_seed_decides_and_losses_share_the_initial_backbone(arrays, tmp_path):
    options = {"data": str(arrays), "epochs": 1, "lr": 0.0, "weight_decay": 0.0, "out": tmp_path}
    first = fit(**options, name="a", loss="coral", seed=1)
    other_loss = fit(**options, name="b", loss="softmax", seed=1)
    other_seed = fit(**options, name="c", loss="coral", seed=2)

    backbones = [
        {name: value for name, value in weights(run).items() if name.startswith("backbone") and value.ndim == 4}
        for run in (first, other_loss, other_seed)
    ]

    assert_same_tensors(backbones[0], backbones[1])
    assert any(not torch.equal(backbones[0][name], backbones[2][name]) for name in backbones[0])


def test_the_rate_rises_to_its_peak_over_the_epochs_of_the_warm_up(arrays, tmp_path):
    options = {"epochs": 10, "lr": 0.004, "warmup_epochs": 2, "model": "seed_cnn"}
    run = fit(data=str(arrays), **options, out=tmp_path, name="a")

    rates = [float(row["lr"]) for row in run.metrics]  # of the last step of each epoch
    assert rates[:2] == pytest.approx([0.002, 0.004])
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[1:]))


def test_early_stopping_counts_epochs_without_improvement(arrays, tmp_path):
    # A learning rate of zero improves once, by starting, and then never again.
    run = fit(data=str(arrays), epochs=9, lr=0.0, patience=2, model="seed_cnn", out=tmp_path, name="a")

    assert run.report["training"] | {"epochs": 3, "best_epoch": 1} == run.report["training"]
    assert len(run.metrics) == 3


def test_a_loss_that_is_not_finite_stops_training_with_the_rate(arrays, tmp_path):
    with pytest.raises(NonFiniteError, match=r"the loss became (nan|inf) in epoch 1; lower --lr \(it is 1e\+30\)"):
        fit(data=str(arrays), epochs=2, lr=1e30, opt="sgd", out=tmp_path, name="a")

    assert not Run(tmp_path / "a").finished


@pytest.mark.parametrize("loss", available())
def test_every_loss_trains_and_its_run_can_be_loaded(arrays, tmp_path, loss):
    run = fit(data=str(arrays), epochs=1, loss=loss, out=tmp_path, name="a")
    predicted = package.load(run.path)([np.zeros((24, 24), np.uint8)]).to_frame()

    assert 0 <= predicted["age"].item() <= 116
    # A point is no distribution: the likelihood of its one-hot probabilities is not printed.
    assert (run.report["test"]["rest"]["nll"] is None) == (loss == "regression")


def test_class_weights_move_the_predictions_to_rare_bins(arrays, tmp_path):
    options = {
        "data": str(arrays),
        "epochs": 6,
        "freeze": 6,  # the more a net can tell from an image, the less the shares of the classes move its answer
        "batch_size": 16,
        "loss": "softmax",
        "out": tmp_path,
        "bins": "0-60,61+",
    }
    shares = []
    for kind in (None, "balanced"):
        run = fit(**options, class_weights=kind, name=str(kind))
        shares.append(run.predictions("test").on(OrdinalScale.parse("0-60,61+")).probs[:, 1].mean())

    assert shares[1] > 1.5 * shares[0]


def test_freezing_trains_the_head_alone(arrays, tmp_path):
    run = fit(data=str(arrays), epochs=2, freeze=2, model="seed_cnn", out=tmp_path, name="a")
    untrained = fit(data=str(arrays), epochs=1, lr=0.0, model="seed_cnn", out=tmp_path, name="b")

    trained, fresh = last_state(run), last_state(untrained)

    for name in trained:
        assert torch.equal(trained[name], fresh[name]) == name.startswith("backbone")


@pytest.mark.parametrize("augment", ["none", "light", "full"])
def test_every_augmentation_trains(arrays, tmp_path, augment):
    run = fit(data=str(arrays), epochs=2, augment=augment, out=tmp_path, name="a")

    first, last = (float(run.metrics[epoch]["train_loss"]) for epoch in (0, -1))
    assert last < first


def test_bf16_trains_and_keeps_its_weights_in_full_precision(arrays, tmp_path):
    run = fit(data=str(arrays), epochs=1, precision="bf16", out=tmp_path, name="a")

    assert run.finished
    assert all(value.dtype in (torch.float32, torch.int64) for value in weights(run).values())


def test_nothing_that_runs_code_is_resumed_from(arrays, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    run = fit(data=str(arrays), epochs=1, out=tmp_path, name="a")
    (run.path / "report.json").unlink()
    torch.save({"model": Evil()}, run.path / "checkpoints" / "last" / "state.pt")

    with pytest.raises(package.OrdageError, match="cannot be resumed from"):
        fit(data=str(arrays), epochs=1, out=tmp_path, name="a", resume=True)

    assert not (tmp_path / "ran").exists()


def test_a_time_limit_shapes_the_schedule_so_that_it_ends_near_zero(arrays, tmp_path):
    run = fit(data=str(arrays), time_limit="3s", model="seed_cnn", lr=1e-3, out=tmp_path, name="a")

    rates = [float(row["lr"]) for row in run.metrics]
    assert len(rates) > 2
    assert rates[-1] < 0.05 * max(rates)
    assert run.config.epochs is None
    assert run.report["training"]["epochs"] == len(rates)


def test_epochs_end_a_run_that_has_time_left(arrays, tmp_path):
    options = {"data": str(arrays), "epochs": 2, "model": "seed_cnn", "out": tmp_path}
    limited, unlimited = fit(time_limit="1h", name="a", **options), fit(name="b", **options)

    assert [row["lr"] for row in limited.metrics] == [row["lr"] for row in unlimited.metrics]
    assert len(limited.metrics) == 2


class Greedy(nn.Module):
    """A net that takes no more than so many images at a time, as a device whose memory is small."""

    most = 6
    largest = 0

    def __init__(self, in_chans=3, **_):
        super().__init__()
        self.num_features = self.head_hidden_size = 16
        self.conv = nn.Conv2d(in_chans, 16, 8, 8)

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        Greedy.largest = max(Greedy.largest, len(x))
        return self.conv(x).relu().mean((2, 3))


default_cfgs = generate_default_cfgs({"greedy": {"first_conv": "conv", "classifier": ""}})


@register_model
def greedy(pretrained=False, **kwargs):
    return build_model_with_cfg(Greedy, "greedy", pretrained, **kwargs)


@pytest.mark.slow
def test_where_memory_ends_a_batch_is_done_in_pieces_with_the_same_result(arrays, tmp_path, monkeypatch, capsys):
    options = {"data": str(arrays), "epochs": 2, "model": "greedy", "batch_size": 16, "augment": "none", "seed": 3}
    options["precision"] = "fp32"
    small = fit(**options, out=tmp_path, name="a", verbosity=1)
    said = capsys.readouterr().err
    assert Greedy.largest <= Greedy.most
    monkeypatch.setattr(Greedy, "most", 1000)

    large = fit(**options, out=tmp_path, name="b")

    assert "memory ran out: 4 steps of 4 images now make a batch" in said
    assert Greedy.largest >= 16
    for name, value in last_state(large).items():
        torch.testing.assert_close(last_state(small)[name], value, rtol=1e-4, atol=1e-6)


def test_a_net_that_never_fits_into_memory_is_one_clear_error(arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(Greedy, "most", 1)

    with pytest.raises(MissingError, match="memory does not suffice; take a smaller --img-size"):
        fit(data=str(arrays), model="greedy", batch_size=16, out=tmp_path, name="a")


def test_balanced_sampling_draws_every_bin_equally_often(arrays, tmp_path):
    options = {"data": str(arrays), "epochs": 6, "batch_size": 16, "loss": "softmax", "bins": "0-60,61+"}
    shares = []
    for kind in ("shuffle", "balanced"):
        run = fit(**options, sampling=kind, out=tmp_path, name=kind)
        shares.append(run.predictions("test").on(OrdinalScale.parse("0-60,61+")).probs[:, 1].mean())

    assert shares[1] > 1.5 * shares[0]


def test_a_balanced_epoch_has_the_shares_that_its_weights_ask_for():
    target = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    weights = (1 / target.bincount())[target]
    counts = torch.zeros(3)
    for seed in range(20):
        order = draw_epoch(len(target), 960, weights, torch.Generator().manual_seed(seed))
        counts += target[order].bincount(minlength=3)

    assert len(order) == 960
    expected, spread = 20 * 960 / 3, (20 * 960 * (1 / 3) * (2 / 3)) ** 0.5
    assert (counts - expected).abs().max() < 4 * spread


def test_a_plain_epoch_takes_each_sample_once_at_most():
    order = draw_epoch(100, 96, None, torch.Generator().manual_seed(0))

    assert len(set(order.tolist())) == 96
