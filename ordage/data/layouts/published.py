"""Published sets that come as tables with quirks of their own: MORPH, APPA-REAL, FairFace, Adience."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DataError
from ..ages import parse_age
from ..manifest import Manifest, Rejections, make_table
from .base import Layout, Source
from .file_names import MORPH_NAMES
from .table import TEXT, Table, choose_columns, image_root, load, manifest_of

if TYPE_CHECKING:
    from ...config import DataConfig


def _header(file: Path) -> list[str]:
    """Return the names in a table's first line, in small letters; none for what is no table."""
    try:
        with file.open("rb") as content:
            first = content.readline(65_536)
    except OSError:
        return []
    return [name.strip().strip('"').lower() for name in first.decode("utf-8-sig", "replace").split(",")]


def _tables_with(source: Source, columns: set[str]) -> list[Path]:
    """Return the tables in the source that have all of these columns."""
    if not source.path.exists():
        return []
    return [file for file in source.files(*TEXT) if columns <= set(_header(file))]


# -- MORPH -------------------------------------------------------------------------------------------------------------

MORPH_COLUMNS = {"photo", "id_num", "age"}


def _recognise_morph(source: Source) -> str | None:
    if files := _tables_with(source, MORPH_COLUMNS):
        return f"{files[0].name} has the columns photo, id_num and age"
    return MORPH_NAMES.recognise(source)


def _read_morph(source: Source, options: DataConfig, reason: str) -> Manifest:
    files = _tables_with(source, MORPH_COLUMNS)
    if not files:
        return MORPH_NAMES.read(source, options, reason)
    table = load(files[0])
    # Some copies keep the zeros before a number and some do not: 009055 and 9055 are one person.
    subject = options.subject_col or "id_num"
    if subject in table.frame:
        table.frame[subject] = table.frame[subject].str.strip().str.replace(r"^0+(?=\d)", "", regex=True)
    columns = choose_columns(table, dataclasses.replace(options, subject_col=subject))
    root = image_root(files[0], table.frame[columns.image].str.strip(), options.image_root)
    return manifest_of([(table, None)], columns, source, "morph", reason, root)


MORPH = Layout(
    "morph",
    _recognise_morph,
    _read_morph,
    f"{MORPH_NAMES.summary}: a table with photo, id_num, age, or {MORPH_NAMES.form}",
)

# -- APPA-REAL ---------------------------------------------------------------------------------------------------------

APPA_PARTS = {"train": "train", "valid": "val", "test": "test"}


def _appa_tables(source: Source) -> dict[str, Path]:
    """Return the table of averages of each part."""
    found = {} if not source.path.exists() else {file.name.lower(): file for file in source.files(".csv")}
    names = {part: f"gt_avg_{part}.csv" for part in APPA_PARTS}
    return {part: found[name] for part, name in names.items() if name in found}


def _recognise_appa(source: Source) -> str | None:
    found = _appa_tables(source) if source.is_folder else {}
    return f"it holds {', '.join(file.name for file in found.values())}" if "train" in found else None


def _read_appa(source: Source, options: DataConfig, reason: str) -> Manifest:
    found = _appa_tables(source)
    if not found:
        raise DataError(f"{source.name}: expected a folder with gt_avg_train.csv")
    tables = [(_with_folder(load(file), part), APPA_PARTS[part]) for part, file in found.items()]
    age = options.age_col or "real_age"
    columns = choose_columns(tables[0][0], dataclasses.replace(options, image_col="file_name", age_col=age))
    # The spread of the guesses belongs to the apparent age; the real one is known exactly.
    columns = dataclasses.replace(columns, age_std="apparent_age_std" if age == "apparent_age_avg" else None)
    manifest = manifest_of(
        tables,
        columns,
        source,
        "appa-real",
        reason,
        Path(options.image_root or source.path),
        image_name=lambda name: name if name.endswith("_face.jpg") else f"{name}_face.jpg",
    )
    other = "apparent_age_avg" if age == "real_age" else "real_age"
    manifest.notes.append(f"the ages are the column {age}; --age-col {other} takes the other one")
    return manifest


def _with_folder(table: Table, part: str) -> Table:
    """Put the part's folder before the image's name."""
    if "file_name" not in table.frame:
        raise DataError(f"{table.file}: expected the column file_name, but it has {', '.join(table.frame.columns)}")
    table.frame["file_name"] = [f"{part}/{name.strip()}" if name.strip() else "" for name in table.frame["file_name"]]
    return table


APPA_REAL = Layout(
    "appa-real",
    _recognise_appa,
    _read_appa,
    "APPA-REAL (Agustsson et al., FG 2017): gt_avg_{train,valid,test}.csv, real or apparent ages",
)

# -- FairFace ----------------------------------------------------------------------------------------------------------

FAIRFACE_COLUMNS = {"file", "age", "gender", "race"}


def _recognise_fairface(source: Source) -> str | None:
    files = _tables_with(source, FAIRFACE_COLUMNS)
    if not files or not all("fairface" in file.name.lower() or "service_test" in _header(file) for file in files):
        return None
    return f"{', '.join(file.name for file in files)} with file, age, gender, race"


