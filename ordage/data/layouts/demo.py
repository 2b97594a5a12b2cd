"""The built-in demo set: drawn faces, no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ..manifest import Manifest
from .base import Layout, Source

if TYPE_CHECKING:
    from ...config import DataConfig


def _recognise(source: Source) -> str | None:
    return "the built-in set of drawn faces" if source.name == "demo" else None


def _read(source: Source, options: DataConfig, reason: str) -> Manifest:
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


LAYOUT = Layout("demo", _recognise, _read, "drawn faces, nothing to download; the default")
