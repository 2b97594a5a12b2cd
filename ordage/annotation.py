"""Copies of images with the age written on them, or on each face."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

if TYPE_CHECKING:
    import pandas as pd

    from .inputs import Images

__all__ = ["annotate"]

SHARE = 0.09  # of an image's height that the text takes
BOX_SHARE = 0.16  # the same of a face's
SMALLEST = 12  # pixels


def annotate(images: Images, frame: pd.DataFrame, folder: Path) -> None:
    """Write a PNG of every image that has an answer: age and interval in its corner, or at the box of each face.

    Args:
        images: where the rows come from.
        frame: answers, as `predict_rows` makes them.
        folder: where they go; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    row_of = {name: row for row, name in enumerate(images.names)}
    answered = frame[frame["error"] == ""]
    for name, answers in answered.groupby("path", sort=False):
        image = ImageOps.exif_transpose(images.open(row_of[str(name)])).convert("RGB")
        for answer in answers.itertuples():
            if "left" in frame.columns:
                _box(image, (answer.left, answer.top, answer.right, answer.bottom), _text(answer))
            else:
                _label(image, (0, 0), _text(answer), max(SMALLEST, round(SHARE * image.height)))
        image.save(_free(folder, Path(str(name)).name))


def _text(answer: Any) -> str:
    if math.isinf(answer.high):
        return f"{answer.age:g} ({answer.low:g}+)"
    if math.isnan(answer.low):
        return f"{answer.age:g}"
    return f"{answer.age:g} ({answer.low:g}-{answer.high:g})"


def _box(image: Image.Image, box: tuple[float, float, float, float], text: str) -> None:
    """Draw a frame around a face and the text above it, or in it where there is no room."""
    left, top, right, bottom = box
    line = max(2, round(min(image.size) / 300))
    ImageDraw.Draw(image).rectangle(box, outline="white", width=line)
    ImageDraw.Draw(image).rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="black")
    size = max(SMALLEST, round(BOX_SHARE * (bottom - top)))
    height = round(1.6 * size)
    _label(image, (left, top - height if top >= height else top), text, size)


def _label(image: Image.Image, corner: tuple[float, float], text: str, size: int) -> None:
    """Write white on black from a corner on, and all of it within the image."""
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = draw.textbbox((size // 3, size // 4), text, font=font)
    width, height = right + left, bottom + top
    x, y = (max(0.0, min(at, most - own)) for at, most, own in zip(corner, image.size, (width, height), strict=True))
    draw.rectangle((x, y, x + width, y + height), fill="black")
    draw.text((x + size // 3, y + size // 4), text, fill="white", font=font)


def _free(folder: Path, name: str) -> Path:
    """Return a name in the folder that is not taken: images of several folders may be called alike."""
    stem = name if not name.lower().endswith(".png") else name[:-4]
    path, count = folder / f"{stem}.png", 1
    while path.exists():
        count += 1
        path = folder / f"{stem}-{count}.png"
    return path
