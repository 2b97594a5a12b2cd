"""`export`: one file from a batch of uint8 images to ages, for programs that have no ordage."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .answers import OUTPUTS, can_resize
from .data.demo import MIN_SIZE, draw
from .errors import DataError, UsageError
from .export_formats import FORMATS
from .files import write_whole
from .hub import HUB, MODEL_FILES
from .images import to_channels
from .model_card import CARD, model_card
from .predictor import load, model_folder

if TYPE_CHECKING:
    from .export_formats import Answer
    from .predictor import Predictor

__all__ = ["Exported", "Verified", "export"]

TOLERANCE = 1e-4  # between a probability in the file and in the model
IMAGES = 64  # that a file is verified with


@dataclass(frozen=True)
class Verified:
    """How an exported file differs from the model that it was made of.

    Attributes:
        images: that both were asked about.
        largest: difference between two probabilities, for images as large as the model sees them.
        ages: share of these images with the same age and interval.
        resized: the largest difference where the file resizes larger images by itself; None where it cannot.
    """

    images: int
    largest: float
    ages: float
    resized: float | None


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        folder: that holds it all: the file, the model as `load` takes it, and the card.
        file: the one file.
        verified: how it was verified.
    """

    folder: Path
    file: Path
    verified: Verified


def export(path: Path, *, kind: str = "onnx", out: Path | None = None, tta: str | None = None) -> Exported:
    """Write a model as one file, verified, with a model card beside it: what ``ordage export`` does.

    Args:
        path: a run, a folder with a model, or one of the hub.
        kind: ``onnx`` or ``torch``, a program of ``torch.export``.
        out: folder to write into; ``export`` in that folder without.
        tta: views that an answer is the mean of, as in `load`; those of the model's own test without.

    Raises:
        UsageError: no such format, or a file where the folder shall be.
        DataError: no model there, or the file does not answer as the model does; it is not kept.
        MissingError: the libraries of ``ordage[export]`` are not there.
    """
    if kind not in FORMATS:
        raise UsageError(f"--format {kind}: expected one of {', '.join(FORMATS)}")
    if out is None and not path.is_dir() and str(path).startswith(HUB):
        raise UsageError(f"--out: name a folder to export {path} into")
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a folder")
    wanted = FORMATS[kind]
    wanted.check()
    predictor = load(path, device="cpu", tta=tta)
    folder = path / "export" if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    file, part = folder / f"model.{wanted.suffix}", folder / f"part.{wanted.suffix}"
    try:
        with _quiet():
            wanted.write(predictor, part)
        verified = _verify(predictor, wanted.open(part))
        if not verified.largest <= TOLERANCE:  # NaN neither
            raise DataError(
                f"{file}: answers differ from the model's by {verified.largest:.1e}, more than {TOLERANCE:g}; not kept"
            )
        source = model_folder(path)
        if source.resolve() != folder.resolve():
            _copy_model(source, folder)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    write_whole(folder / CARD, model_card(path, predictor, folder))
    return Exported(folder, file, verified)


def _copy_model(source: Path, folder: Path) -> None:
    """Copy a model's files; those that another model left in the folder go."""
    weights = folder / "model.safetensors"
    if weights.exists() and weights.read_bytes() != (source / weights.name).read_bytes():
        for each in FORMATS.values():
            (folder / f"model.{each.suffix}").unlink(missing_ok=True)
    for name in MODEL_FILES:
        part = folder / f"{name}.part"
        if (source / name).exists():
            shutil.copyfile(source / name, part)
            part.replace(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def _verify(predictor: Predictor, answer: Answer) -> Verified:
    """Ask both about drawn faces and noise: as large as the model sees them, and larger where the file resizes."""
    spec = predictor.spec
    images = draw(IMAGES // 2, max(MIN_SIZE, spec.size)).images[:, : spec.size, : spec.size]
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    images = np.ascontiguousarray(to_channels(np.concatenate([images, noise]), spec.chans))
    found, said = dict(zip(OUTPUTS, answer(images), strict=True)), predictor.of_pixels(images)
    low, high = said.interval
    pairs = ((found["class_probabilities"], said.probs), (found["bin_probabilities"], said.bin_probs))
    same = [
        np.isclose(found[name], expected, equal_nan=True)
        for name, expected in (("age", said.age), ("low", low), ("high", high))
    ]
    resized = None
    if can_resize(spec):
        side = spec.size * 3 // 2 + 1
        larger = to_channels(draw(IMAGES // 2, max(MIN_SIZE, side)).images, spec.chans)
        expected = predictor.of_pixels(spec.fitted(larger)).probs
        resized = float(np.abs(answer(np.ascontiguousarray(larger))[-1] - expected).max())
    return Verified(
        images=len(images),
        largest=max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs),
        ages=float(np.logical_and.reduce(same).mean()),
        resized=resized,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' remarks on their own workings from the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
