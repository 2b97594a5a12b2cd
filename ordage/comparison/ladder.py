"""The ladder: from the small plain net that people begin with to the best that the data allows, a step at a time."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from ..config import REFERENCE, CompareConfig, RunConfig
from ..data.dataset import COLOURED
from ..data.manifest import Manifest
from ..errors import UsageError

__all__ = ["climb"]

SMALL, LARGER, LARGEST = 28, 64, 128  # pixels
ENOUGH = 1.15  # times as many pixels across, below which a larger input shows nothing more
FIRST = "seed_cnn"
BETTER = "ordage_small"


def climb(config: CompareConfig, manifest: Manifest) -> list[tuple[str, dict[str, Any], str | None]]:
    """Return the steps: name, options, and the step before, which each is held against.

    Each step keeps what the steps before it changed. A step that the data has nothing for is left out: colour for grey
    images, a larger input for small ones, pretrained weights where none are given.

    Raises:
        UsageError: options that the ladder itself sets.
    """
    for name, value, usual in (
        ("model", config.model if config.weights is None else "auto", "auto"),
        ("models", config.models, ()),
        ("losses", config.losses, CompareConfig().losses),
        ("augment", config.augment, None),
    ):
        if value != usual:
            raise UsageError(f"--ladder sets --{name} itself; leave that out")
    shape, coloured = _native(manifest)
    side = min(shape)
    small = config.img_size or min(SMALL, side)
    plain = {"img_size": small, "in_chans": config.in_chans or 1, "weights": None, "pretrained": False}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("plain softmax on bins", {**plain, "model": FIRST, "loss": REFERENCE, "train_on": "bins", "augment": "none"}),
        ("+ augmentation", {"augment": "light"}),
        (f"+ {BETTER}", {"model": BETTER}),
    ]
    if manifest.exact and config.train_on != "bins":
        steps.append(("+ years instead of bins", {"train_on": "years"}))
    steps.append(("+ ordinal loss", {"loss": RunConfig().loss}))
    if coloured and config.in_chans is None:
        steps.append(("+ colour", {"in_chans": 3}))
    if side >= ENOUGH * small and config.img_size is None:
        steps.append((f"+ {min(LARGER, side)} pixels", {"img_size": min(LARGER, side)}))
    if config.weights is not None:
        size = {} if config.img_size else {"img_size": min(LARGEST, side)}
        steps.append(("+ pretrained", {"model": config.model, "weights": config.weights, "pretrained": True, **size}))
    found: list[tuple[str, dict[str, Any], str | None]] = []
    sofar: dict[str, Any] = {}
    for name, changes in steps:
        sofar = {**sofar, **changes}
        found.append((name, sofar, found[-1][0] if found else None))
    return found


def _native(manifest: Manifest) -> tuple[tuple[int, int], bool]:
    """Return height and width of the images as they come, and whether they have colour, by the first that is readable.

    Which step shows what is decided before anything is decoded.
    """
    if manifest.images is not None:
        height, width, chans = manifest.images.shape[1:]
        return (height, width), chans == 3
    for row in range(len(manifest)):
        try:
            with Image.open(io.BytesIO(manifest.contents.read(row))) as image:
                return (image.height, image.width), image.mode in COLOURED
        except OSError:
            continue
    return (SMALL, SMALL), False
