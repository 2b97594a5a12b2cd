"""Data sets of the Hugging Face hub, and local folders of them: ``hf:NAME``, parquet with images inside, saved sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ordage.eval import OrdinalScale

from ...errors import DataError, MissingError, UsageError, did_you_mean
from ..ages import parse_age
from ..cache import cache_root
from ..contents import Files
from ..manifest import Manifest, Rejections
from .base import Layout, Source, age_row
from .folders import PART_NAMES
from .table import ALIASES, GROUPS, PARQUET

if TYPE_CHECKING:
    from ...config import DataConfig

PREFIX = "hf:"
SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk leaves


class HubImages:
    """The encoded images of a set, one a row.

    Args:
        rows: a ``datasets.Dataset`` that is not decoded.
        column: the column of its images.
        files: the files that it was read from; none for a set from the hub.
    """

    def __init__(self, rows: Any, column: str, files: list[Path]) -> None:
        """Keep them; nothing is read yet."""
        self.rows, self.column, self.files = rows, column, files

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.rows)

    def read(self, row: int) -> bytes:
        """Return the bytes of an image."""
        image = self.rows[row][self.column]
        if image is None:
            raise OSError("no image")
        return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()

    def name(self, row: int) -> str:
        """Return what a row is called."""
        return f"row {row}"

    def stamp(self) -> str | None:
        """Return a hash of the files' paths, sizes and times of change."""
        return Files([str(file) for file in self.files]).stamp() if self.files else None


def _recognise(source: Source) -> str | None:
    if source.name.startswith(PREFIX):
        return f"its name begins with {PREFIX}"
    if source.is_folder and (saved := source.files(*SAVED)):
        return f"{saved[0].name} shows that datasets wrote it"
    files = _parquet_files(source)
    if files and (column := _image_column(files[0])):
        return f"{files[0].name} has images in its column {column!r}"
    return None


def _parquet_files(source: Source) -> list[Path]:
    if source.is_folder:
        return sorted(file for suffix in PARQUET for file in source.path.glob(f"**/*{suffix}"))
    return [source.path] if source.path.suffix.lower() in PARQUET else []


def _image_column(file: Path) -> str | None:
    """Return the column that holds encoded images, ``None`` if there is none, or no pyarrow to see it with."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return None
    try:
        schema = parquet.read_schema(file)
    except (OSError, pa.ArrowException):
        return None
    for field in schema:
        if pa.types.is_struct(field.type) and "bytes" in {inner.name for inner in field.type}:
            return str(field.name)
    return None


def _read(source: Source, options: DataConfig, reason: str) -> Manifest:
    parts = _parts(source)
    rows, part_of = _joined(source, parts)
    image, age = _choose(source, rows, options)
    subject = _named(source, rows, options.subject_col, "--subject-col") or next(
        (name for name in rows.column_names if name.lower() in ALIASES["subject_col"]), None
    )
    groups = options.group_col or tuple(name for name in rows.column_names if name.lower() in GROUPS)
    for name in groups:
        _named(source, rows, name, "--group-col")
    wanted = [name for name in (age, subject, *groups) if name is not None]
    texts = {name: _texts(rows, name) for name in wanted}

    labels: list[str] = getattr(rows.features[age], "names", None) or []
    classes = any(parse_age(label) is None for label in labels)  # names of grades rather than of ages
    kept, table, rejected = [], [], Rejections()
    for row, text in enumerate(texts[age]):
        fields: dict[str, object] = {name: texts[name][row] for name in groups}
        if subject is not None:
            fields["subject"] = texts[subject][row]
        if part_of:
            fields["part"] = part_of[row]
        sample = f"row {row:07d}"
        try:
            if classes:
                place = float(labels.index(text))
                table.append({"id": sample, "low": place, "high": place, **fields})
            else:
                table.append(age_row(sample, text, **fields))
            kept.append(row)
        except ValueError as error:
            rejected.add(sample, str(error))
    plain = rows.select_columns([image]).select(kept)
    return Manifest(
        table=pd.DataFrame(table),
        source=source.name,
        layout="hf",
        reason=reason,
        encoded=HubImages(_not_decoded(plain, image), image, _files_of(source)),
        scale=OrdinalScale.from_labels(labels) if classes else None,
        groups=tuple(groups),
        rejected=rejected,
    )


def _parts(source: Source) -> dict[str, Any]:
    """Return the splits of the set by name."""
    try:
        import datasets
    except ImportError:
        raise MissingError(f"{source.name}: needs the datasets package: pip install 'ordage[datasets]'") from None
    try:
        if source.name.startswith(PREFIX):
            found = datasets.load_dataset(source.name.removeprefix(PREFIX))
        elif source.is_folder and source.files(*SAVED):
            found = datasets.load_from_disk(str(source.path))
        else:
            folder = str(source.path if source.is_folder else source.path.parent)
            files = None if source.is_folder else source.path.name
            found = datasets.load_dataset(folder, data_files=files, cache_dir=str(cache_root() / "datasets"))
    except Exception as error:  # whatever it meets: the network, the hub, or the files
        kind = MissingError if source.name.startswith(PREFIX) else DataError
        raise kind(f"{source.name}: cannot be loaded by datasets: {' '.join(str(error).split())[:300]}") from None
    return dict(found) if isinstance(found, dict) else {"": found}


def _joined(source: Source, parts: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return all rows as one set, and the part of each where the splits are parts of ours."""
    import datasets

    rows = datasets.concatenate_datasets(list(parts.values()))
    if not len(rows):
        raise DataError(f"{source.name}: holds no rows")
    names = [PART_NAMES.get(name.lower()) for name in parts]
    if len(parts) < 2 or None in names:  # a set of one split is split like any other
        return rows, []
    return rows, [str(name) for name, part in zip(names, parts.values(), strict=True) for _ in range(len(part))]


