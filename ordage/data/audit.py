"""What is in a data set, and what would go wrong in training on it: looked at before any training."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from ordage.eval import ConstantBaselines

from ..errors import DataError, UsageError
from ..files import write_whole
from .dataset import Examined, age_text, assign_parts, examine
from .manifest import PARTS
from .near import BLANK
from .split import leaks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..config import DataConfig
    from ..progress import Reporter
    from ..transforms import ImageSpec
    from .manifest import Manifest, Rejections

__all__ = ["Audit", "Finding", "Group", "audit"]

TINY = 24  # pixels of the shorter side below which a face shows next to no detail
ELONGATED = 1.6  # longer by shorter side above which an image is no crop of a face
PHOTOGRAPH = 1500  # pixels of the shorter side above which an image is more likely a photograph than a crop
OLD = 100  # years above which an age is worth a second look
RARE = 20  # training samples below which a bin can hardly be learned
IMBALANCE = 50.0  # largest by smallest bin above which the small one hardly counts
SPREAD = 5.0  # years between the ages of one image above which somebody was wrong, and not only unsure
UNUSUAL = 24  # images least like the rest that are shown
EXAMPLES = 200  # groups and samples that a report lists in full


@dataclass(frozen=True)
class Group:
    """Samples that show the same picture.

    Attributes:
        ids: the samples.
        ages: their ages as written.
        spread: years between the lowest and the highest of them; zero where they agree.
        rows: where they stand in the manifest.
    """

    ids: tuple[str, ...]
    ages: tuple[str, ...]
    spread: float
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """Something that a user should know before training.

    Attributes:
        kind: a name that stays the same from version to version, such as ``label-conflicts``.
        severity: ``problem`` where results would be wrong or flatter, ``note`` where they would only be worse.
        text: what was found, in one sentence with its numbers.
        advice: what to do about it.
        samples: some of the samples concerned.
    """

    kind: str
    severity: Literal["problem", "note"]
    text: str
    advice: str
    samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """A data set looked through, see `audit`.

    Attributes:
        examined: the samples with their images and classes.
        rejected: what cannot be used, each sample with its reason.
        part: ``(N,)`` the part of each sample in the split that training would use; empty where there can be none.
        sections: counts and figures by heading, as JSON holds them.
        identical: groups of byte-identical images, those whose ages differ most first.
        near: groups of near-identical images that are not all byte-identical, likewise.
        findings: what to look at, problems first.
        unusual: ``(n,)`` rows of the images least like the rest, the strangest first.
    """

    examined: Examined
    rejected: Rejections
    part: NDArray[np.str_]
    sections: dict[str, Any]
    identical: tuple[Group, ...]
    near: tuple[Group, ...]
    findings: tuple[Finding, ...]
    unusual: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as JSON holds it; long lists are cut at 200 entries, their counts are not."""

        def listed(groups: tuple[Group, ...]) -> list[dict[str, Any]]:
            return [
                {"ids": list(group.ids), "ages": list(group.ages), "spread": group.spread}
                for group in groups[:EXAMPLES]
                if group.spread
            ]

        ids = self.examined.manifest.table["id"]
        return {
            **self.sections,
            "conflicts": listed(self.identical),
            "near_conflicts": listed(self.near),
            "unusual": [str(ids.iat[row]) for row in self.unusual],
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }

    def write_csv(
        self, path: str | os.PathLike[str], *, conflicts: Literal["drop", "mean"] = "drop", tolerance: float = SPREAD
    ) -> dict[str, int]:
        """Write a table of the usable samples that ``ordage fit`` reads, every picture once and with one age.

        Of byte-identical images that agree one is kept. Where their ages differ, ``drop`` leaves all of them out;
        ``mean`` keeps one with the mean age where they lie within ``tolerance`` years, and leaves out the others.

        Args:
            path: the table; image paths in it are relative to its folder.
            conflicts: ``drop`` or ``mean``.
            tolerance: in years.

        Returns:
            How many samples were ``written``, and left out as ``rejected``, ``copies`` and ``conflicts``.

        Raises:
            UsageError: the source has no image files, or the table would stand in for an image.
            DataError: it cannot be written.
        """
        manifest, path = self.examined.manifest, Path(path)
        if "path" not in manifest.table:
            raise UsageError(f"--write {path}: {manifest.source} holds no image files that a table could name")
        keep, age = self.examined.usable.copy(), {}
        copies = conflicting = 0
        for group in self.identical:
            rows = [row for row in group.rows if keep[row]]
            keep[rows[1:]] = False
            if not group.spread:
                copies += len(rows) - 1
            elif conflicts == "mean" and manifest.exact and group.spread <= tolerance:
                age[rows[0]] = float(np.mean(manifest.table["low"].to_numpy()[rows]))
                copies += len(rows) - 1
            else:
                keep[rows] = False
                conflicting += len(rows)
        frame = self._clean(np.flatnonzero(keep), age, path.parent)
        try:
            write_whole(path, frame.to_csv(index=False))
        except OSError as error:
            raise DataError(f"--write {path}: {error.strerror or error}") from None
        return {
            "written": len(frame),
            "rejected": int((~self.examined.usable).sum()) + len(manifest.rejected.aside),
            "copies": copies,
            "conflicts": conflicting,
        }

    def _clean(self, rows: NDArray[np.int64], age: dict[int, float], folder: Path) -> pd.DataFrame:
        manifest = self.examined.manifest
        table = manifest.table.iloc[rows]
        base = os.path.abspath(folder)
        columns: dict[str, Any] = {
            "image": [os.path.relpath(path, base) for path in table["path"]],
            "age": [f"{age[row]:g}" if row in age else age_text(manifest, row) for row in rows.tolist()],
        }
        for name, header in (("subject", "subject"), ("part", "split"), ("fold", "fold"), ("age_std", "age_std")):
            if name in table:
                columns[header] = table[name].tolist()
        for name in manifest.groups:
            columns[name] = table[name].tolist()
        return pd.DataFrame(columns)


