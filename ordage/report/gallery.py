"""Test images worth a look: what they show, what each model said, and how sure it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ordage.eval import decades, decode, spreads

from ..images import to_channels
from .pages import image_uri

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ordage.eval import Calibration, OrdinalScale, Predictions

    from ..data.manifest import Manifest

__all__ = ["Answered", "Card", "Gallery", "make_gallery", "thumbnails"]

SIDE = 96  # pixels of an image in the page
EACH = 40  # images that a model adds of each kind
ALL = 240  # images of a page
EVERYDAY = 60  # images that chance adds, so that the page does not show the unusual alone


@dataclass(frozen=True)
class Answered:
    """What a gallery needs of a model.

    Attributes:
        name: what the page calls it.
        predictions: on the test part.
        calibration: makes its intervals; None for none.
    """

    name: str
    predictions: Predictions
    calibration: Calibration | None


@dataclass(frozen=True)
class Answer:
    """What a model says of an image: its value, interval, error, spread, and whether the interval holds the truth."""

    said: str
    interval: str
    error: float
    spread: float
    inside: bool


@dataclass(frozen=True)
class Card:
    """An image with its truth and the answers, in the order of the models."""

    id: str
    image: str
    truth: str
    age: float
    groups: dict[str, str]
    answers: list[Answer]


@dataclass(frozen=True)
class Gallery:
    """What the page shows.

    Attributes:
        models: their names.
        cards: the images, the worst of the first model first.
        filters: values of each column of groups that are there to choose from.
        total: test images, from which these were taken.
        pictures: whether the images themselves could be had.
    """

    models: list[str]
    cards: list[Card]
    filters: dict[str, list[str]]
    total: int
    pictures: bool


def make_gallery(models: Sequence[Answered], manifest: Manifest | None) -> Gallery:
    """Choose images and describe them.

    Args:
        models: judged on the same images; the first decides the order.
        manifest: the samples, to take the images from; None where they cannot be had any more.
    """
    first = models[0].predictions
    errors = np.stack([_errors(model.predictions) for model in models])
    spread = np.stack([spreads(model.predictions.log_probs, _values(model.predictions)) for model in models])
    chosen = _choose(errors, spread)
    images = {} if manifest is None else thumbnails(manifest, first.ids[chosen].tolist())
    groups = {name: column[chosen].astype(np.str_) for name, column in first.groups.items()}
    if first.scale.unit == "years" and first.known_age.any():
        groups["decade"] = decades(first.age)[chosen]
    answers = [_answers(model, chosen, errors[place], spread[place]) for place, model in enumerate(models)]
    cards = [
        Card(
            id=str(first.ids[row]),
            image=images.get(str(first.ids[row]), ""),
            truth=f"{first.age[row]:g}" if first.known_age[row] else first.scale.labels[first.target[row]],
            age=float(first.age[row] if first.known_age[row] else _values(first)[first.target[row]]),
            groups={name: str(column[place]) for name, column in groups.items()},
            answers=[each[place] for each in answers],
        )
        for place, row in enumerate(chosen)
    ]
    filters = {name: sorted(set(column.tolist()), key=_natural) for name, column in groups.items()}
    filters = {name: values for name, values in filters.items() if 1 < len(values) <= 30}
    return Gallery([model.name for model in models], cards, filters, len(first), bool(images))


def thumbnails(manifest: Manifest, ids: Sequence[str]) -> dict[str, str]:
    """Return the images of some samples, each as an address that holds all of it; one that cannot be read is left out.

    Args:
        manifest: the samples.
        ids: of some of them.
    """
    from ..transforms import ImageSpec  # with it comes torch

    spec = ImageSpec(SIDE, 3)
    row_of = {str(name): row for row, name in enumerate(manifest.table["id"])}
    found = {}
    for name in ids:
        if name not in row_of:
            continue
        try:
            if manifest.images is None:
                pixels = spec.decode(manifest.contents.read(row_of[name]))[0]
            else:
                pixels = to_channels(np.asarray(manifest.images[row_of[name]]), 3)
                pixels = pixels if max(pixels.shape[:2]) <= SIDE else spec.fitted(pixels[None])[0]
        except (OSError, ValueError):
            continue
        found[name] = image_uri(pixels)
    return found


def _values(predictions: Predictions) -> NDArray[np.float64]:
    return np.asarray(predictions.scale.values)


def _errors(predictions: Predictions) -> NDArray[np.float64]:
    """Return said less true, in the unit of the scale, by the middle of the true class where no age is known."""
    true = np.where(predictions.known_age, predictions.age, _values(predictions)[predictions.target])
    return np.asarray(decode(predictions, "median").values - true)


def _choose(errors: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return rows: the worst, the least certain and the best of each model, then some by chance."""
    each = max(8, EACH // len(errors))
    wanted: list[NDArray[np.int64]] = []
    for own, wide in zip(np.abs(errors), spread, strict=True):
        order = np.argsort(own, kind="stable")
        wanted += [order[::-1][:each], np.argsort(-wide, kind="stable")[:each], order[: each // 2]]
    wanted.append(np.random.default_rng(0).permutation(errors.shape[1])[:EVERYDAY])
    rows = np.array(list(dict.fromkeys(np.concatenate(wanted).tolist()))[:ALL], dtype=np.int64)
    return rows[np.argsort(-np.abs(errors[0][rows]), kind="stable")]


def _answers(
    model: Answered, chosen: NDArray[np.int64], errors: NDArray[np.float64], spread: NDArray[np.float64]
) -> list[Answer]:
    said = model.predictions.select(chosen)
    values = decode(said, "median").values
    if model.calibration is None:
        ends = [("", True)] * len(said)
    else:
        first, last = model.calibration.intervals.of(said)
        inside = model.calibration.intervals.covers(said)
        ends = [
            (_span(said.scale, int(low), int(high)), bool(holds))
            for low, high, holds in zip(first, last, inside, strict=True)
        ]
    return [
        Answer(f"{value:g}", interval, float(errors[row]), float(spread[row]), holds)
        for value, (interval, holds), row in zip(values, ends, chosen, strict=True)
    ]


def _span(scale: OrdinalScale, first: int, last: int) -> str:
    """Return an interval of classes as people write it: 20–34, 60+, or the names of its ends."""
    if first == last:
        return scale.labels[first]
    if scale.unit != "years":
        return f"{scale.labels[first]} – {scale.labels[last]}"
    low, high = scale.lows[first], scale.highs[last]
    return f"{low:g}+" if math.isinf(high) else f"{low:g}–{high:g}"


def _natural(text: str) -> tuple[int, str]:
    digits = text.split("-")[0]
    return (int(digits), text) if digits.isdigit() else (10**9, text)
