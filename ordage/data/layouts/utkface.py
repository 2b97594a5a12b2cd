"""UTKFace: ``<age>_<gender>_<race>_<stamp>.jpg[.chip.jpg]`` (Zhang, Song, Qi, CVPR 2017)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..manifest import Manifest, Rejections, image_files, make_table
from .base import Layout, age_row, register

if TYPE_CHECKING:
    from ...config import TrainingConfig

GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Other")

_NAME = re.compile(r"\d{1,3}_[01]_[0-4]_\d+\.jpg(?:\.chip\.jpg)?", re.IGNORECASE)
_FIELDS = re.compile(r"(\d{1,3})_([01])_([0-4])_")
_AGE = re.compile(r"(\d{1,3})_")
SHOWN = 5  # odd file names listed in a note


def _recognise(path: Path) -> str | None:
    if not path.is_dir():
        return None
    names = [file.name for file in image_files(path)]
    fitting = sum(_NAME.fullmatch(name) is not None for name in names)
    if fitting < max(1, 0.9 * len(names)):
        return None
    return f"{fitting:,} of {len(names):,} file names are <age>_<gender>_<race>_<stamp>.jpg"


def _read(path: Path, options: TrainingConfig, reason: str) -> Manifest:
    rows, odd, rejected = [], [], Rejections()
    for file in image_files(path):
        sample = file.relative_to(path).as_posix()
        fields, age = _FIELDS.match(file.name), _AGE.match(file.name)
        gender, race = (GENDERS[int(fields[2])], RACES[int(fields[3])]) if fields else ("", "")
        try:
            rows.append(age_row(sample, age[1] if age else "", path=str(file), gender=gender, race=race))
        except ValueError:
            rejected.add(sample, "no age at the start of the file name")
            continue
        if not _NAME.fullmatch(file.name):
            odd.append(sample)
    notes = []
    if odd:
        shown = ", ".join(odd[:SHOWN]) + (", …" if len(odd) > SHOWN else "")
        notes.append(f"{len(odd)} odd file names, read by the age at their start: {shown}")
    return Manifest(
        table=make_table(rows),
        source=str(path),
        layout="utkface",
        reason=reason,
        groups=("gender", "race"),
        rejected=rejected,
        notes=notes,
    )


register(Layout("utkface", _recognise, _read))
