"""Tables with a column of image paths and a column of ages: CSV, TSV, parquet, and the sets that come as such."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...errors import DataError, MissingError, UsageError, did_you_mean
from ..ages import is_spreadsheet_date
from ..manifest import Manifest, Rejections, make_table
from .base import Layout, Source, age_row
from .folders import PART_NAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...config import DataConfig

__all__ = ["Columns", "Table", "choose_columns", "image_column", "image_root", "load", "manifest_of"]

TEXT = (".csv", ".tsv")
PARQUET = (".parquet", ".pq")
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
RESERVED = ("id", "low", "high", "path", "subject", "part", "fold", "age_std")  # columns of the manifest itself
DECIMAL_COMMA = re.compile(r"\s*\d+,\d+\s*")


@dataclass(frozen=True)
class Table:
    """A table as it lies on disk.

    Attributes:
        file: where it is.
        frame: ``(N, columns)`` text; numbers are read where they are needed.
        where: ``(N,)`` how a message names each row, such as "line 12".
        rejected: rows that could not be read, with the reason.
        notes: what was repaired.
    """

    file: Path
    frame: pd.DataFrame
    where: Sequence[str]
    rejected: Rejections = field(default_factory=Rejections)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        image: paths of the images.
        age: ages or age intervals.
        subject: whose image it is.
        split: train, val or test.
        fold: official folds, whole numbers from 0.
        age_std: standard deviation of the age, in years.
        groups: columns to carry along.
    """

    image: str
    age: str
    subject: str | None = None
    split: str | None = None
    fold: str | None = None
    age_std: str | None = None
    groups: tuple[str, ...] = ()


def load(file: Path) -> Table:
    """Read a table as text.

    Raises:
        DataError: it cannot be read, or has no row.
        MissingError: it is a parquet file, and there is no pyarrow to read it.
    """
    table = _load_parquet(file) if file.suffix.lower() in PARQUET else _load_text(file)
    if table.frame.empty and not len(table.rejected):
        raise DataError(f"{file}: the table has no rows")
    return table


def _load_parquet(file: Path) -> Table:
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingError(f"{file}: parquet needs pyarrow: pip install 'ordage[datasets]'") from None
    try:
        frame = parquet.read_table(file).to_pandas()
    except Exception as error:  # pyarrow has many ways to say that a file is broken
        raise DataError(f"{file}: cannot be read as a table: {' '.join(str(error).split())}") from None
    frame.columns = frame.columns.astype(str).str.strip()
    for name in frame.columns:
        frame[name] = frame[name].map(_as_text)
    return Table(file, frame.reset_index(drop=True), [f"row {row}" for row in range(len(frame))])


