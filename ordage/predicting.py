"""`predict`: images in, a row each out, as they are decoded; what cannot be read is a row that says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .annotation import annotate
from .data.dataset import SQUARE
from .devices import find_device
from .errors import UsageError
from .images import ImageInfo, to_channels
from .inputs import Images, gather
from .parallel import in_order
from .predictor import load
from .progress import Reporter
from .row_files import format_of, row_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .predictor import Predictor
    from .progress import Bar

__all__ = ["Predicted", "predict", "predict_rows"]

BATCH = 256
MOST = 0.5  # of the images, from which on it is worth a warning


@dataclass
class Predicted:
    """What `predict` did.

    Attributes:
        images: that were named.
        unreadable: of these.
        warnings: a line each on what does not fit the model.
    """

    images: int = 0
    unreadable: int = 0
    warnings: list[str] = field(default_factory=list)


def predict(
    run: Path,
    arguments: Sequence[str],
    *,
    out: Path | None = None,
    kind: str | None = None,
    image_col: str | None = None,
    probs: bool = False,
    tta: str | None = None,
    annotated: Path | None = None,
    device: str | None = None,
    verbosity: int = 1,
) -> Predicted:
    """Write a row for every image that is named: what ``ordage predict`` does.

    Args:
        run: a run, or a folder with a model.
        arguments: as `gather` takes them.
        out: file to write; stdout without.
        kind: ``csv``, ``jsonl`` or ``parquet``; by the name of ``out`` without.
        image_col: column of a table with the paths.
        probs: whether to add the probability of each class.
        tta: as in `load`.
        annotated: folder for copies of the images with the age written on them.
        device: where to predict; the GPU when there is one.
        verbosity: 0 says nothing, 1 draws a bar and warns.

    Raises:
        OrdageError: no model or no images there, or options that do not fit.
    """
    kind = format_of(out, kind)
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    inputs = gather(arguments, image_col=image_col)
    predictor = load(run, device=find_device(device), tta=tta)
    reporter = Reporter(verbosity)
    total = sum(map(len, inputs))
    done, sizes = Predicted(total), []
    with row_file(out, kind) as write, reporter.bar("predicting", total) as bar:
        for images, frame in predict_rows(predictor, inputs, bar, probs=probs):
            if annotated is not None:
                annotate(images, frame, annotated)
            done.unreadable += int((frame["error"] != "").sum())
            sizes.append(frame.loc[frame["error"] == "", ["width", "height"]].to_numpy(np.float64))
            write(frame)
    done.warnings = list(_unlike_training(predictor, np.concatenate([np.empty((0, 2)), *sizes])))
    for text in done.warnings:
        reporter.note(f"warning: {text}")
    if done.unreadable:
        reporter.note(f"{done.unreadable:,} of {total:,} images could not be read; the column error says why")
    return done


def predict_rows(
    predictor: Predictor, inputs: Sequence[Images], bar: Bar, *, probs: bool = False
) -> Iterator[tuple[Images, pd.DataFrame]]:
    """Yield answers, some hundreds of rows at a time, in the order of the inputs, and the images that they are of.

    Threads decode while the model works. The columns are ``path``, those of `Ages.to_frame`, ``width`` and ``height``
    of the image as it came, and ``error``, empty where there is an answer.

    Args:
        predictor: the model.
        inputs: what `gather` found.
        bar: counts the images.
        probs: whether to add the probability of each class.
    """
    for images in inputs:
        waiting: list[_Chunk] = []
        count = 0
        for chunk in in_order(partial(_decode, predictor, images), len(images)):
            waiting.append(chunk)
            count += len(chunk.names)
            if count >= BATCH:
                yield images, _answered(predictor, waiting, probs, bar)
                waiting, count = [], 0
        if waiting:
            yield images, _answered(predictor, waiting, probs, bar)


@dataclass(frozen=True)
class _Chunk:
    """Some images, decoded as far as they can be: pixels, and of each its width and height, or why there are none."""

    names: list[str]
    pixels: NDArray[np.uint8]
    found: list[tuple[int, int] | str]


def _decode(predictor: Predictor, images: Images, rows: range) -> _Chunk:
    spec = predictor.spec
    names = images.names[rows.start : rows.stop]
    if images.pixels is not None:
        arrays = np.ascontiguousarray(images.pixels[rows.start : rows.stop])
        count, height, width = arrays.shape[:3]
        pixels = spec.fitted(to_channels(arrays.reshape(count, height, width, -1), spec.chans))
        return _Chunk(names, pixels, [(width, height)] * count)
    pixels = np.zeros((len(rows), spec.size, spec.size, spec.chans), np.uint8)
    told = spec.decode_into(pixels, range(len(rows)), lambda place: images.read(rows[place]))
    return _Chunk(names, pixels, [_size(told[place]) for place in range(len(rows))])


def _size(told: ImageInfo | str) -> tuple[int, int] | str:
    return told if isinstance(told, str) else (told.width, told.height)


def _answered(predictor: Predictor, chunks: Sequence[_Chunk], probs: bool, bar: Bar) -> pd.DataFrame:
    found = [each for chunk in chunks for each in chunk.found]
    good = [place for place, each in enumerate(found) if not isinstance(each, str)]
    pixels = np.concatenate([chunk.pixels for chunk in chunks])
    answers = predictor.of_pixels(pixels if len(good) == len(found) else pixels[good]).to_frame(probs=probs)
    answers.index = pd.Index(good)
    frame = answers.reindex(range(len(found)))  # an empty row for what cannot be read
    names = [name for chunk in chunks for name in chunk.names]
    frame.insert(0, "path", pd.Series(names, dtype=object))  # not as text: a file name need not be any
    sizes = [(pd.NA, pd.NA) if isinstance(each, str) else each for each in found]
    frame["width"], frame["height"] = (pd.array(side, dtype="Int64") for side in zip(*sizes, strict=True))
    frame["error"] = [each if isinstance(each, str) else "" for each in found]
    bar.advance(len(frame))
    return frame


def _unlike_training(predictor: Predictor, sizes: NDArray[np.float64]) -> Iterator[str]:
    """Say where most images are of another kind than those that the model was trained on."""
    trained = predictor.trained_on
    if not len(sizes) or trained is None:
        return
    oblong = sizes.max(axis=1) > SQUARE * sizes.min(axis=1)
    if trained.square_share > 1 - MOST and oblong.mean() > MOST:
        width, height = sizes[oblong][0]
        yield (
            f"{oblong.mean():.0%} of the images are not square, such as {width:.0f}x{height:.0f}, but those that the "
            "model was trained on were: it expects faces that are cropped alike, and sees the middle of these"
        )
    side = float(np.median(sizes.min(axis=1)))
    if side < MOST * min(trained.side, predictor.spec.size):
        seen = f"those of training were {trained.side}, and the model sees {predictor.spec.size}"
        yield f"the images are {side:.0f} pixels across, {seen}"
