"""`export`: one file from a batch of uint8 images to ages, for programs that have no ordage."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
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
from .model import VIEWS
from .model_card import CARD, model_card
from .predictor import load, model_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .export_formats import Answer
    from .predictor import Predictor

__all__ = ["Exported", "Verified", "export"]

TOLERANCE = 1e-4  # between a probability in the file and in the model
RESIZED_TOLERANCE = 0.01  # the same where the file resizes: some pixels are rounded the other way by a grey level
SAME = 0.95  # of the ages and intervals; a median may be a tie
IMAGES = 64  # that a file is verified with
SHAPES = ((1.5, 1.5), (1.5, 2), (6, 4), (0.6, 0.6), (0.6, 1.2))  # height and width over the model's, each resized
MOSTLY = 0.75  # of the images; a sharp model may answer otherwise where a single pixel is rounded otherwise


@dataclass(frozen=True)
class Verified:
    """How an exported file differs from the model that it was made of.

    Attributes:
        images: that both were asked about.
        largest: difference between two probabilities, for images as large as the model sees them.
        ages: share of these images with the same age and interval.
        resized: the largest difference for images of other shapes, which the file resizes; None where it cannot.
        resized_mostly: the same for three quarters of these images.
    """

    images: int
    largest: float
    ages: float
    resized: float | None
    resized_mostly: float | None

    @property
    def problem(self) -> str | None:
        """What is too different, if anything is; NaN is."""
        if not self.largest <= TOLERANCE:
            return f"answers differ from the model's by {self.largest:.1e}, more than {TOLERANCE:g}"
        if not self.ages >= SAME:
            return f"the age or the interval is another for {1 - self.ages:.0%} of {self.images} images"
        if self.resized_mostly is not None and not self.resized_mostly <= RESIZED_TOLERANCE:
            return f"where it resizes, answers differ from the model's by {self.resized_mostly:.1e}"
        return None


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
        UsageError: no such format, one that the backbone cannot be written as, or a file where the folder shall be.
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
    predictor = load(path, device="cpu")
    judged_by = predictor.model.tta
    if tta is not None and tta not in VIEWS:
        raise UsageError(f"--tta {tta}: expected one of {', '.join(VIEWS)}")
    predictor.model.tta = judged_by if tta is None else tta
    folder = path / "export" if out is None else out
    source = model_folder(path)
    if predictor.model.tta != judged_by and folder.resolve() == source.resolve():
        raise UsageError(f"--tta {tta}: the model in {folder} was judged by {judged_by}; export it to another --out")
    folder.mkdir(parents=True, exist_ok=True)
    file, part = folder / f"model.{wanted.suffix}", folder / f"part.{wanted.suffix}"
    try:
        with _quiet():
            _write(predictor, kind, part)
        verified = _verify(predictor, wanted.open(part))
        if verified.problem is not None:
            raise DataError(f"{file}: {verified.problem}; not kept")
        _copy_model(source, folder, predictor.model.tta)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    write_whole(folder / CARD, model_card(path, predictor, folder, judged_by))
    return Exported(folder, file, verified)


def _write(predictor: Predictor, kind: str, path: Path) -> None:
    try:
        FORMATS[kind].write(predictor, path)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # whatever the exporters have to say of a backbone that does what they cannot follow
        others = " or ".join(other for other in FORMATS if other != kind)
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise UsageError(
            f"--format {kind}: {predictor.name} cannot be written so ({reason}); try --format {others}"
        ) from error


def _copy_model(source: Path, folder: Path, tta: str) -> None:
    """Copy a model's files, which then answers by the views ``tta``; what a model that was another left there goes."""
    if source.resolve() == folder.resolve():
        return
    wanted = {name: (source / name).read_bytes() for name in MODEL_FILES if (source / name).exists()}
    about = json.loads(wanted["model.json"])
    if about.get("tta", "none") != tta:
        wanted["model.json"] = json.dumps({**about, "tta": tta}, indent=2).encode()
    there = {name: (folder / name).read_bytes() for name in MODEL_FILES if (folder / name).exists()}
    if there == wanted:
        return
    for name in (*MODEL_FILES, *(f"model.{each.suffix}" for each in FORMATS.values())):
        (folder / name).unlink(missing_ok=True)
    for name, content in wanted.items():
        part = folder / f"{name}.part"
        part.write_bytes(content)
        part.replace(folder / name)


def _verify(predictor: Predictor, answer: Answer) -> Verified:
    """Ask both about drawn faces and noise as large as the model sees them, and about others where the file resizes."""
    spec = predictor.spec
    images = _drawn(IMAGES, spec.size, spec.size, spec.chans)
    found, said = dict(zip(OUTPUTS, answer(images), strict=True)), predictor.of_pixels(images)
    low, high = said.interval
    pairs = ((found["class_probabilities"], said.probs), (found["bin_probabilities"], said.bin_probs))
    same = [
        np.isclose(found[name], expected, equal_nan=True)
        for name, expected in (("age", said.age), ("low", low), ("high", high))
    ]
    resized = mostly = None
    if can_resize(spec):
        differences = []
        for height, width in SHAPES:
            some = _drawn(IMAGES // 4, round(spec.size * height), round(spec.size * width), spec.chans)
            differences.append(np.abs(answer(some)[-1] - predictor.of_pixels(spec.fitted(some)).probs).max(axis=1))
        each = np.concatenate(differences)
        resized, mostly = float(each.max()), float(np.quantile(each, MOSTLY))  # NaN if there is one
    return Verified(
        images=len(images),
        largest=max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs),
        ages=float(np.logical_and.reduce(same).mean()),
        resized=resized,
        resized_mostly=mostly,
    )


def _drawn(count: int, height: int, width: int, chans: int) -> NDArray[np.uint8]:
    """Return images ``(N, H, W, C)``: half of them drawn faces, the other noise, which nothing smooths over."""
    faces = draw(count // 2, max(MIN_SIZE, height, width)).images[:, :height, :width]
    noise = np.random.default_rng(0).integers(0, 256, faces.shape, np.uint8)
    return np.ascontiguousarray(to_channels(np.concatenate([faces, noise]), chans))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' remarks on their own workings, and the programs that they print, from the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
