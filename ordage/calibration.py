"""The file beside a model that holds what was learned about its own answers; it can be read without torch."""

from __future__ import annotations

import json
from pathlib import Path

from ordage.eval import Calibration

from .errors import DataError
from .files import write_whole

__all__ = ["read_calibration", "write_calibration"]

CALIBRATION = "calibration.json"


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write what was learned on validation about a model's answers into the model's folder."""
    write_whole(folder / CALIBRATION, json.dumps(calibration.to_dict(), indent=2) + "\n")


def read_calibration(folder: Path) -> Calibration | None:
    """Return what `write_calibration` wrote; None where it did not.

    Raises:
        DataError: the file is broken.
    """
    file = folder / CALIBRATION
    if not file.exists():
        return None
    try:
        return Calibration.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: cannot be read: {' '.join(str(error).split())}") from None