def _as_text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _load_text(file: Path) -> Table:
    notes: list[str] = []
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from None
    text = _decode(content, notes)
    separator = _separator(file, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    header: list[str] = []
    rows, where, rejected = [], [], Rejections()
    while True:
        line = reader.line_num + 1  # a quoted field may span several lines: the first one is named
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            rejected.add(f"{file.name} line {line}", f"cannot be read ({error})")
            continue
        if not header:
            header = [name.strip() for name in row]
        elif any(value.strip() for value in row):
            if len(row) == len(header):
                rows.append(row)
                where.append(f"line {line}")
            else:
                rejected.add(f"{file.name} line {line}", f"has {len(row)} fields, the header {len(header)}")
    if not any(header):
        raise DataError(f"{file}: cannot be read as a table: it has no header line")
    if twice := next((name for name in header if name and header.count(name) > 1), None):
        raise DataError(f"{file}: two columns are called {twice!r}; rename one")
    return Table(file, pd.DataFrame(rows, columns=header, dtype=str), where, rejected, notes)


def _decode(content: bytes, notes: list[str]) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # what spreadsheets call Unicode text
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        notes.append("the table is not UTF-8; read as Windows-1252, as older spreadsheets write it")
        return content.decode("cp1252", errors="replace")


def _separator(file: Path, text: str) -> str:
    """Return what separates the columns: a tab in .tsv, else what the header has most of comma, semicolon and tab."""
    header = text.split("\n", 1)[0]
    return "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=header.count)


def choose_columns(table: Table, options: DataConfig) -> Columns:
    """Find the columns: as named by options, else by their usual names.

    Raises:
        UsageError: a column that an option names is not there.
        DataError: there is no column for images or ages.
    """
    found = {key: _column(table, key, getattr(options, key)) for key in ALIASES}
    for key, what in (("image_col", "images"), ("age_col", "ages")):
        if found[key] is None:
            raise DataError(
                f"{table.file}: no column with the {what}; it has {', '.join(table.frame.columns)}; name it by "
                f"--{key.replace('_', '-')}"
            )
    frame, split = table.frame, found["split_col"]
    if options.split_col is None and split and not frame[split].str.strip().str.lower().isin(PART_NAMES).all():
        split = None  # a column that merely has such a name must not throw its rows out
    groups = options.group_col or tuple(name for name in frame.columns if name.lower() in GROUPS)
    for name in groups:
        if named_column(table, name, "--group-col") in RESERVED:
            raise UsageError(f"--group-col {name}: the name is taken; rename the column")
    return Columns(
        image=str(found["image_col"]),
        age=str(found["age_col"]),
        subject=found["subject_col"],
        split=split,
        fold="fold" if "fold" in frame.columns and frame["fold"].str.fullmatch(r"\s*\d{1,3}\s*").all() else None,
        age_std="age_std" if "age_std" in frame.columns else None,
        groups=groups,
    )


def image_column(table: Table, named: str | None) -> str:
    """Return the column with the paths of images: as named, else by its usual names.

    Raises:
        UsageError: there is no column of that name.
        DataError: none has a usual name.
    """
    found = _column(table, "image_col", named)
    if found is None:
        have = ", ".join(table.frame.columns)
        raise DataError(f"{table.file}: no column with the images; it has {have}; name it by --image-col")
    return found


def _column(table: Table, key: str, named: str | None) -> str | None:
    if named is not None:
        return named_column(table, named, "--" + key.replace("_", "-"))
    by_lower = {name.lower(): name for name in reversed(table.frame.columns)}
    return next((by_lower[alias] for alias in ALIASES[key] if alias in by_lower), None)


def named_column(table: Table, name: str, flag: str) -> str:
    """Return the column's name if there is such a column.

    Raises:
        UsageError: there is none.
    """
    columns = table.frame.columns
    if name not in columns:
        have = ", ".join(map(str, columns))
        raise UsageError(f"{flag} {name}: {table.file} has the columns {have}{did_you_mean(name, columns)}")
    return name


def manifest_of(
    tables: Sequence[tuple[Table, str | None]],
    columns: Columns,
    source: Source,
    layout: str,
    reason: str,
    root: Path,
    *,
    image_name: Callable[[str], str] = str,
) -> Manifest:
    """Make the manifest of one or several tables with the same columns.

    Args:
        tables: each with its part, or ``None`` where the table tells the parts, or nothing does.
        columns: which of them hold what.
        source: what the user named.
        layout: name of the layout.
        reason: why it was taken for that layout.
        root: folder that the image paths start from.
        image_name: from what stands in the table to the path of the image.
    """
    rows: list[dict[str, object]] = []
    rejected, notes, seen = Rejections(), [], dict[str, str]()
    repaired = 0
    for table, part in tables:
        frame, decimal_comma = table.frame, False
        rejected.rows += table.rejected.rows
        notes += table.notes
        ages = frame[columns.age]
        if ages.str.contains(",", regex=False).any() and not ages.str.contains(r"[(\[]").any():
            decimal_comma = bool(ages.str.fullmatch(DECIMAL_COMMA).any())  # 34,5: a comma cannot separate columns there
        for index, where in enumerate(table.where):
            record = {name: frame[name].iat[index] for name in _used(columns)}
            name, age = record[columns.image].strip().replace("\\", "/"), record[columns.age].strip()
            try:
                if not name:
                    raise ValueError("no image")
                name = image_name(name)
                if name in seen:
                    raise ValueError(f"the same image as {seen[name]}")
                fields = _fields(record, columns, part)
                rows.append(age_row(name, age.replace(",", ".") if decimal_comma else age, **fields))
                rows[-1]["path"] = os.path.join(root, name)
                seen[name] = where
                repaired += is_spreadsheet_date(age)
            except ValueError as error:
                rejected.add(f"{table.file.name} {where}", str(error))
    if repaired:
        notes.append(
            f"{repaired:,} age intervals that a spreadsheet had turned into dates, such as 03-Sep, were repaired"
        )
    return Manifest(
        table=make_table(rows),
        source=source.name,
        layout=layout,
        reason=reason,
        groups=columns.groups,
        rejected=rejected,
        notes=notes,
    )


def _used(columns: Columns) -> list[str]:
    own = (columns.image, columns.age, columns.subject, columns.split, columns.fold, columns.age_std)
    return [name for name in (*own, *columns.groups) if name is not None]


def _fields(record: dict[str, str], columns: Columns, part: str | None) -> dict[str, object]:
    fields: dict[str, object] = {group: record[group].strip() for group in columns.groups}
    if columns.subject is not None:
        fields["subject"] = record[columns.subject].strip()
    if part is not None:
        fields["part"] = part
    elif columns.split is not None:
        fields["part"] = _part(record[columns.split])
    if columns.fold is not None:
        fields["fold"] = int(record[columns.fold])
    if columns.age_std is not None:
        text = record[columns.age_std].strip()
        fields["age_std"] = float(text) if text else math.nan
    return fields


def _part(text: str) -> str:
    try:
        return PART_NAMES[text.strip().lower()]
    except KeyError:
        raise ValueError(f"expected train, val or test, but got {text!r}") from None


def image_root(file: Path, names: Iterable[str], given: str | None) -> Path:
    """Return the folder that the paths start from: the one named, the table's own, or one beside the table."""
    if given is not None:
        root = Path(given)
        if not root.is_dir():
            raise UsageError(f"--image-root {given}: no such folder")
        return root
    names = [name.replace("\\", "/") for name in names if name and "\0" not in name]
    here = file.parent
    # os.path.exists, because that of a Path raises for names that no file can have, such as very long ones.
    sample = names[:: max(1, len(names) // 50)]
    if any(os.path.exists(here / name) for name in sample):
        return here
    beside = sorted(Path(entry.path) for entry in os.scandir(here) if entry.is_dir())
    return next((folder for folder in beside if sample and all(os.path.exists(folder / name) for name in sample)), here)


# -- people's own tables -----------------------------------------------------------------------------------------------


def _only_table(source: Source, suffixes: tuple[str, ...]) -> Path | None:
    files = source.files(*suffixes) if source.path.exists() else []
    return files[0] if len(files) == 1 else None


def _own_table(name: str, suffixes: tuple[str, ...], summary: str) -> Layout:
    """Return the layout of one table that people made themselves."""

    def recognise(source: Source) -> str | None:
        file = _only_table(source, suffixes)
        if file is None:
            return None
        return f"{file.name} is the only table in the folder" if source.is_folder else f"it ends in {file.suffix}"

    def read(source: Source, options: DataConfig, reason: str) -> Manifest:
        file = _only_table(source, suffixes)
        if file is None:
            raise DataError(f"{source.name}: expected one file ending in {' or '.join(suffixes)}")
        table = load(file)
        if (pixels := _pixel_column(table, options)) is not None:
            return _of_pixels(table, pixels, options, source, name, reason)
        columns = choose_columns(table, options)
        root = image_root(file, table.frame[columns.image].str.strip(), options.image_root)
        return manifest_of([(table, None)], columns, source, name, reason, root)

    return Layout(name, recognise, read, summary)


def _pixel_column(table: Table, options: DataConfig) -> str | None:
    """Return the column that holds grey values with blanks between, as some published tables do instead of files."""
    if options.image_col is not None:
        return None
    return next((name for name in table.frame.columns if name.lower() == "pixels"), None)


def _of_pixels(table: Table, pixels: str, options: DataConfig, source: Source, layout: str, reason: str) -> Manifest:
    images = {where: _pixels_of(text) for where, text in zip(table.where, table.frame[pixels], strict=True)}
    sides = Counter(image.shape[0] for image in images.values())
    side = max(sides, key=lambda side: (side > 0, sides[side]))
    good = [images[where].shape[0] == side > 0 for where in table.where]
    for where, fits in zip(table.where, good, strict=True):
        if not fits:
            table.rejected.add(f"{table.file.name} {where}", f"{pixels} is no square image like the others")
    # From here on a row's place in the table stands for its image.
    frame = table.frame.assign(**{pixels: table.where})[good].reset_index(drop=True)
    kept = dataclasses.replace(table, frame=frame, where=frame[pixels].tolist())
    columns = choose_columns(kept, dataclasses.replace(options, image_col=pixels))
    manifest = manifest_of([(kept, None)], columns, source, layout, reason, Path())
    found = np.stack([images[sample] for sample in manifest.table["id"]])
    return dataclasses.replace(manifest, table=manifest.table.drop(columns="path"), images=found)


def _pixels_of(text: str) -> NDArray[np.uint8]:
    """Return grey values with blanks between as ``(side, side, 1)``; empty if they are none."""
    try:
        values = np.array(text.split(), dtype=np.float64)
    except ValueError:
        values = np.empty(0)
    side = math.isqrt(values.size)
    if not side or side * side != values.size or not 0 <= values.min() <= values.max() <= 255:
        side, values = 0, np.empty(0)
    return values.reshape(side, side, 1).astype(np.uint8)


CSV = _own_table("csv", TEXT, "a table with image paths and ages, columns found by name or named by options")
PARQUET_TABLE = _own_table("parquet", PARQUET, "the same as parquet")
