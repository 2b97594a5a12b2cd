"""Everything that training and evaluation need of the data, prepared once and shared by all runs on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import DataError, UsageError
from .manifest import PARTS, Manifest
from .near import near_groups
from .split import SHARES, clusters, leaks, make_folds, parts_of_folds, read_splits, split
from .store import ImageStore, open_images
from .targets import choose_bins, choose_classes, class_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ordage.eval import OrdinalScale

    from ..config import DataConfig
    from ..progress import Reporter
    from ..transforms import ImageSpec
    from .stream import Streamed

SQUARE = 1.25  # of its sides, the longer over the shorter, up to which an image is as good as square
COLOURED = ("RGB", "RGBA", "CMYK", "P", "YCbCr")  # modes of Pillow

__all__ = ["Dataset", "Examined", "age_text", "assign_parts", "examine", "prepare"]


@dataclass(frozen=True)
class Dataset:
    """Decoded images with their classes and parts.

    Attributes:
        manifest: the samples that are used, in the order of the arrays below.
        images: ``(M, size, size, chans)`` uint8, a memory map, an array, or what decodes them on demand.
        row: ``(N,)`` where each sample stands in ``images``.
        part: ``(N,)`` train, val or test.
        target: ``(N,)`` class on ``classes``.
        classes: the scale that the model learns, representative ages from the training part.
        bins: the scale that results are judged on.
        spec: how the images were prepared.
        digest: ``(N,)`` hash of each image's content.
        native_side: shorter side of the images as they come, in pixels, their median.
        square_share: share of them that is square, or nearly so.
        colour_share: share of the images that come in colour.
    """

    manifest: Manifest
    images: NDArray[np.uint8] | Streamed
    row: NDArray[np.int64]
    part: NDArray[np.str_]
    target: NDArray[np.int64]
    classes: OrdinalScale
    bins: OrdinalScale
    spec: ImageSpec
    digest: NDArray[np.str_]
    native_side: int
    square_share: float
    colour_share: float

    def index(self, part: str) -> NDArray[np.int64]:
        """Return the positions of a part's samples."""
        return np.flatnonzero(self.part == part)

    @property
    def subject(self) -> NDArray[np.str_] | None:
        """Whose image each is, ``(N,)``, where that is known."""
        table = self.manifest.table
        return table["subject"].to_numpy(np.str_) if "subject" in table else None

    def _train_labels(self) -> dict[str, list[float]]:
        """Return the distinct ages of the training part, classes where ages are unknown, and their counts."""
        train = self.index("train")
        ages = self.manifest.ages[train]
        known = bool(np.isfinite(ages).all())
        values, counts = np.unique(ages if known else self.target[train], return_counts=True)
        return {"ages" if known else "classes": values.tolist(), "counts": counts.tolist()}

    def write_splits(self, path: Path) -> None:
        """Write ``splits.csv``, which ``--splits`` reads back.

        Raises:
            DataError: there is one already, and it tells of other samples, parts, ages or pixels: what is resumed would
                be tested on what it was trained on.
        """
        table = self.manifest.table
        columns = {"id": table["id"], "part": self.part, "low": table["low"], "high": table["high"]}
        content = pd.DataFrame({**columns, "digest": self.digest}).to_csv(index=False)
        encoded = content.encode("utf-8", "surrogateescape")
        if path.exists() and path.read_bytes() != encoded:
            raise DataError(
                f"{self.manifest.source}: its samples, ages or split have changed since {path} was written; "
                "start again instead of resuming"
            )
        path.write_bytes(encoded)

    def summary(self) -> dict[str, object]:
        """Return what a report says about the data."""
        return {
            "source": self.manifest.source,
            "layout": self.manifest.layout,
            "samples": len(self.row),
            "rejected": len(self.manifest.rejected),
            "set_aside": len(self.manifest.rejected.aside),
            "parts": {part: int((self.part == part).sum()) for part in PARTS},
            "subjects": None if self.subject is None else len(np.unique(self.subject)),
            "classes": len(self.classes),
            "bins": self.bins.spec,
            "train_labels": self._train_labels(),
            "notes": self.manifest.notes,
        }


@dataclass(frozen=True)
class Examined:
    """A manifest whose images have been looked at, before it is split.

    Attributes:
        manifest: all samples.
        store: their images.
        classes: the scale that the model learns.
        bins: the scale that results are judged on.
        target: ``(N,)`` class of each sample on ``classes``, -1 for none.
        stratum: ``(N,)`` the same on ``bins``.
        usable: ``(N,)`` whether the image can be read and the age lies in a class and a bin.
    """

    manifest: Manifest
    store: ImageStore
    classes: OrdinalScale
    bins: OrdinalScale
    target: NDArray[np.int64]
    stratum: NDArray[np.int64]
    usable: NDArray[np.bool_]

    @property
    def subject(self) -> NDArray[np.str_] | None:
        """Whose image each is, ``(N,)``, where that is known."""
        table = self.manifest.table
        return table["subject"].to_numpy(np.str_) if "subject" in table else None

    @property
    def near(self) -> NDArray[np.int64]:
        """The group of near-identical images that each sample is in, ``(N,)``."""
        return near_groups(self.store.about["thumb"])[self.store.row]


