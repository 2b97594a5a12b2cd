"""What all tests share: a cache of their own, and small data sets as people have them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ordage.data import demo


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


@pytest.fixture
def ordage(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line in a process of its own, started in an empty folder."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ordage", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, **options)  # type: ignore[call-overload]

    return run
