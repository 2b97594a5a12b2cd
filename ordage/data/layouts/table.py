"""A CSV or TSV file with a column of image paths and a column of ages."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ...errors import DataError, UsageError, did_you_mean
from ..manifest import Manifest, Rejections, make_table
from .base import Layout, age_row, register
from .folders import PART_NAMES

if TYPE_CHECKING:
    from ...config import TrainingConfig

SEPARATORS = {".csv": ",", ".tsv": "\t"}
# Names that columns have in the published age sets and in people's own tables, compared without case.
ALIASES = {
    "image_col": (
        "image",
        "img",
        "path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "image_path",
        "img_path",
        "image_name",
        "photo",
        "full_path",
        "images",
    ),
    "age_col": ("age", "real_age", "age_years", "years", "age_group", "age_range", "age_bin", "label", "target"),
    "subject_col": ("subject", "subject_id", "person", "person_id", "id_num", "identity", "identity_id"),
    "split_col": ("split", "part", "partition", "subset", "set", "usage"),
}
GROUPS = ("gender", "sex", "race", "ethnicity")
RESERVED = ("id", "low", "high", "path", "subject", "part")  # columns of the manifest itself


def _table_of(path: Path) -> Path | None:
    if path.is_dir():
        tables = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SEPARATORS)
        return tables[0] if len(tables) == 1 else None
    return path if path.suffix.lower() in SEPARATORS else None


def _recognise(path: Path) -> str | None:
    table = _table_of(path)
    if table is None:
        return None
    return f"{table.name} is the only table in the folder" if path.is_dir() else f"it ends in {path.suffix}"


def _read(path: Path, options: TrainingConfig, reason: str) -> Manifest:
    file = _table_of(path)
    if file is None:
        raise DataError(f"{path}: expected a file ending in {' or '.join(SEPARATORS)}")
    frame = _load(file)
    columns = {key: _column(file, frame, key, getattr(options, key)) for key in ALIASES}
    for key, what in (("image_col", "images"), ("age_col", "ages")):
        if columns[key] is None:
            flag = "--" + key.replace("_", "-")
            raise DataError(
                f"{file}: no column with the {what}; it has {', '.join(map(str, frame.columns))}; name it by {flag}"
            )
    groups = options.group_col or tuple(name for name in frame.columns if name.lower() in GROUPS)
    for name in groups:
        if _named(file, frame, name, "--group-col") in RESERVED:
            raise UsageError(f"--group-col {name}: the name is taken; rename the column")
    parts = frame[columns["split_col"]] if columns["split_col"] else None
    if options.split_col is None and parts is not None and not parts.str.strip().str.lower().isin(PART_NAMES).all():
        parts = None  # a column that merely has such a name must not throw its rows out
    names = frame[columns["image_col"]].str.strip()
    root = _image_root(file, names, options.image_root)

    rows, rejected = [], Rejections()
    subjects = frame[columns["subject_col"]] if columns["subject_col"] else None
    seen: dict[str, int] = {}
    for index, (name, age) in enumerate(zip(names, frame[columns["age_col"]], strict=True)):
        line = index + 2  # line 1 is the header
        fields: dict[str, object] = {group: frame[group].iat[index] for group in groups}
        if subjects is not None:
            fields["subject"] = subjects.iat[index]
        try:
            if not name:
                raise ValueError("no image")
            if name in seen:
                raise ValueError(f"the same image as line {seen[name]}")
            if parts is not None:
                fields["part"] = _part(parts.iat[index])
            rows.append(age_row(name, age, path=str(root / name), **fields))
            seen[name] = line
        except ValueError as error:
            rejected.add(f"{file.name} line {line}", str(error))
    return Manifest(
        table=make_table(rows), source=str(path), layout="csv", reason=reason, groups=tuple(groups), rejected=rejected
    )


def _load(file: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(
            file,
            sep=SEPARATORS[file.suffix.lower()],
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
        )
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{file}: cannot be read as a table: {' '.join(str(error).split())}") from None
    frame.columns = frame.columns.str.strip()
    return frame


def _column(file: Path, frame: pd.DataFrame, key: str, named: str | None) -> str | None:
    if named is not None:
        return _named(file, frame, named, "--" + key.replace("_", "-"))
    by_lower = {name.lower(): name for name in reversed(frame.columns)}
    return next((by_lower[alias] for alias in ALIASES[key] if alias in by_lower), None)


def _named(file: Path, frame: pd.DataFrame, name: str, flag: str) -> str:
    if name not in frame.columns:
        have = ", ".join(map(str, frame.columns))
        raise UsageError(f"{flag} {name}: {file} has the columns {have}{did_you_mean(name, frame.columns)}")
    return name


def _part(text: str) -> str:
    try:
        return PART_NAMES[text.strip().lower()]
    except KeyError:
        raise ValueError(f"expected train, val or test, but got {text!r}") from None


def _image_root(file: Path, names: Iterable[str], given: str | None) -> Path:
    """Return the folder that the paths start from: the one named, the table's own, or one beside the table."""
    if given is not None:
        root = Path(given)
        if not root.is_dir():
            raise UsageError(f"--image-root {given}: no such folder")
        return root
    names = [name for name in names if name]
    here = file.parent
    sample = names[:: max(1, len(names) // 50)]
    if any((here / name).exists() for name in sample):
        return here
    beside = sorted(Path(entry.path) for entry in os.scandir(here) if entry.is_dir())
    return next((folder for folder in beside if all((folder / name).exists() for name in sample)), here)


register(Layout("csv", _recognise, _read))
