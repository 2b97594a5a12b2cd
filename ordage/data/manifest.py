"""The table of samples, made from any data layout, checked once, written into the run."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import DataError
from ..files import write_whole
from .contents import Contents, Files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ordage.eval import OrdinalScale

__all__ = ["IMAGE_SUFFIXES", "PARTS", "Manifest", "Rejections", "image_files", "make_table"]

PARTS = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})
ALLOWED_REJECTED = 0.01  # share of samples that may be unreadable before a run asks for --allow-rejected


class Rejections:
    """Samples that are not used, each with its reason; nothing is skipped silently.

    Attributes:
        rows: ``(sample, reason)`` of what cannot be used.
        aside: ``(sample, reason)`` of what the protocol of a published set leaves out, such as images without an age
            group in Adience; they are listed, but are no fault of the data.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.rows: list[tuple[str, str]] = []
        self.aside: list[tuple[str, str]] = []

    def __len__(self) -> int:
        """Return how many cannot be used."""
        return len(self.rows)

    def add(self, sample: str, reason: str) -> None:
        """Note that ``sample`` is left out because of ``reason``."""
        self.rows.append((sample, reason))

    def set_aside(self, sample: str, reason: str) -> None:
        """Note that ``sample`` is left out by a rule of its data set."""
        self.aside.append((sample, reason))

    def check(self, total: int, *, allowed: bool, source: str) -> None:
        """Raise `DataError` when more of ``total`` samples are left out than a run accepts unasked."""
        if not self.rows or allowed or len(self.rows) <= ALLOWED_REJECTED * total:
            return
        sample, reason = self.rows[0]
        raise DataError(
            f"{source}: {len(self.rows)} of {total} samples cannot be used ({len(self.rows) / total:.1%}), the first: "
            f"{sample}: {reason}; `ordage inspect --rejected FILE` lists them; repair or remove them, or go on without "
            "them by --allow-rejected"
        )

    def write(self, path: Path) -> None:
        """Write ``rejected.csv``: id, reason, and whether it was rejected or set aside."""
        rows = [(*row, "rejected") for row in self.rows] + [(*row, "set aside") for row in self.aside]
        write_whole(path, pd.DataFrame(rows, columns=["id", "reason", "kind"]).to_csv(index=False))


@dataclass
class Manifest:
    """Samples with their ages, before any image is decoded.

    Attributes:
        table: one row a sample: ``id`` (unique, relative path or row), ``low`` and ``high`` (age interval in years,
            equal for an exact age), and where known ``path`` (absolute), ``subject``, ``part``, ``fold`` (official
            folds, from 0), ``age_std`` (standard deviation of several people's guesses, in years), and the columns of
            ``groups``.
        source: what the user named.
        layout: name of the layout that read it.
        reason: why it was taken for that layout.
        images: the pixels where the source holds arrays, ``(N, H, W, C)``.
        encoded: the images where the source holds them encoded, one a row of ``table``; files are found by ``path``.
        scale: the classes where the source gives classes or intervals instead of exact ages.
        groups: names of the group columns.
        rejected: what could not be used, and why.
        notes: one line each on what was repaired or left aside.
    """

    table: pd.DataFrame
    source: str
    layout: str
    reason: str
    images: NDArray[np.generic] | None = None
    encoded: Contents | None = None
    scale: OrdinalScale | None = None
    groups: tuple[str, ...] = ()
    rejected: Rejections = field(default_factory=Rejections)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check what every layout must deliver."""
        if self.table.empty:
            reason = f"; the first rejected: {': '.join(self.rejected.rows[0])}" if len(self.rejected) else ""
            raise DataError(f"{self.source}: no samples with an age in layout {self.layout!r}{reason}")
        if "subject" in self.table:
            blank = self.table["subject"].fillna("").str.strip() == ""
            # An unknown person is one of their own: shown together, all unknown ones would count as one person.
            self.table.loc[blank, "subject"] = "unknown:" + self.table.loc[blank, "id"]
            if blank.all():
                self.table = self.table.drop(columns="subject")
        if "part" in self.table and not set(self.table["part"]) <= set(PARTS):
            wrong = sorted(set(self.table["part"]) - set(PARTS))[0]
            raise DataError(f"{self.source}: expected parts {', '.join(PARTS)}, but got {wrong!r}")

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.table)

    @property
    def contents(self) -> Contents:
        """The encoded images, one a row; there are none for a source of arrays."""
        return Files(self.table["path"]) if self.encoded is None else self.encoded

    @property
    def exact(self) -> bool:
        """Whether every sample has an exact age in years."""
        return self.scale is None and bool((self.table["low"] == self.table["high"]).all())

    @property
    def ages(self) -> NDArray[np.float64]:
        """Exact ages in years ``(N,)``, NaN where only an interval or a class is known."""
        exact = (self.table["low"] == self.table["high"]).to_numpy() & (self.scale is None)
        return np.where(exact, self.table["low"].to_numpy(np.float64), np.nan)

    def keep(self, mask: NDArray[np.bool_]) -> Manifest:
        """Return the manifest of the rows where ``mask`` is true."""
        images = None if self.images is None else self.images[mask]
        return dataclasses.replace(self, table=self.table[mask].reset_index(drop=True), images=images)

    def keep_table(self, rows: NDArray[np.int64]) -> Manifest:
        """Return the manifest of ``rows`` without the images, which `ImageStore` holds by then."""
        table = self.table.iloc[rows].reset_index(drop=True)
        return dataclasses.replace(self, table=table, images=None, encoded=None)


def make_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Return the manifest's table, sorted by id so that the file system's order leaves no trace."""
    table = pd.DataFrame(rows)
    if not table.empty:
        table = table.sort_values("id", kind="stable", ignore_index=True)
    return table


def image_files(folder: Path) -> list[Path]:
    """List the image files anywhere under ``folder``, hidden files and folders left out, in sorted order.

    Links to folders are followed, each folder once.
    """
    found, visited = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)