def _read_fairface(source: Source, options: DataConfig, reason: str) -> Manifest:
    files = _tables_with(source, FAIRFACE_COLUMNS)
    if not files:
        raise DataError(f"{source.name}: expected a table with the columns file, age, gender and race")
    parts = [_fairface_part(file) for file in files]
    # One table alone is split like any other.
    tables = [(load(file), part if len(set(parts)) > 1 else None) for file, part in zip(files, parts, strict=True)]
    columns = choose_columns(tables[0][0], options)
    root = image_root(files[0], tables[0][0].frame[columns.image].str.strip(), options.image_root)
    manifest = manifest_of(tables, columns, source, "fairface", reason, root)
    if "part" in manifest.table:
        manifest.notes.append("FairFace publishes no third part: its validation part is the test part here")
    return manifest


def _fairface_part(file: Path) -> str:
    return "test" if re.search(r"val|test", file.name, re.IGNORECASE) else "train"


FAIRFACE = Layout(
    "fairface",
    _recognise_fairface,
    _read_fairface,
    "FairFace (Kärkkäinen, Joo, WACV 2021): file,age,gender,race; 3-9 … more than 70",
)

# -- Adience -----------------------------------------------------------------------------------------------------------

ADIENCE_FOLD = re.compile(r"fold_(?:frontal_)?(\d)_data\.txt", re.IGNORECASE)
ADIENCE_GROUPS = ((0, 2), (4, 6), (8, 13), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))
ADIENCE_SLIPS = {"(25, 23)": "(25, 32)"}
ADIENCE_IMAGES = (
    "faces/{user_id}/coarse_tilt_aligned_face.{face_id}.{original_image}",
    "aligned/{user_id}/landmark_aligned_face.{face_id}.{original_image}",
)


def _adience_folds(source: Source) -> list[Path]:
    if not source.is_folder:
        return []
    folds = [file for file in source.files(".txt") if ADIENCE_FOLD.fullmatch(file.name)]
    whole = [file for file in folds if "frontal" not in file.name.lower()]
    return whole or folds


def _recognise_adience(source: Source) -> str | None:
    folds = _adience_folds(source)
    return f"it holds {folds[0].name} and {len(folds) - 1} more like it" if len(folds) > 1 else None


def _read_adience(source: Source, options: DataConfig, reason: str) -> Manifest:
    folds = _adience_folds(source)
    if not folds:
        raise DataError(f"{source.name}: expected a folder with fold_0_data.txt to fold_4_data.txt")
    root = Path(options.image_root or source.path)
    rows: list[dict[str, object]] = []
    rejected = Rejections()
    for file in folds:
        match = ADIENCE_FOLD.fullmatch(file.name)
        assert match is not None
        table = load(file)
        if lacking := {"user_id", "original_image", "face_id", "age"} - set(table.frame.columns):
            raise DataError(f"{file}: no column {sorted(lacking)[0]!r}; it has {', '.join(table.frame.columns)}")
        rejected.rows += table.rejected.rows
        form = _adience_form(root, table)
        for where, record in zip(table.where, table.frame.to_dict("records"), strict=True):
            group = _adience_group(record["age"])
            if group is None:
                reason_ = f"age {record['age']!r} is in none of the eight age groups"
                rejected.set_aside(f"{file.name} {where}", reason_)
                continue
            name = form.format(**record)
            low, high = ADIENCE_GROUPS[group]
            rows.append(
                {
                    "id": name,
                    "low": float(low),
                    "high": math.inf if high == 100 else float(high),
                    "path": str(root / name),
                    # Images of one account show the same people: the official folds keep accounts apart.
                    "subject": record["user_id"],
                    "fold": int(match[1]),
                    "gender": {"m": "male", "f": "female"}.get(record.get("gender", ""), ""),
                }
            )
    notes = []
    if rejected.aside:
        notes.append(
            f"{len(rejected.aside):,} images without one of the eight age groups are set aside, as in the official "
            "protocol (see rejected.csv)"
        )
    return Manifest(
        table=make_table(rows),
        source=source.name,
        layout="adience",
        reason=reason,
        scale=None,
        groups=("gender",),
        rejected=rejected,
        notes=notes,
    )


def _adience_form(root: Path, table: Table) -> str:
    """Return how the images are called: as the first ones that are there, else as in faces.tar.gz."""
    records = table.frame.head(20).to_dict("records")
    return next(
        (form for form in ADIENCE_IMAGES if any((root / form.format(**record)).exists() for record in records)),
        ADIENCE_IMAGES[0],
    )


def _adience_group(text: str) -> int | None:
    """Return which of the eight groups an age lies in; many are a single year, or an interval inside a group."""
    interval = parse_age(ADIENCE_SLIPS.get(text.strip(), text))
    if interval is None:
        return None
    inside = (group for group, (low, high) in enumerate(ADIENCE_GROUPS) if low <= interval[0] and interval[1] <= high)
    return next(inside, None)


ADIENCE = Layout(
    "adience",
    _recognise_adience,
    _read_adience,
    "Adience (Eidinger, Enbar, Hassner, TIFS 2014): fold_0..4_data.txt and faces/, official five folds",
)
