"""Using a trained model: images in, age distributions out, prepared exactly as in training."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ordage.eval import Calibration, OrdinalScale, apply_temperature, metrics, spreads

from .errors import DataError
from .hub import HUB, fetch
from .images import to_channels
from .model import LoadedModel, load_model
from .runs import REPORT

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Ages", "Predictor", "load", "model_folder"]

BATCH = 256


@dataclass(frozen=True)
class Ages:
    """What a model says about N images.

    Attributes:
        log_probs: ``(N, K)`` natural logarithms of the class probabilities.
        classes: the K classes, years as a rule.
        bins: the bins that the model was judged on.
        calibration: what the model learned about its answers on validation; None where nothing stands beside it.
    """

    log_probs: NDArray[np.float32]
    classes: OrdinalScale
    bins: OrdinalScale
    calibration: Calibration | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.log_probs)

    @property
    def age(self) -> NDArray[np.float64]:
        """The median of each distribution ``(N,)``, the point with the least expected absolute error."""
        return np.asarray(self.classes.values)[self._median]

    @property
    def _median(self) -> NDArray[np.int64]:
        return metrics.median(self.log_probs) if len(self) else np.empty(0, np.int64)

    @property
    def bin(self) -> NDArray[np.str_]:
        """The most probable bin of each image ``(N,)``, by `bin_probs`."""
        return np.asarray(self.bins.labels)[self._likely_bin]

    @property
    def probs(self) -> NDArray[np.float64]:
        """The class probabilities ``(N, K)`` with the temperature of the calibration, so that they mean what they say.

        Ages and intervals are those of ``log_probs``, the model as it was judged.
        """
        return np.exp(self._calibrated.astype(np.float64))

    @property
    def bin_probs(self) -> NDArray[np.float64]:
        """The same of the bins ``(N, B)``."""
        return np.asarray(self.classes.coarsen(self.probs, self.bins), np.float64)

    @property
    def bin_probability(self) -> NDArray[np.float64]:
        """The probability of `bin` ``(N,)``."""
        return self.bin_probs[np.arange(len(self)), self._likely_bin]

    @property
    def _calibrated(self) -> NDArray[Any]:
        temperature = None if self.calibration is None else self.calibration.temperature
        if temperature is None or not len(self):
            return self.log_probs
        return apply_temperature(self.log_probs, temperature)

    @property
    def _likely_bin(self) -> NDArray[np.int64]:
        if not len(self):
            return np.empty(0, np.int64)
        return metrics.mode(self.classes.coarsen(self._calibrated, self.bins, log=True))

    @property
    def interval(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and the highest age ``(N,)`` of each prediction interval; NaN without a calibration.

        The intervals hold the true age with the probability ``calibration.intervals.coverage``.
        """
        if self.calibration is None or not len(self):
            nothing = np.full(len(self), np.nan)
            return nothing, nothing.copy()
        first, last = self.calibration.intervals(self.log_probs)
        return np.asarray(self.classes.lows, np.float64)[first], np.asarray(self.classes.highs, np.float64)[last]

    @property
    def spread(self) -> NDArray[np.float64]:
        """The standard deviation of each distribution ``(N,)``; 0 for a model that answers with a point."""
        return spreads(self._calibrated, self.classes.values) if len(self) else np.empty(0)

    @property
    def outside_trained_range(self) -> NDArray[np.bool_]:
        """Whether the true age may lie beyond the ages that the model knows ``(N,)``.

        It cannot say any other age than those it was trained on. So where an interval, or the answer itself where
        there is none, reaches the first of them, if that is above 0, or the last, others beyond would look alike.
        """
        first = last = self._median
        if self.calibration is not None and len(self):
            first, last = self.calibration.intervals(self.log_probs)
        return ((first == 0) & (self.classes.lows[0] > 0)) | (last == len(self.classes) - 1)

    def to_frame(self, *, probs: bool = False) -> pd.DataFrame:
        """Return all of this as a table, a row an image.

        Args:
            probs: whether to add the probability of each class, as columns ``p_0``, ``p_1`` and so on by their labels.
        """
        import pandas as pd

        low, high = self.interval
        columns = {
            "age": self.age,
            "low": low,
            "high": high,
            "bin": self.bin,
            "bin_probability": self.bin_probability,
            "spread": self.spread,
            "outside_trained_range": self.outside_trained_range,
        }
        frame = pd.DataFrame(columns)
        if not probs:
            return frame
        each = pd.DataFrame(self.probs, columns=[f"p_{label}" for label in self.classes.labels])
        return pd.concat([frame, each], axis=1)


