import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import ordage
from ordage.runs import Run

pytestmark = pytest.mark.slow

TRAIN = ["--model", "seed_cnn", "--img-size", "24", "--in-chans", "1", "--device", "cpu", "--batch-size", "8"]
TRAIN += ["--opt", "adamw", "--lr", "5e-4"]  # Muon, and a higher rate, make rounding errors of small gradients larger
TRAIN += ["--precision", "fp32"]
ORDAGE = [sys.executable, "-m", "ordage", "fit"]
TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    "ordage",
    "fit",
]


def train(command, faces, out, *more):
    arguments = [*command, str(faces), *TRAIN, "--out", str(out), "--name", "run", *more]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return Run(out / "run"), done


def assert_close(first, second, tolerance):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def alone(faces, tmp_path_factory):
    """What one process does in more than 20 steps; one epoch, so that no tie decides which is the best."""
    run, _ = train(ORDAGE, faces, tmp_path_factory.mktemp("alone"), "--epochs", "1")
    assert 240 * 0.7 // 8 >= 20
    return run


def test_two_processes_train_what_one_does(faces, tmp_path, alone):
    run, done = train(ORDAGE, faces, tmp_path, "--epochs", "1", "--devices", "2")

    assert_close(load_file(run.best / "model.safetensors"), load_file(alone.best / "model.safetensors"), 1e-5)
    for mine, other in zip(run.metrics, alone.metrics, strict=True):
        for name in ("train_loss", "val_mae", "val_rps", "lr"):
            assert float(mine[name]) == pytest.approx(float(other[name]), abs=1e-5), name
    for part in ("val", "test"):
        assert (run.predictions(part).ids == alone.predictions(part).ids).all()
        torch.testing.assert_close(
            torch.from_numpy(run.predictions(part).log_probs),
            torch.from_numpy(alone.predictions(part).log_probs),
            rtol=0,
            atol=1e-4,
        )
    assert done.stdout.count("bin accuracy") == 1
    assert done.stderr.count("from scratch") == 1


def test_torchrun_starts_it_as_any_script(faces, tmp_path, alone):
    run, done = train(TORCHRUN, faces, tmp_path, "--epochs", "1")

    assert_close(load_file(run.best / "model.safetensors"), load_file(alone.best / "model.safetensors"), 1e-5)
    assert done.stdout.count("bin accuracy") == 1


def test_python_starts_processes_too_and_is_left_as_it_was(faces, tmp_path, alone):
    before, threads = dict(os.environ), torch.get_num_threads()

    run = ordage.fit(
        data=str(faces),
        model="seed_cnn",
        img_size=24,
        in_chans=1,
        device="cpu",
        batch_size=8,
        opt="adamw",
        lr=5e-4,
        precision="fp32",
        epochs=1,
        devices="2",
        out=tmp_path,
        verbosity=0,
    )

    assert_close(load_file(run.best / "model.safetensors"), load_file(alone.best / "model.safetensors"), 1e-5)
    assert set(before) - set(os.environ) == set()
    assert not {"WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"} & set(os.environ)
    assert torch.get_num_threads() == threads
    assert not torch.distributed.is_initialized()


def test_an_interrupted_group_goes_on_to_the_same_bits(faces, tmp_path):
    more = ["--devices", "2", "--epochs", "4", "--model", "ordage_tiny"]
    whole, _ = train(ORDAGE, faces, tmp_path / "whole", *more)
    command = [*ORDAGE, str(faces), *TRAIN, "--out", str(tmp_path), "--name", "run", *more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    run, deadline = Run(tmp_path / "run"), time.time() + 120
    while not (run.path / "metrics.csv").exists() and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert "--resume goes on" in said.splitlines()[-1]

    again = [*ORDAGE, "--out", str(tmp_path), "--name", "run", "--resume"]  # by as many processes as before
    subprocess.run(again, check=True, capture_output=True, timeout=300)

    assert run.config.devices == "2"
    first, second = whole.load_state()["model"], run.load_state()["model"]
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("more", "code", "line"),
    [
        (["--batch-size", "15"], 2, "--batch-size 15: 2 processes need a multiple of their number"),
        (["--loss", "corall"], 2, "did you mean 'coral'?"),
    ],
)
def test_what_is_wrong_is_said_once(faces, tmp_path, more, code, line):
    command = [*ORDAGE, str(faces), *TRAIN, "--out", str(tmp_path), "--devices", "2", *more]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert done.returncode == code, done.stderr
    assert done.stderr.count("error:") == 1
    assert line in done.stderr.splitlines()[-1]


def test_devices_are_a_number_or_all(faces):
    with pytest.raises(ordage.OrdageError, match="--devices two: expected a number of processes, or all"):
        ordage.fit(data=str(faces), devices="two")


def test_a_lost_process_ends_the_others_with_one_line(faces, tmp_path):
    command = [
        *ORDAGE,
        str(faces),
        *TRAIN,
        "--out",
        str(tmp_path),
        "--name",
        "run",
        "--devices",
        "2",
        "--epochs",
        "500",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while not (tmp_path / "run" / "metrics.csv").exists() and time.time() < deadline:
        time.sleep(0.01)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
    os.kill(int(children.split()[0]), signal.SIGKILL)

    said = process.communicate(timeout=120)[1]

    assert process.returncode == 1
    assert said.splitlines()[-1] == "ordage: error: process 2 ended with code -9"


def test_several_processes_find_the_learning_rate_that_one_finds(faces, tmp_path):
    found = [
        train(ORDAGE, faces, tmp_path / count, "--epochs", "1", "--lr", "find", "--devices", count)[0].config.lr
        for count in ("1", "2")
    ]

    assert 1e-5 < found[0] < 1
    assert found[1] == pytest.approx(found[0], rel=0.11)  # one of the 100 rates that are tried, or its neighbour
