"""Everything that training and evaluation need of the data, prepared once and shared by all runs on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import DataError
from .cache import open_images
from .manifest import PARTS, Manifest
from .split import SHARES, clusters, leaks, read_splits, split
from .targets import choose_bins, choose_classes, class_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ordage.eval import OrdinalScale

    from ..config import TrainingConfig
    from ..progress import Reporter
    from ..transforms import ImageSpec

__all__ = ["Dataset", "prepare"]


@dataclass(frozen=True)
class Dataset:
    """Decoded images with their classes and parts.

    Attributes:
        manifest: the samples that are used, in the order of the arrays below.
        images: ``(N, size, size, chans)`` uint8, a memory map or an array.
        row: ``(N,)`` where each sample stands in ``images``.
        part: ``(N,)`` train, val or test.
        target: ``(N,)`` class on ``classes``.
        classes: the scale that the model learns, representative ages from the training part.
        bins: the scale that results are judged on.
        spec: how the images were prepared.
        digest: ``(N,)`` hash of each image's content.
    """

    manifest: Manifest
    images: NDArray[np.uint8]
    row: NDArray[np.int64]
    part: NDArray[np.str_]
    target: NDArray[np.int64]
    classes: OrdinalScale
    bins: OrdinalScale
    spec: ImageSpec
    digest: NDArray[np.str_]

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
            "parts": {part: int((self.part == part).sum()) for part in PARTS},
            "subjects": None if self.subject is None else len(np.unique(self.subject)),
            "classes": len(self.classes),
            "bins": self.bins.spec,
            "train_labels": self._train_labels(),
            "notes": self.manifest.notes,
        }


def prepare(manifest: Manifest, spec: ImageSpec, config: TrainingConfig, reporter: Reporter) -> Dataset:
    """Decode, drop what cannot be used, split, and assign classes.

    Raises:
        DataError: too much is unreadable, or a part would be empty.
        UsageError: bins or splits that do not fit the data.
    """
    total = len(manifest) + len(manifest.rejected)
    bins = choose_bins(manifest, config.bins)
    classes = choose_classes(manifest, bins, config.train_on)
    store = open_images(manifest, spec, reporter)
    target, strata = class_of(manifest, classes), class_of(manifest, bins)

    ids = manifest.table["id"]
    usable = store.errors == ""
    for index in np.flatnonzero(~usable):
        manifest.rejected.add(ids[index], store.errors[index])
    for index in np.flatnonzero(usable & ((target < 0) | (strata < 0))):
        manifest.rejected.add(ids[index], f"{_interval(manifest, int(index))} lies in none of the bins, or in several")
    usable &= (target >= 0) & (strata >= 0)
    manifest.rejected.check(total, allowed=config.allow_rejected, source=manifest.source)
    if not usable.any():
        raise DataError(f"{manifest.source}: no sample is left")

    row = np.flatnonzero(usable)
    part = np.full(len(manifest), "", dtype="<U5")
    subject = manifest.table["subject"].to_numpy(np.str_) if "subject" in manifest.table else None
    part[row] = _parts(
        manifest.keep_table(row), strata[row], store.digests[row], None if subject is None else subject[row], config
    )
    row = np.flatnonzero(part != "")
    if missing := [name for name in PARTS if name not in part]:
        raise DataError(f"{manifest.source}: {len(row)} samples leave no image for {' and '.join(missing)}")
    alone = store.digests if subject is None else subject
    if len(np.unique(alone[part == "test"])) < 2:
        raise DataError(f"{manifest.source}: the test part shows one person or image; intervals need two or more")
    kept = manifest.keep_table(row)
    _report(manifest, kept, store.digests[row], total, reporter)

    train = row[part[row] == "train"]
    ages = manifest.ages
    if np.isfinite(ages[train]).all():
        classes, bins = (scale.with_values(ages[train]) for scale in (classes, bins))
    return Dataset(
        manifest=kept,
        images=store.images,
        row=row,
        part=part[row],
        target=target[row],
        classes=classes,
        bins=bins,
        spec=spec,
        digest=store.digests[row],
    )


def _interval(manifest: Manifest, row: int) -> str:
    low, high = manifest.table["low"].iat[row], manifest.table["high"].iat[row]
    return f"{low:g}+" if np.isinf(high) else f"{low:g}" if low == high else f"{low:g}-{high:g}"


def _parts(
    manifest: Manifest,
    strata: NDArray[np.int64],
    digests: NDArray[np.str_],
    subject: NDArray[np.str_] | None,
    config: TrainingConfig,
) -> NDArray[np.str_]:
    """Return each sample's part: as given, then what is missing made; ``""`` for a sample that is left out."""
    table = manifest.table
    cluster = clusters(digests) if subject is None else clusters(digests, subject)
    if config.splits is not None:
        part = read_splits(config.splits, table["id"])
        if left := int((part == "").sum()):
            manifest.notes.append(f"{left} samples are not in {config.splits} and are left out")
    elif "part" in table:
        part = table["part"].to_numpy(np.str_).astype("<U5")
    else:
        return split(strata, cluster, seed=config.split_seed)

    given = part != ""
    leaking = np.zeros(len(part), np.bool_)
    leaking[given] = leaks(part[given], digests[given])
    for index in np.flatnonzero(leaking):
        manifest.rejected.add(table["id"].iat[index], f"{part[index]} image that also stands in a later part")
    if leaking.any():
        manifest.notes.append(
            f"{leaking.sum()} images of the given split stand on two sides; their copies for training are left out"
        )
    part[leaking] = ""
    if subject is not None and (shared := leaks(part[part != ""], subject[part != ""])).any():
        people = len(np.unique(subject[part != ""][shared]))
        manifest.notes.append(f"{people} people of the given split are on two sides: its test figures flatter")
    absent = {name: SHARES[name] for name in ("val", "test") if name not in part}
    if absent:
        train = np.flatnonzero(part == "train")
        shares = {"train": SHARES["train"], **absent}
        shares = {name: share / sum(shares.values()) for name, share in shares.items()}
        if len(train):
            part[train] = split(strata[train], clusters(cluster[train]), shares, seed=config.split_seed)
            manifest.notes.append(f"the given split has no {' and no '.join(absent)} part: taken from train")
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
