"""`predict`: images in, a row each, or a row a face, out; what cannot be read is a row that says so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .annotation import annotate
from .data.dataset import SQUARE
from .detection import MARGIN, Detector, Face, cut
from .devices import find_device
from .errors import UsageError
from .images import decode, to_channels
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
LARGEST_MARGIN = 3.0
WHOLE = 2**16  # pixels: more than any photograph has across, so that none is shrunk as it is decoded
BOX = ("left", "top", "right", "bottom")
NOWHERE = Face(*[math.nan] * 5)
NO_FACE = "no face found"
MOST = 0.5  # of the images, from which on it is worth a warning


@dataclass
class Predicted:
    """What `predict` did.

    Attributes:
        images: that were named.
        unreadable: of these.
        faceless: of these, where faces are looked for.
        warnings: a line each on what does not fit the model.
    """

    images: int = 0
    unreadable: int = 0
    faceless: int = 0
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
    detect: bool = False,
    margin: float | None = None,
    device: str | None = None,
    verbosity: int = 1,
) -> Predicted:
    """Write a row for every image that is named, or for every face in it: what ``ordage predict`` does.

    Args:
        run: a run, or a folder with a model.
        arguments: as `gather` takes them.
        out: file to write; stdout without.
        kind: ``csv``, ``jsonl`` or ``parquet``; by the name of ``out`` without.
        image_col: column of a table with the paths.
        probs: whether to add the probability of each class.
        tta: as in `load`.
        annotated: folder for copies of the images with the age written on them.
        detect: whether the images are photographs in which faces are to be found.
        margin: around such a face, as a share of its larger side; `MARGIN` without.
        device: where to predict; the GPU when there is one.
        verbosity: 0 says nothing, 1 draws a bar and warns.

    Raises:
        OrdageError: no model or no images there, or options that do not fit.
    """
    kind = format_of(out, kind)
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    if margin is not None and not detect:
        raise UsageError("--margin: means nothing without --detect")
    if margin is not None and not 0 <= margin <= LARGEST_MARGIN:
        raise UsageError(f"--margin {margin:g}: expected 0 to {LARGEST_MARGIN:g}")
    inputs = gather(arguments, image_col=image_col)
    cutter = Cutter(Detector(), MARGIN if margin is None else margin) if detect else None
    predictor = load(run, device=find_device(device), tta=tta)
    reporter = Reporter(verbosity)
    total = sum(map(len, inputs))
    done, sizes = Predicted(total), []
    with row_file(out, kind) as write, reporter.bar("predicting", total) as bar:
        for images, frame in predict_rows(predictor, inputs, bar, probs=probs, cutter=cutter):
            if annotated is not None:
                annotate(images, frame, annotated)
            faceless = frame["error"] == NO_FACE
            done.faceless += int(faceless.sum())
            done.unreadable += int((frame["error"] != "").sum() - faceless.sum())
            sizes.append(_sides(frame[frame["error"] == ""], cutter))
            write(frame)
    done.warnings = list(_unlike_training(predictor, np.concatenate([np.empty((0, 2)), *sizes])))
    for text in done.warnings:
        reporter.note(f"warning: {text}")
    if done.unreadable:
        reporter.note(f"{done.unreadable:,} of {total:,} images could not be read; the column error says why")
    if done.faceless:
        reporter.note(f"no face was found in {done.faceless:,} of {total:,} images")
    return done


@dataclass(frozen=True)
class Cutter:
    """What finds faces in photographs, and how much is left around them."""

    detector: Detector
    margin: float


def predict_rows(
    predictor: Predictor, inputs: Sequence[Images], bar: Bar, *, probs: bool = False, cutter: Cutter | None = None
) -> Iterator[tuple[Images, pd.DataFrame]]:
    """Yield answers, some hundreds of rows at a time, in the order of the inputs, and the images that they are of.

    Threads decode while the model works. The columns are ``path``, those of `Ages.to_frame`, ``width`` and ``height``
    of the image as it came, and ``error``, empty where there is an answer. Where faces are looked for, a row is a face,
    and ``left``, ``top``, ``right``, ``bottom`` and ``face_score`` tell where it is.

    Args:
        predictor: the model.
        inputs: what `gather` found.
        bar: counts the images.
        probs: whether to add the probability of each class.
        cutter: finds the faces; without it an image is a face.
    """
    for images in inputs:
        waiting: list[_Chunk] = []
        count = 0
        work = partial(_decode, predictor, images) if cutter is None else partial(_cut, predictor, cutter, images)
        for chunk in in_order(work, len(images)):
            waiting.append(chunk)
            count += len(chunk.names)
            if count >= BATCH:
                yield images, _answered(predictor, waiting, probs, bar)
                waiting, count = [], 0
        if waiting:
            yield images, _answered(predictor, waiting, probs, bar)


@dataclass(frozen=True)
class _Chunk:
    """Some images, or the faces in them, decoded as far as they can be.

    Attributes:
        images: how many images these are.
        names: of the image of each row.
        pixels: of each row.
        sizes: of each row's image, width and height; None where it cannot be read.
        errors: why a row has no pixels, empty where it has.
        faces: where in the image; None where nobody looked.
    """

    images: int
    names: list[str]
    pixels: NDArray[np.uint8]
    sizes: list[tuple[int, int] | None]
    errors: list[str]
    faces: list[Face] | None = None


def _decode(predictor: Predictor, images: Images, rows: range) -> _Chunk:
    spec = predictor.spec
    names = images.names[rows.start : rows.stop]
    if images.pixels is not None:
        arrays = np.ascontiguousarray(images.pixels[rows.start : rows.stop])
        count, height, width = arrays.shape[:3]
        pixels = spec.fitted(to_channels(arrays.reshape(count, height, width, -1), spec.chans))
        return _Chunk(count, names, pixels, [(width, height)] * count, [""] * count)
    pixels = np.zeros((len(rows), spec.size, spec.size, spec.chans), np.uint8)
    told = spec.decode_into(pixels, range(len(rows)), lambda place: images.read(rows[place]))
    infos = [told[place] for place in range(len(rows))]
    sizes = [None if isinstance(info, str) else (info.width, info.height) for info in infos]
    return _Chunk(len(rows), names, pixels, sizes, [info if isinstance(info, str) else "" for info in infos])


def _cut(predictor: Predictor, cutter: Cutter, images: Images, rows: range) -> _Chunk:
    """Find the faces in some photographs; one without any is a row that says so."""
    spec = predictor.spec
    empty = np.zeros((spec.size, spec.size, spec.chans), np.uint8)
    names: list[str] = []
    pixels: list[NDArray[np.uint8]] = []
    sizes: list[tuple[int, int] | None] = []
    errors: list[str] = []
    faces: list[Face] = []

    def add(
        row: int, size: tuple[int, int] | None, crop: NDArray[np.uint8] = empty, error: str = "", face: Face = NOWHERE
    ) -> None:
        names.append(images.names[row])
        pixels.append(crop)
        sizes.append(size)
        errors.append(error)
        faces.append(face)

    for row in rows:
        try:
            photograph, size = _photograph(images, row)
        except (OSError, ValueError) as error:
            add(row, None, error=getattr(error, "strerror", None) or str(error))
            continue
        there = cutter.detector(photograph)
        for face in there:
            crop = to_channels(cut(photograph, face, cutter.margin), spec.chans)
            add(row, size, spec.fitted(crop[None])[0], face=face)
        if not there:
            add(row, size, error=NO_FACE)
    return _Chunk(len(rows), names, np.stack(pixels), sizes, errors, faces)


def _photograph(images: Images, row: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return ``(H, W, 3)``, upright and with all of its pixels, and width and height."""
    if images.pixels is not None:
        array = np.asarray(images.pixels[row])
        pixels = to_channels(array.reshape(*array.shape[:2], -1), 3)
    else:
        pixels, _ = decode(images.read(row), chans=3, at_least=WHOLE)
    height, width = pixels.shape[:2]
    return pixels, (width, height)


