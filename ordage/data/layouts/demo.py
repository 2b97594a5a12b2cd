"""The built-in demo set: drawn faces, no download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..manifest import Manifest
from .base import Layout, register

if TYPE_CHECKING:
    from ...config import TrainingConfig


def _recognise(path: Path) -> str | None:
    return "the built-in set of drawn faces" if str(path) == "demo" else None


def _read(path: Path, options: TrainingConfig, reason: str) -> Manifest:
    from .. import demo

    faces = demo.draw()
    table = pd.DataFrame(
        {
            "id": [f"demo-{row:05d}" for row in range(len(faces.ages))],
            "low": faces.ages.astype(float),
            "high": faces.ages.astype(float),
            "subject": faces.subjects,
            "gender": faces.gender,
        }
    )
    return Manifest(table=table, source="demo", layout="demo", reason=reason, images=faces.images, groups=("gender",))


register(Layout("demo", _recognise, _read))
