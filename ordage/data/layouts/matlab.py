"""Published sets whose labels are MATLAB files: IMDB-WIKI and CACD."""

from __future__ import annotations

import unicodedata
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError
from ..manifest import Manifest, Rejections, make_table
from .base import Layout, Source
from .file_names import CACD_NAMES, person

if TYPE_CHECKING:
    from ...config import DataConfig

MATLAB_DAYS = 366  # by which MATLAB's day numbers, which count from year 0, are ahead of Python's
WIKI_OLDEST = 100


def _mat_files(source: Source) -> list[Path]:
    return source.files(".mat") if source.path.exists() else []


def _load(file: Path) -> dict[str, Any]:
    """Read the structures of a MATLAB file of version 5 to 7.2."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: dict[str, Any] = loadmat(file, squeeze_me=True, struct_as_record=False)
    except NotImplementedError:
        raise DataError(f"{file}: MATLAB 7.3 files are HDF5; save it again by save(…, '-v7')") from None
    except (OSError, ValueError, TypeError, KeyError, MatReadError, MemoryError, OverflowError) as error:
        raise DataError(f"{file}: cannot be read as a MATLAB file: {' '.join(str(error).split())}") from None
    return content


def _structure(file: Path, *names: str) -> Any:
    content = _load(file)
    for name in names:
        if name in content:
            return content[name]
    have = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
    raise DataError(f"{file}: expected the structure {' or '.join(names)}, but it holds {have}")


def _column(file: Path, structure: Any, name: str) -> list[Any]:
    values = getattr(structure, name, None)
    if values is None:
        have = ", ".join(getattr(structure, "_fieldnames", ())) or "no field"
        raise DataError(f"{file}: no field {name!r}; it has {have}")
    return np.atleast_1d(values).tolist()


# -- IMDB-WIKI ---------------------------------------------------------------------------------------------------------


def _wiki_file(source: Source) -> Path | None:
    return next((file for file in _mat_files(source) if file.stem.lower() in ("imdb", "wiki")), None)


def _recognise_wiki(source: Source) -> str | None:
    file = _wiki_file(source)
    return f"{file.name} holds its labels" if file else None


def _read_wiki(source: Source, options: DataConfig, reason: str) -> Manifest:
    file = _wiki_file(source)
    if file is None:
        raise DataError(f"{source.name}: expected imdb.mat or wiki.mat, or the folder that holds it")
    structure = _structure(file, "imdb", "wiki")
    names = ("full_path", "dob", "photo_taken", "face_score", "second_face_score")
    columns = {name: _column(file, structure, name) for name in names}
    if len({len(column) for column in columns.values()}) > 1:
        raise DataError(f"{file}: its fields differ in length")
    size = len(columns["full_path"])
    gender = _optional(structure, "gender", size)
    # IMDB numbers its people; WIKI has one page, and so as a rule one photograph, a person.
    subject = _optional(structure, "celeb_id", size) or _optional(structure, "name", size)
    root = Path(options.image_root) if options.image_root else file.parent
    rows: list[dict[str, object]] = []
    rejected, seen = Rejections(), set[str]()
    for row in range(size):
        name = str(columns["full_path"][row])
        if name in seen:
            rejected.add(name, "listed twice")
            continue
        seen.add(name)
        try:
            age = _age(columns["dob"][row], columns["photo_taken"][row])
            if not 0 <= age <= WIKI_OLDEST:
                raise ValueError(f"age {age} by its dates is not between 0 and {WIKI_OLDEST}")
            if not np.isfinite(float(columns["face_score"][row])):
                raise ValueError("no face was found in it")
            if not np.isnan(float(columns["second_face_score"][row])):
                raise ValueError("it shows a second face, and the age may be that one's")
        except (ValueError, TypeError, OverflowError) as error:
            rejected.set_aside(name, str(error))
            continue
        fields: dict[str, object] = {"id": name, "low": float(age), "high": float(age), "path": str(root / name)}
        if subject:
            # A page without a name is an empty array.
            fields["subject"] = "" if isinstance(subject[row], list) else person(str(subject[row]))
        if gender:
            fields["gender"] = {0.0: "female", 1.0: "male"}.get(gender[row], "")
        rows.append(fields)
    notes = []
    if rejected.aside:
        notes.append(
            f"{len(rejected.aside):,} of {size:,} images are set aside: no single face, or an age outside of 0 to "
            f"{WIKI_OLDEST} (see rejected.csv)"
        )
    return Manifest(
        table=make_table(rows),
        source=source.name,
        layout="imdb-wiki",
        reason=reason,
        groups=("gender",) if gender else (),
        rejected=rejected,
        notes=notes,
    )


def _optional(structure: Any, name: str, size: int) -> list[Any]:
    values = getattr(structure, name, None)
    found = [] if values is None else np.atleast_1d(values).tolist()
    return found if len(found) == size else []


def _age(born: Any, taken: Any) -> int:
    """Return the age in the middle of the year of the photograph, of which only the year is known."""
    day = int(born) - MATLAB_DAYS
    if day < 1:
        raise ValueError(f"its date of birth, {born}, is none")
    birthday = date.fromordinal(day)
    return int(taken) - birthday.year - (birthday.month >= 7)


IMDB_WIKI = Layout(
    "imdb-wiki",
    _recognise_wiki,
    _read_wiki,
    "IMDB-WIKI (Rothe, Timofte, Van Gool, IJCV 2018): imdb.mat or wiki.mat beside the images",
)

# -- CACD --------------------------------------------------------------------------------------------------------------


def _cacd_file(source: Source) -> Path | None:
    return next((file for file in _mat_files(source) if file.stem.lower().startswith("celebrity2000")), None)


def _recognise_cacd(source: Source) -> str | None:
    file = _cacd_file(source)
    return f"{file.name} holds its labels" if file else CACD_NAMES.recognise(source)


def _read_cacd(source: Source, options: DataConfig, reason: str) -> Manifest:
    file = _cacd_file(source)
    if file is None:
        return CACD_NAMES.read(source, options, reason)
    structure = _structure(file, "celebrityImageData")
    ages, identities, names = (_column(file, structure, name) for name in ("age", "identity", "name"))
    root = Path(options.image_root) if options.image_root else file.parent
    files = {_spelling(image.name): image for image in Source(str(root)).images}
    rows: list[dict[str, object]] = []
    rejected = Rejections()
    for age, identity, name in zip(ages, identities, names, strict=False):
        # Accents are spelt in one way or the other, or garbled, depending on who unpacked the archive.
        found = files.get(_spelling(str(name)))
        if found is None:
            rejected.add(str(name), "no such image")
            continue
        path = str(found)
        rows.append({"id": str(name), "low": float(age), "high": float(age), "path": path, "subject": str(identity)})
    return Manifest(table=make_table(rows), source=source.name, layout="cacd", reason=reason, rejected=rejected)


def _spelling(name: str) -> str:
    """Return a file name with its accented letters reduced to their base, and what is not ASCII left out."""
    return "".join(char for char in unicodedata.normalize("NFKD", name) if ord(char) < 128).lower()


CACD = Layout(
    "cacd",
    _recognise_cacd,
    _read_cacd,
    f"{CACD_NAMES.summary}: {CACD_NAMES.form}, or celebrity2000.mat beside the images",
)
