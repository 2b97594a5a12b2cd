"""Folders named by age or bin: ``[train|val|test/]<age or bin>/image``, and AFAD, with a folder a gender inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DataError
from ..ages import parse_age
from ..manifest import Manifest, Rejections, make_table
from .base import Layout, Source, age_row

if TYPE_CHECKING:
    from ...config import DataConfig

PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
AFAD_GENDERS = {"111": "male", "112": "female"}


def _subfolders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _recognise(source: Source) -> str | None:
    if not source.is_folder:
        return None
    names = _subfolders(source.path)
    parts = [name for name in names if name.lower() in PART_NAMES]
    if parts and len(parts) == len(names):
        if not all(_age_folders(source.path / name) for name in parts):
            return None
        return f"the folders {', '.join(parts)} hold folders named by age"
    ages = _age_folders(source.path)
    return f"its {len(ages)} folders are named by age, such as {ages[0]!r}" if ages else None


def _age_folders(path: Path) -> list[str]:
    """Return the names of the folders in ``path`` if all of them are ages."""
    names = _subfolders(path)
    return names if all(parse_age(name) is not None for name in names) else []


def _read(source: Source, options: DataConfig, reason: str) -> Manifest:
    rows, rejected = [], Rejections()
    for file, sample in _files(source, "folders named by age"):
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
            rejected.add(str(row["id"]), "outside the train, val and test folders")
        rows = [row for row in rows if "part" in row]
    return Manifest(table=make_table(rows), source=source.name, layout="folders", reason=reason, rejected=rejected)


def _files(source: Source, expected: str) -> list[tuple[Path, str]]:
    if not source.is_folder:
        raise DataError(f"{source.name}: expected a folder of {expected}")
    return [(file, source.relative(file)) for file in source.images]


def _recognise_afad(source: Source) -> str | None:
    ages = _age_folders(source.path) if source.is_folder else []
    inside = {name for age in ages for name in _subfolders(source.path / age)}
    if not ages or not inside or not inside <= AFAD_GENDERS.keys():
        return None
    return f"its {len(ages)} folders are named by age and hold 111 (male) and 112 (female)"


def _read_afad(source: Source, options: DataConfig, reason: str) -> Manifest:
    rows, rejected = [], Rejections()
    for file, sample in _files(source, "<age>/<111 or 112>/<image>"):
        folders = sample.split("/")[:-1]
        try:
            if len(folders) != 2 or folders[1] not in AFAD_GENDERS:
                raise ValueError("not in a folder <age>/<111 or 112>")
            rows.append(age_row(sample, folders[0], path=str(file), gender=AFAD_GENDERS[folders[1]]))
        except ValueError as error:
            rejected.add(sample, str(error))
    return Manifest(
        table=make_table(rows),
        source=source.name,
        layout="afad",
        reason=reason,
        groups=("gender",),
        rejected=rejected,
    )


AFAD = Layout("afad", _recognise_afad, _read_afad, "AFAD (Niu et al., CVPR 2016): <age>/<111 male, 112 female>/<image>")
FOLDERS = Layout("folders", _recognise, _read, "[train|val|test/]<age or bin>/<image>, ordered by value: 1, 2, 10")