def examine(manifest: Manifest, spec: ImageSpec, config: DataConfig, reporter: Reporter) -> Examined:
    """Decode, choose classes and bins, and reject what cannot be used.

    Raises:
        UsageError: bins that do not fit the data.
    """
    bins = choose_bins(manifest, config.bins)
    classes = choose_classes(manifest, bins, config.train_on)
    store = open_images(manifest, spec, reporter, limit_gb=config.cache_limit)
    target, stratum = class_of(manifest, classes), class_of(manifest, bins)
    ids = manifest.table["id"]
    readable = store.errors == ""
    placed = (target >= 0) & (stratum >= 0)
    for index in np.flatnonzero(~readable):
        manifest.rejected.add(ids[index], store.errors[index])
    for index in np.flatnonzero(readable & ~placed):
        manifest.rejected.add(ids[index], f"{age_text(manifest, int(index))} lies in none of the bins, or in several")
    return Examined(manifest, store, classes, bins, target, stratum, readable & placed)


def prepare(manifest: Manifest, spec: ImageSpec, config: DataConfig, reporter: Reporter) -> Dataset:
    """Decode, drop what cannot be used, split, and assign classes.

    Raises:
        DataError: too much is unreadable, or a part would be empty.
        UsageError: bins or splits that do not fit the data.
    """
    total = len(manifest) + len(manifest.rejected)
    examined = examine(manifest, spec, config, reporter)
    manifest.rejected.check(total, allowed=config.allow_rejected, source=manifest.source)
    if not examined.usable.any():
        raise DataError(f"{manifest.source}: no sample is left")
    part = assign_parts(examined, config)
    row = np.flatnonzero(part != "")
    digests, subject = examined.store.digests, examined.subject
    alone, units = (digests, "different images") if subject is None else (subject, "people")
    if missing := [name for name in PARTS if name not in part]:
        shown = f"{len(row)} samples ({units}: {len(np.unique(alone[row]))})"
        raise DataError(f"{manifest.source}: {shown} leave no image for {' and '.join(missing)}")
    if len(np.unique(alone[part == "test"])) < 2:
        raise DataError(f"{manifest.source}: the test part shows one person or image; intervals need two or more")
    kept = manifest.keep_table(row)
    _report(manifest, kept, digests[row], total, reporter)

    about = examined.store.about[examined.store.row[row]]
    shorter, longer = (pick(about["width"], about["height"]) for pick in (np.minimum, np.maximum))
    train = row[part[row] == "train"]
    ages, classes, bins = manifest.ages, examined.classes, examined.bins
    if np.isfinite(ages[train]).all():
        classes, bins = (scale.with_values(ages[train]) for scale in (classes, bins))
    return Dataset(
        manifest=kept,
        images=examined.store.images,
        row=examined.store.row[row],
        part=part[row],
        target=examined.target[row],
        classes=classes,
        bins=bins,
        spec=spec,
        digest=digests[row],
        native_side=int(np.median(shorter)),
        square_share=float((longer <= SQUARE * shorter).mean()),
        colour_share=float(np.isin(about["mode"], COLOURED).mean()),
    )


def age_text(manifest: Manifest, row: int) -> str:
    """Return a sample's age as people write it: 34, 30-39 or 60+."""
    low, high = manifest.table["low"].iat[row], manifest.table["high"].iat[row]
    return f"{low:g}+" if np.isinf(high) else f"{low:g}" if low == high else f"{low:g}-{high:g}"


def assign_parts(examined: Examined, config: DataConfig) -> NDArray[np.str_]:
    """Return each sample's part ``(N,)``: as given, then what is missing made; ``""`` for one that is left out."""
    row = np.flatnonzero(examined.usable)
    part = np.full(len(examined.usable), "", dtype="<U5")
    table = examined.manifest.table.iloc[row].reset_index(drop=True)
    keys: list[NDArray[Any]] = [examined.store.digests[row]]
    if config.near_duplicates:
        keys.append(examined.near[row])
    subject = None if examined.subject is None else examined.subject[row]
    exclusive = _Exclusive(table, examined.stratum[row], keys, subject, examined.manifest)
    part[row] = exclusive.parts(config)
    return part