class Predictor:
    """A trained model that takes paths, PIL images, arrays or tensors.

    Args:
        loaded: the model with what came along.
        device: where it runs; the GPU when there is one.
    """

    def __init__(self, loaded: LoadedModel, device: str | torch.device | None = None) -> None:
        """Move the model to its device."""
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.name, self.loss = loaded.name, loaded.loss
        self.spec, self.classes, self.bins = loaded.spec, loaded.classes, loaded.bins
        self.criterion, self.calibration, self.trained_on = loaded.criterion, loaded.calibration, loaded.trained_on
        self.model = loaded.model.to(memory_format=torch.channels_last).to(self.device)

    @torch.inference_mode()
    def __call__(self, images: Any) -> Ages:
        """Predict.

        Args:
            images: a path, a PIL image, a uint8 array or tensor ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``, or several
                of them: any iterable, or one array or tensor with a leading dimension.

        Raises:
            DataError: an image cannot be read.
        """
        batches = _batched(_each(images), BATCH)
        found = [self._log_probs(np.stack([self._pixels(image) for image in batch])) for batch in batches]
        none = np.empty((0, len(self.classes)), np.float32)
        return Ages(np.concatenate([none, *found]), self.classes, self.bins, self.calibration)

    @torch.inference_mode()
    def of_pixels(self, pixels: NDArray[np.uint8]) -> Ages:
        """Predict images that are prepared: ``(N, size, size, chans)`` uint8, as ``spec`` makes them."""
        batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
        none = np.empty((0, len(self.classes)), np.float32)
        return Ages(np.concatenate([none, *map(self._log_probs, batches)]), self.classes, self.bins, self.calibration)

    def _log_probs(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        return self.criterion.log_probs(self.model(batch).float()).cpu().numpy().astype(np.float32)

    def _pixels(self, image: Any) -> NDArray[np.uint8]:
        if isinstance(image, (str, os.PathLike)):
            try:
                return self.spec.decode(Path(image).read_bytes())[0]
            except (OSError, ValueError) as error:
                raise DataError(f"{image}: {getattr(error, 'strerror', None) or error}") from None
        if isinstance(image, Image.Image):
            return self.spec.prepare(image)
        array = _channels_last(_as_array(image))
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
            raise DataError(f"expected a uint8 image (H, W) or (H, W, C), but got {array.dtype} {array.shape}")
        pixels = to_channels(array.reshape(*array.shape[:2], -1), self.spec.chans)
        return self.spec.fitted(pixels[None])[0]


def model_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder of a model's files: the best of a run, the folder that is named, or the hub's copy here."""
    if str(path).startswith(HUB):
        return fetch(str(path))
    folder = Path(path)
    is_run = (folder / "checkpoints").is_dir() or (folder / REPORT).exists()
    return folder / "checkpoints" / "best" if is_run else folder


def load(
    path: str | os.PathLike[str], *, device: str | torch.device | None = None, tta: str | None = None
) -> Predictor:
    """Load the best model of a run, or of a folder that holds ``model.json`` and ``model.safetensors``.

    Args:
        path: what `fit` returned as ``run.path``, such a folder, or ``hf:user/name`` on the Hugging Face hub.
        device: where to run; the GPU when there is one.
        tta: views of an image that its answer is the mean of: ``none``, ``flip`` or ``shift``; those of the model's
            own test without.

    Raises:
        DataError: there is no model, or its files are broken.
        MissingError: the hub cannot be reached, or has no such model.

    Example:
        >>> ages = load("runs/first")(["ann.jpg", "bob.jpg"])  # doctest: +SKIP
        >>> ages.age  # doctest: +SKIP
        array([31., 67.])
    """
    loaded = load_model(model_folder(path))
    if tta is not None:
        loaded.model.tta = tta
    return Predictor(loaded, device)


def _as_array(image: Any) -> NDArray[Any]:
    return image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)


def _channels_last(array: NDArray[Any]) -> NDArray[Any]:
    """Return ``(C, H, W)`` as ``(H, W, C)`` where only the first axis can be the channels."""
    first = array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[-1] not in (1, 3, 4)
    return np.moveaxis(array, 0, -1) if first else array


def _each(images: Any) -> Iterable[Any]:
    if isinstance(images, (str, os.PathLike, Image.Image)):
        return [images]
    if isinstance(images, (np.ndarray, Tensor)):
        images = _as_array(images)
        single = images.ndim == 2 or (images.ndim == 3 and _channels_last(images).shape[-1] in (1, 3, 4))
        return images[None] if single else images
    return images


def _batched(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