def audit(manifest: Manifest, spec: ImageSpec, config: DataConfig, reporter: Reporter) -> Audit:
    """Look at every image and label of a data set.

    Nothing is trained, and nothing that is wrong with the data stops it short of data that has no age at all.

    Args:
        manifest: the samples.
        spec: how training would prepare the images; they are decoded into the cache that training uses.
        config: the options that training would be given.
        reporter: shows the progress.

    Raises:
        DataError: no sample can be used.
        UsageError: options that do not fit the data.
    """
    examined = examine(manifest, spec, config, reporter)
    if not examined.usable.any():
        first = ": ".join(manifest.rejected.rows[0])
        raise DataError(f"{manifest.source}: no sample can be used; the first: {first}")
    rejected = copy.deepcopy(manifest.rejected)  # before the split adds what it leaves out
    identical = _groups(examined, examined.store.digests)
    near = tuple(
        group
        for group in _groups(examined, examined.near.astype(np.str_))
        if len({examined.store.digests[row] for row in group.rows}) > 1
    )
    given = _given_leaks(examined)
    try:
        part, reason = assign_parts(examined, config), ""
    except DataError as error:
        part, reason = np.full(len(manifest), "", "U5"), str(error)
    unusual = _unusual(examined)
    sections = {
        "data": {
            "source": manifest.source,
            "layout": manifest.layout,
            "reason": manifest.reason,
            "notes": list(manifest.notes),
        },
        "samples": _samples(examined, rejected),
        "images": _images(examined),
        "ages": _ages(examined, part),
        "baselines": _baselines(examined, part),
        "duplicates": _counts(identical),
        "near_duplicates": {**_counts(near), "split": sum(len(set(part[list(group.rows)])) > 1 for group in near)},
        "subjects": _subjects(examined),
        "groups": {
            name: {str(value): int(count) for value, count in manifest.table[name].value_counts().items()}
            for name in manifest.groups
        },
        "split": {"parts": {name: int((part == name).sum()) for name in PARTS}, "given_leaks": given},
    }
    findings = _findings(examined, sections, identical, near, reason)
    ordered = sorted(findings, key=lambda finding: finding.severity != "problem")
    return Audit(examined, rejected, part, sections, identical, near, tuple(ordered), unusual)


def _samples(examined: Examined, rejected: Rejections) -> dict[str, Any]:
    reasons = Counter(reason for _, reason in rejected.rows)
    return {
        "total": int(examined.usable.sum()) + len(rejected) + len(rejected.aside),
        "usable": int(examined.usable.sum()),
        "rejected": len(rejected),
        "set_aside": len(rejected.aside),
        "reasons": dict(reasons.most_common(20)),
        "first_rejected": [{"id": sample, "reason": reason} for sample, reason in rejected.rows[:EXAMPLES]],
    }