@dataclass(frozen=True)
class _Exclusive:
    """Usable samples, and what may not be on two sides.

    Attributes:
        table: their rows of the manifest.
        strata: ``(n,)`` their bins.
        images: ``(n,)`` keys of their images: hashes, and groups of near-identical ones where asked.
        subject: ``(n,)`` whose image each is.
        manifest: takes notes and rejections.
    """

    table: pd.DataFrame
    strata: NDArray[np.int64]
    images: list[NDArray[Any]]
    subject: NDArray[np.str_] | None
    manifest: Manifest

    @property
    def cluster(self) -> NDArray[np.int64]:
        """What must stay together."""
        return clusters(*self.images, *([] if self.subject is None else [self.subject]))

    def parts(self, config: DataConfig) -> NDArray[np.str_]:
        """Return each sample's part."""
        tested = config.fold or 0
        if config.splits is not None and config.folds is not None:
            raise UsageError("--folds and --splits exclude each other")
        if config.splits is not None:
            part = read_splits(config.splits, self.table["id"], tested)
            if left := int((part == "").sum()):
                self.manifest.notes.append(f"{left} samples are not in {config.splits} and are left out")
            return self._completed(self._without_leaks(part), config)
        if config.folds is not None:
            folds = make_folds(self.strata, self.cluster, config.folds, seed=config.split_seed)
            return parts_of_folds(folds, tested)
        if "part" in self.table:
            return self._completed(self._without_leaks(self.table["part"].to_numpy(np.str_).astype("<U5")), config)
        if "fold" in self.table:
            fold = self.table["fold"].to_numpy(np.int64)
            self.manifest.notes.append(
                f"official folds {fold.min()} to {fold.max()}: fold {tested} is tested (--fold), the one before "
                "it validates"
            )
            return self._without_leaks(parts_of_folds(fold, tested))
        if tested:
            raise UsageError(f"--fold {config.fold}: the data brings no folds; make some by --folds")
        return split(self.strata, self.cluster, seed=config.split_seed)

    def _without_leaks(self, part: NDArray[np.str_]) -> NDArray[np.str_]:
        """Leave out the images that also stand in a later part of a given split; say who is on two sides."""
        given = part != ""
        leaking = np.zeros(len(part), np.bool_)
        for key in self.images:
            leaking[given] |= leaks(part[given], key[given])
        for index in np.flatnonzero(leaking):
            self.manifest.rejected.add(
                self.table["id"].iat[index], f"{part[index]} image that also stands in a later part"
            )
        if leaking.any():
            self.manifest.notes.append(
                f"{leaking.sum()} images of the given split stand on two sides; their copies for training are left out"
            )
        part = np.where(leaking, "", part)
        used = part != ""
        if self.subject is not None and (shared := leaks(part[used], self.subject[used])).any():
            people = len(np.unique(self.subject[used][shared]))
            self.manifest.notes.append(f"{people} people of the given split are on two sides: its test figures flatter")
        return part

    def _completed(self, part: NDArray[np.str_], config: DataConfig) -> NDArray[np.str_]:
        """Take the parts that a given split lacks out of its training part."""
        absent = {name: SHARES[name] for name in ("val", "test") if name not in part}
        train = np.flatnonzero(part == "train")
        if not absent or not len(train):
            return part
        shares = {"train": SHARES["train"], **absent}
        shares = {name: share / sum(shares.values()) for name, share in shares.items()}
        part[train] = split(self.strata[train], clusters(self.cluster[train]), shares, seed=config.split_seed)
        self.manifest.notes.append(f"the given split has no {' and no '.join(absent)} part: taken from train")
        return part


def _report(manifest: Manifest, kept: Manifest, digests: NDArray[np.str_], total: int, reporter: Reporter) -> None:
    """Say in a few lines what was read, what was left out, and what is odd."""
    reporter.note(
        f"{manifest.source}: layout {manifest.layout} ({manifest.reason}), {len(kept):,} of {total:,} samples"
    )
    pairs = pd.DataFrame({"digest": digests, "low": kept.table["low"], "high": kept.table["high"]})
    groups = pairs.groupby("digest")
    several = int((groups.size() > 1).sum())
    if several:
        conflicts = int((groups[["low", "high"]].nunique() > 1).any(axis=1).sum())
        kept.notes.append(
            f"{several} groups of byte-identical images, {conflicts} of them with different ages; each group stays on "
            "one side of the split"
        )
    for text in kept.notes:
        reporter.note(f"  {text}")
    if manifest.rejected.rows:
        sample, reason = manifest.rejected.rows[0]
        reporter.note(f"  {len(manifest.rejected)} rejected (see rejected.csv), the first: {sample}: {reason}")
