"""Data sets whose file names hold the age: each is a pattern and what its pieces mean."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import DataError
from ..manifest import Manifest, Rejections, make_table
from .base import Layout, Source, age_row

if TYPE_CHECKING:
    from ...config import DataConfig

__all__ = ["AGEDB", "CACD_NAMES", "FGNET", "MORPH_NAMES", "UTKFACE", "FileNames", "person"]

FITTING = 0.9  # share of the file names that have to fit before the layout is recognised
SHOWN = 5  # odd file names listed in a note
SUFFIX = r"\.(?:jpe?g|png|bmp|webp|tiff?|ppm|pgm|gif)"

Fields = dict[str, str]


@dataclass(frozen=True)
class FileNames:
    """A layout of images whose names hold the age.

    Attributes:
        name: what ``--layout`` calls it.
        form: how the names look, for people.
        pattern: what a whole file name has to match, case aside.
        fields: from a match to ``age`` and the columns of the manifest.
        groups: which of the columns are groups.
        salvage: the same for a name that does not match, or ``None`` where it holds no age.
        summary: what the set is, in one line.
    """

    name: str
    form: str
    pattern: re.Pattern[str]
    fields: Callable[[re.Match[str]], Fields]
    groups: tuple[str, ...]
    summary: str
    salvage: Callable[[str], Fields | None] = lambda name: None

    def recognise(self, source: Source) -> str | None:
        """Return how many names fit when most of them do."""
        files = source.images
        fitting = sum(self.pattern.fullmatch(file.name) is not None for file in files)
        if fitting < max(1, FITTING * len(files)):
            return None
        return f"{fitting:,} of {len(files):,} file names are {self.form}"

    def read(self, source: Source, options: DataConfig, reason: str) -> Manifest:
        """Make the manifest."""
        if not source.is_folder:
            raise DataError(f"{source.name}: expected a folder of images named {self.form}")
        rows, odd, rejected = [], [], Rejections()
        for file in source.images:
            sample = source.relative(file)
            match = self.pattern.fullmatch(file.name)
            fields = self.fields(match) if match else self.salvage(file.name)
            if fields is None:
                rejected.add(sample, f"not named {self.form}")
                continue
            age = fields.pop("age")
            try:
                rows.append(age_row(sample, age, path=str(file), **fields))
            except ValueError as error:
                rejected.add(sample, str(error))
                continue
            if not match:
                odd.append(sample)
        notes = []
        if odd:
            shown = ", ".join(odd[:SHOWN]) + (", …" if len(odd) > SHOWN else "")
            notes.append(f"{len(odd)} odd file names, read by the age at their start: {shown}")
        return Manifest(
            table=make_table(rows),
            source=source.name,
            layout=self.name,
            reason=reason,
            groups=self.groups,
            rejected=rejected,
            notes=notes,
        )

    def layout(self) -> Layout:
        """Return it as the registry knows it."""
        return Layout(self.name, self.recognise, self.read, f"{self.summary}: {self.form}")


def person(text: str) -> str:
    """Return a person's name as one spelling: words apart, accents composed.

    Example:
        >>> person("Robert_De_Niro")
        'Robert De Niro'
    """
    return unicodedata.normalize("NFC", " ".join(text.replace("_", " ").split()))


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


GENDERS = {"0": "male", "1": "female", "m": "male", "f": "female"}
UTKFACE_RACES = ("White", "Black", "Asian", "Indian", "Other")
_UTKFACE_FIELDS = re.compile(r"(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_")
_UTKFACE_AGE = re.compile(r"(?P<age>\d{1,3})_")


def _utkface(match: re.Match[str]) -> Fields:
    return {
        "age": match["age"],
        "gender": GENDERS[match["gender"]],
        "race": UTKFACE_RACES[int(match["race"])],
    }


def _utkface_odd(name: str) -> Fields | None:
    # Some names lack a field or the dot before jpg: the age, and what stands where it belongs, is still readable.
    if match := _UTKFACE_FIELDS.match(name):
        return _utkface(match)
    return {"age": match["age"], "gender": "", "race": ""} if (match := _UTKFACE_AGE.match(name)) else None


UTKFACE = FileNames(
    name="utkface",
    form="<age>_<gender>_<race>_<stamp>.jpg",
    # .jpg.chip.jpg as published, .jpg in the uncropped files, and whatever they were converted to since
    pattern=_compiled(rf"(?P<age>\d{{1,3}})_(?P<gender>[01])_(?P<race>[0-4])_\d+(?:\.jpg)?(?:\.chip)?{SUFFIX}"),
    fields=_utkface,
    groups=("gender", "race"),
    salvage=_utkface_odd,
    summary="UTKFace (Zhang, Song, Qi, CVPR 2017)",
).layout()

FGNET = FileNames(
    name="fgnet",
    form="<subject>A<age>[letter].jpg",
    pattern=_compiled(rf"(?P<subject>\d{{3}})A(?P<age>\d{{1,2}})[a-z]?{SUFFIX}"),
    fields=lambda match: {"age": match["age"], "subject": match["subject"]},
    groups=(),
    summary="FG-NET ageing database",
).layout()

AGEDB = FileNames(
    name="agedb",
    # Names contain underscores and digits, so the pieces are counted from the right.
    form="<n>_<Name>_<age>_<m or f>.jpg",
    pattern=_compiled(rf"\d+_(?P<name>.+)_(?P<age>\d{{1,3}})_(?P<gender>[mf]){SUFFIX}"),
    fields=lambda match: {
        "age": match["age"],
        "subject": person(match["name"]),
        "gender": GENDERS[match["gender"].lower()],
    },
    groups=("gender",),
    summary="AgeDB (Moschoglou et al., CVPR workshops 2017)",
).layout()

CACD_NAMES = FileNames(
    name="cacd",
    form="<age>_<Name>_<nnnn>.jpg",
    pattern=_compiled(rf"(?P<age>\d{{1,3}})_(?P<name>.*[^\W\d_].*)_(?P<number>\d{{1,5}}){SUFFIX}"),
    fields=lambda match: {"age": match["age"], "subject": person(match["name"])},
    groups=(),
    summary="CACD (Chen, Chen, Hsu, ECCV 2014)",
)

MORPH_NAMES = FileNames(
    name="morph",
    form="<subject>_<k><M or F><age>.jpg",
    pattern=_compiled(rf"(?P<subject>\d+)_\d+(?P<gender>[MF])(?P<age>\d{{1,3}}){SUFFIX}"),
    # Tables drop the zeros that file names have, so neither is told apart by them.
    fields=lambda match: {
        "age": match["age"],
        "subject": match["subject"].lstrip("0") or "0",
        "gender": GENDERS[match["gender"].lower()],
    },
    groups=("gender",),
    summary="MORPH (Ricanek, Tesafaye, FG 2006)",
)