def _answered(predictor: Predictor, chunks: Sequence[_Chunk], probs: bool, bar: Bar) -> pd.DataFrame:
    errors = [error for chunk in chunks for error in chunk.errors]
    good = [place for place, error in enumerate(errors) if not error]
    pixels = np.concatenate([chunk.pixels for chunk in chunks])
    answers = predictor.of_pixels(pixels if len(good) == len(errors) else pixels[good]).to_frame(probs=probs)
    answers.index = pd.Index(good)
    frame = answers.reindex(range(len(errors)))  # an empty row for what cannot be read
    names = [name for chunk in chunks for name in chunk.names]
    frame.insert(0, "path", pd.Series(names, dtype=object))  # not as text: a file name need not be any
    sizes = [size or (pd.NA, pd.NA) for chunk in chunks for size in chunk.sizes]
    frame["width"], frame["height"] = (pd.array(side, dtype="Int64") for side in zip(*sizes, strict=True))
    if chunks[0].faces is not None:
        faces = [face for chunk in chunks for face in chunk.faces or ()]
        for place, name in enumerate(BOX):
            frame.insert(1 + place, name, [getattr(face, name) for face in faces])
        frame.insert(1 + len(BOX), "face_score", [face.score for face in faces])
    frame["error"] = errors
    bar.advance(sum(chunk.images for chunk in chunks))
    return frame


def _sides(frame: pd.DataFrame, cutter: Cutter | None) -> NDArray[np.float64]:
    """Return width and height of what the model looked at in each row, before it was resized."""
    if cutter is None:
        return frame[["width", "height"]].to_numpy(np.float64)
    across = np.maximum(frame["right"] - frame["left"], frame["bottom"] - frame["top"]).to_numpy(np.float64)
    return np.repeat((across * (1 + 2 * cutter.margin))[:, None], 2, axis=1)


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
        yield f"the images, or the faces in them, are {side:.0f} pixels across, {seen}"
