"""Folders named by age or bin: ``[train|val|test/]<age or bin>/image``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..ages import parse_age
from ..manifest import Manifest, Rejections, image_files, make_table
from .base import Layout, age_row, register

if TYPE_CHECKING:
    from ...config import TrainingConfig

PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


def _subfolders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _recognise(path: Path) -> str | None:
    if not path.is_dir():
        return None
    names = _subfolders(path)
    parts = [name for name in names if name.lower() in PART_NAMES]
    if parts and len(parts) == len(names):
        if not all(_holds_ages(path / name) for name in parts):
            return None
        return f"the folders {', '.join(parts)} hold folders named by age"
    return f"its {len(names)} folders are named by age, such as {names[0]!r}" if _holds_ages(path) else None


def _holds_ages(path: Path) -> bool:
    names = _subfolders(path)
    return bool(names) and all(parse_age(name) is not None for name in names)


def _read(path: Path, options: TrainingConfig, reason: str) -> Manifest:
    rows, rejected = [], Rejections()
    for file in image_files(path):
        sample = file.relative_to(path).as_posix()
        part, *folders = sample.split("/")[:-1] or [""]
        fields: dict[str, object] = {"path": str(file)}
        if part.lower() in PART_NAMES:
            fields["part"] = PART_NAMES[part.lower()]
        else:
            folders = [part, *folders]
        try:
            rows.append(age_row(sample, folders[0] if folders else "", **fields))
        except ValueError as error:
            rejected.add(sample, str(error))
    if 0 < sum("part" in row for row in rows) < len(rows):
        for row in [row for row in rows if "part" not in row]:
            rows.remove(row)
            rejected.add(str(row["id"]), "outside the train, val and test folders")
    return Manifest(table=make_table(rows), source=str(path), layout="folders", reason=reason, rejected=rejected)


register(Layout("folders", _recognise, _read))