def _choose(source: Source, rows: Any, options: DataConfig) -> tuple[str, str]:
    """Return the columns with the images and the ages."""
    import datasets

    image = _named(source, rows, options.image_col, "--image-col") or next(
        (name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)), None
    )
    by_lower = {name.lower(): name for name in rows.column_names}
    age = _named(source, rows, options.age_col, "--age-col") or next(
        (by_lower[alias] for alias in ALIASES["age_col"] if alias in by_lower), None
    )
    for found, what, flag in ((image, "images", "--image-col"), (age, "ages", "--age-col")):
        if found is None:
            have = ", ".join(rows.column_names)
            raise DataError(f"{source.name}: no column with the {what}; it has {have}; name it by {flag}")
    if not isinstance(rows.features[image], datasets.Image):
        raise DataError(f"{source.name}: the column {image!r} holds no images, but {rows.features[image]}")
    return str(image), str(age)


def _named(source: Source, rows: Any, name: str | None, flag: str) -> str | None:
    if name is not None and name not in rows.column_names:
        have = ", ".join(rows.column_names)
        raise UsageError(f"{flag} {name}: {source.name} has the columns {have}{did_you_mean(name, rows.column_names)}")
    return name


def _texts(rows: Any, name: str) -> list[str]:
    """Return a column as text; classes by their names."""
    labels = getattr(rows.features[name], "names", None)
    values = rows.select_columns([name])[:][name]
    if labels is not None:
        return ["" if value is None or value < 0 else labels[value] for value in values]
    return ["" if value is None else f"{value:g}" if isinstance(value, float) else str(value) for value in values]


def _not_decoded(rows: Any, column: str) -> Any:
    import datasets

    return rows.cast_column(column, datasets.Image(decode=False))


def _files_of(source: Source) -> list[Path]:
    if source.name.startswith(PREFIX):
        return []
    if not source.is_folder:
        return [source.path]
    return sorted(file for file in source.path.rglob("*") if file.is_file())


LAYOUT = Layout(
    "hf", _recognise, _read, "hf:NAME from the Hugging Face hub, or a local folder of it (parquet, save_to_disk)"
)