def _about(examined: Examined) -> NDArray[Any]:
    """Return the records of the usable samples' images ``(n,)``."""
    about: NDArray[Any] = examined.store.about[examined.store.row[examined.usable]]
    return about


def _blank(thumbs: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray(thumbs.reshape(len(thumbs), -1).std(axis=1) < BLANK)


def _images(examined: Examined) -> dict[str, Any]:
    about = _about(examined)
    sizes = Counter(zip(about["width"].tolist(), about["height"].tolist(), strict=True))
    shorter = np.minimum(about["width"], about["height"])
    longer = np.maximum(about["width"], about["height"])
    return {
        "distinct": len(np.unique(examined.store.row[examined.usable])),
        "sizes": {f"{width}x{height}": count for (width, height), count in sizes.most_common(8)},
        "different_sizes": len(sizes),
        "shorter_side": {"min": int(shorter.min()), "median": float(np.median(shorter)), "max": int(shorter.max())},
        "modes": _tally(about["mode"]),
        "formats": _tally(about["format"]),
        "rotated": int((about["orientation"] > 1).sum()),
        "tiny": int((shorter < TINY).sum()),
        "blank": int(_blank(about["thumb"]).sum()),
        "elongated": int((longer > ELONGATED * shorter).sum()),
        "photographs": int((shorter > PHOTOGRAPH).sum()),
    }


def _tally(values: NDArray[Any]) -> dict[str, int]:
    return {str(value): count for value, count in Counter(values.tolist()).most_common()}


def _ages(examined: Examined, part: NDArray[np.str_]) -> dict[str, Any]:
    usable, bins = examined.usable, examined.bins
    ages = examined.manifest.ages[usable]
    known = ages[np.isfinite(ages)]
    counts = np.bincount(examined.stratum[usable], minlength=len(bins))
    training = np.bincount(examined.stratum[part == "train"], minlength=len(bins))
    years, in_year = np.unique(np.floor(known), return_counts=True)
    present = counts[counts > 0]
    return {
        "exact": examined.manifest.exact,
        "youngest": float(known.min()) if known.size else None,
        "median": float(np.median(known)) if known.size else None,
        "mean": float(known.mean()) if known.size else None,
        "oldest": float(known.max()) if known.size else None,
        "above_100": int((known > OLD).sum()),
        "classes": len(examined.classes),
        "bins": bins.spec,
        "histogram": dict(zip(bins.labels, counts.tolist(), strict=True)),
        "training": dict(zip(bins.labels, training.tolist(), strict=True)),
        "years": {f"{year:g}": int(count) for year, count in zip(years, in_year, strict=True)},
        "imbalance": round(float(present.max() / present.min()), 1),
    }


def _baselines(examined: Examined, part: NDArray[np.str_]) -> dict[str, Any]:
    """Return the constants that the training part suggests, judged on the test part as every model would be."""
    train, test = part == "train", part == "test"
    if not train.any() or not test.any():
        train = test = examined.usable
    ages = examined.manifest.ages
    target, age = examined.stratum[train], ages[train]
    constants = ConstantBaselines.fit(examined.bins, target=target, age=age)
    scores = constants.score(examined.stratum[test], ages[test])
    known = np.isfinite(scores.median_age_mae)
    return {
        "majority_bin": examined.bins.labels[constants.majority_bin],
        "majority_bin_accuracy": scores.majority_bin_accuracy,
        "majority_bin_off_by_one_accuracy": scores.majority_bin_off_by_one_accuracy,
        "median_age": constants.median_age if known else None,
        "median_age_mae": scores.median_age_mae if known else None,
        "n": int(test.sum()),
    }


def _groups(examined: Examined, key: NDArray[np.str_]) -> tuple[Group, ...]:
    """Return the groups of usable samples with the same key, those whose ages differ most first."""
    rows = np.flatnonzero(examined.usable)
    order = rows[np.argsort(key[rows], kind="stable")]
    breaks = np.flatnonzero(key[order][1:] != key[order][:-1]) + 1
    table = examined.manifest.table
    low, high = table["low"].to_numpy(np.float64), table["high"].to_numpy(np.float64)
    ids = table["id"].to_numpy()
    found = []
    for members in np.split(order, breaks):
        if len(members) < 2:
            continue
        found.append(
            Group(
                ids=tuple(map(str, ids[members])),
                ages=tuple(age_text(examined.manifest, int(row)) for row in members),
                spread=_spread(low[members], high[members]),
                rows=tuple(members.tolist()),
            )
        )
    return tuple(sorted(found, key=lambda group: (-group.spread, group.ids)))


def _spread(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """Return how many years the ages lie apart; intervals by their ends, an open end by its beginning."""
    end = np.where(np.isinf(high), low, high)
    return float(max(np.ptp(low), np.ptp(end)))


def _counts(groups: tuple[Group, ...]) -> dict[str, int]:
    return {
        "groups": len(groups),
        "images": sum(len(group.rows) for group in groups),
        "conflicts": sum(group.spread > 0 for group in groups),
        "large_conflicts": sum(group.spread > SPREAD for group in groups),
    }


def _given_leaks(examined: Examined) -> dict[str, int] | None:
    """Return how many images and people of a split that the data brings are on two sides."""
    table, usable = examined.manifest.table, examined.usable
    if "part" not in table and "fold" not in table:
        return None
    side = table["part" if "part" in table else "fold"].astype(str)[usable].to_numpy(np.str_)

    def shared(key: NDArray[np.str_]) -> int:
        if "part" in table:
            return len(np.unique(key[leaks(side, key)]))
        sides = pd.Series(side).groupby(key).nunique()
        return int((sides > 1).sum())

    return {
        "images": shared(examined.store.digests[usable]),
        "subjects": 0 if examined.subject is None else shared(examined.subject[usable]),
    }


def _subjects(examined: Examined) -> dict[str, Any] | None:
    if examined.subject is None:
        return None
    known = [name for name in examined.subject[examined.usable] if not name.startswith("unknown:")]
    counts = np.array(list(Counter(known).values()) or [0])
    return {
        "people": int((counts > 0).sum()),
        "images_per_person": {"median": float(np.median(counts)), "max": int(counts.max())},
        "unknown": int(examined.usable.sum()) - len(known),
    }


def _unusual(examined: Examined) -> NDArray[np.int64]:
    """Return the rows whose images correlate least with the mean image, one of each content."""
    _, rows = np.unique(examined.store.digests[examined.usable], return_index=True)
    rows = np.flatnonzero(examined.usable)[rows]
    thumbs = examined.store.about["thumb"][examined.store.row[rows]].reshape(len(rows), -1).astype(np.float64)
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    thumbs /= np.maximum(np.linalg.norm(thumbs, axis=1, keepdims=True), 1e-9)
    return np.asarray(rows[np.argsort(thumbs @ thumbs.mean(axis=0), kind="stable")[:UNUSUAL]])


def _findings(
    examined: Examined,
    sections: dict[str, Any],
    identical: tuple[Group, ...],
    near: tuple[Group, ...],
    no_split: str,
) -> Iterator[Finding]:
    """Yield what is worth a sentence, each with what to do about it."""
    manifest, samples, images, ages = (
        examined.manifest, sections["samples"], sections["images"], sections["ages"],
    )  # fmt: skip
    ids = manifest.table["id"].to_numpy()[examined.usable]
    about = _about(examined)
    shorter = np.minimum(about["width"], about["height"])
    longer = np.maximum(about["width"], about["height"])

    def some(mask: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(map(str, ids[mask][:10]))

    if no_split:
        yield Finding(
            "no-split", "problem", f"it cannot be split: {no_split}", "add samples, or give a split by --splits"
        )
    if samples["rejected"]:
        reason, count = next(iter(samples["reasons"].items()))
        yield Finding(
            "rejected",
            "problem" if samples["rejected"] > 0.01 * samples["total"] else "note",
            f"{samples['rejected']:,} samples cannot be used; the most frequent reason ({count:,}): {reason}",
            "--rejected FILE lists them all; repair or remove them, above 1 % training asks for --allow-rejected",
            tuple(sample for sample, _ in manifest.rejected.rows[:10]),
        )
    conflicts = sections["duplicates"]
    if conflicts["conflicts"]:
        yield Finding(
            "label-conflicts",
            "problem",
            f"{conflicts['conflicts']:,} groups of byte-identical images carry different ages, "
            f"{conflicts['large_conflicts']:,} of them more than {SPREAD:g} years apart, at most "
            f"{identical[0].spread:g}",
            "leave them out by --write clean.csv, or average those that are close by --conflicts mean",
            identical[0].ids[:10],
        )
    copies = conflicts["images"] - conflicts["groups"]
    if copies:
        yield Finding(
            "duplicates",
            "note",
            f"{conflicts['groups']:,} groups of byte-identical images, {copies:,} copies in all",
            "ordage keeps each group on one side of a split; --write clean.csv keeps one of each",
        )
    if sections["near_duplicates"]["groups"]:
        found = sections["near_duplicates"]
        yield Finding(
            "near-duplicates",
            "problem" if found["split"] else "note",
            f"{found['groups']:,} groups of near-identical images (compressed, scaled or brightened anew), "
            f"{found['conflicts']:,} of them with different ages, {found['split']:,} of them on two sides of the split",
            "--near-duplicates keeps each group on one side, as a comparison should whose figures may not flatter",
            near[0].ids[:10],
        )
    given = sections["split"]["given_leaks"]
    if given and given["images"]:
        yield Finding(
            "image-leaks",
            "problem",
            f"{given['images']:,} images of the given split stand on two sides, byte for byte",
            "ordage leaves the copies out of the earlier part, so that the test part stays whole",
        )
    if given and given["subjects"]:
        yield Finding(
            "subject-leaks",
            "problem",
            f"{given['subjects']:,} people of the given split are on two sides: figures on its test part flatter",
            "have people kept apart by a split of ordage's own: --folds 5, or a table without the split column",
        )
    if blank := images["blank"]:
        mask = _blank(about["thumb"])
        yield Finding("blank", "problem", f"{blank:,} images show one colour", "remove them", some(mask))
    if tiny := images["tiny"]:
        text = f"{tiny:,} images are smaller than {TINY} pixels"
        yield Finding("tiny", "note", text, "they show next to nothing of an age; remove them", some(shorter < TINY))
    if images["rotated"]:
        yield Finding(
            "rotated",
            "note",
            f"{images['rotated']:,} images are stored rotated and say so in their EXIF data",
            "ordage turns them upright; other tools may not",
            some(about["orientation"] > 1),
        )
    if images["elongated"]:
        yield Finding(
            "elongated",
            "note",
            f"{images['elongated']:,} images are more than {ELONGATED:g} times as long as wide: no crops of faces",
            "crop the faces first, or keep all of each image by --fit pad",
            some(longer > ELONGATED * shorter),
        )
    if images["photographs"]:
        yield Finding(
            "photographs",
            "note",
            f"{images['photographs']:,} images are larger than {PHOTOGRAPH} pixels: photographs rather than crops",
            "crop the faces first: scaled down whole, a face is a few pixels",
            some(shorter > PHOTOGRAPH),
        )
    yield from _age_findings(examined, ages, some)


def _age_findings(examined: Examined, ages: dict[str, Any], some: Any) -> Iterator[Finding]:
    if ages["above_100"]:
        known = examined.manifest.ages[examined.usable]
        yield Finding(
            "old",
            "note",
            f"{ages['above_100']:,} ages are above {OLD} years",
            "look at them: often a typing error or a drawing",
            some(np.nan_to_num(known) > OLD),
        )
    empty = [label for label, count in ages["histogram"].items() if not count]
    if empty:
        yield Finding("empty-bins", "note", f"no sample in {', '.join(empty)}", "join them with a neighbour by --bins")
    rare = [f"{label} ({count})" for label, count in ages["training"].items() if 0 < count < RARE]
    if rare:
        yield Finding(
            "rare-bins",
            "note",
            f"fewer than {RARE} training samples in {', '.join(rare)}",
            "their figures will be poor and uncertain; join bins, or collect more",
        )
    if ages["imbalance"] > IMBALANCE:
        largest = max(ages["histogram"], key=ages["histogram"].__getitem__)
        yield Finding(
            "imbalance",
            "note",
            f"the largest bin, {largest}, has {ages['imbalance']:g} times the samples of the smallest",
            "look at the averaged MAE beside the MAE; --class-weights effective gives rare ages more weight",
        )
    if not ages["exact"]:
        yield Finding(
            "no-exact-ages",
            "note",
            "ages are known as intervals or classes only",
            "exact ages, where they can be had, teach a model more than bins and give errors in years",
        )
