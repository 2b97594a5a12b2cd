"""What all tests share: a cache of their own, and small data sets as people have them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ordage.data import demo

# Before anything imports the hub's client, which reads it once: no test may depend on a network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = "/nonexistent"
# Before torch reads it, here and in what the tests start: workers of pytest-xdist that each take all cores wait for
# each other, and a sum over another number of threads has other last bits.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# What the background of a script starts ignores SIGINT, and so would the programs that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["ORDAGE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def drawn() -> demo.DemoFaces:
    """Drawn faces, enough to train on for a moment."""
    return demo.draw(n=300, size=24, seed=3)


@pytest.fixture(scope="session")
def faces(drawn: demo.DemoFaces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of JPEG files named as UTKFace names them."""
    folder = tmp_path_factory.mktemp("faces")
    for row, (image, age) in enumerate(zip(drawn.images, drawn.ages, strict=True)):
        name = f"{age}_{row % 2}_{row % 5}_2017{row:013d}.jpg.chip.jpg"
        Image.fromarray(image).save(folder / name, quality=90)
    return folder


@pytest.fixture(scope="session")
def arrays(drawn: demo.DemoFaces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey arrays with exact ages, as a Keras user has them."""
    file = tmp_path_factory.mktemp("arrays") / "faces.npz"
    grey = drawn.images.mean(axis=-1).astype(np.uint8)
    np.savez(file, X_train=grey[:240], y_train=drawn.ages[:240], X_test=grey[240:], y_test=drawn.ages[240:])
    return file


@dataclass(frozen=True)
class Outcome:
    """What a command line left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def ordage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """The command line as a user types it, started in an empty folder; in this process, which saves importing torch."""
    from ordage.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(int(stopped.value.code or 0), out, err)

    return run
