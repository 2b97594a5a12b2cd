"""Copies of images with the age written on them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, ImageOps

if TYPE_CHECKING:
    import pandas as pd

    from .inputs import Images

__all__ = ["annotate"]

SHARE = 0.09  # of an image's height that the text takes
SMALLEST = 12  # pixels


def annotate(images: Images, frame: pd.DataFrame, folder: Path) -> None:
    """Write a PNG of every image that has an answer, with age and interval in its upper left corner.

    Args:
        images: where the rows come from.
        frame: answers, as `predict_rows` makes them.
        folder: where they go; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    row_of = {name: row for row, name in enumerate(images.names)}
    for answer in frame[frame["error"] == ""].itertuples():
        image = images.open(row_of[str(answer.path)])
        text = f"{answer.age:g}"
        if math.isinf(answer.high):
            text += f" ({answer.low:g}+)"
        elif not math.isnan(answer.low):
            text += f" ({answer.low:g}\N{EN DASH}{answer.high:g})"
        _written(image, text).save(_free(folder, Path(str(answer.path)).name))


def _written(image: Image.Image, text: str) -> Image.Image:
    image = ImageOps.exif_transpose(image).convert("RGB")
    size = max(SMALLEST, round(SHARE * image.height))
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = draw.textbbox((size // 3, size // 4), text, font=font)
    draw.rectangle((0, 0, right + left, bottom + top), fill="black")
    draw.text((size // 3, size // 4), text, fill="white", font=font)
    return image


def _free(folder: Path, name: str) -> Path:
    """Return a name in the folder that is not taken: images of several folders may be called alike."""
    stem = name if not name.lower().endswith(".png") else name[:-4]
    path, count = folder / f"{stem}.png", 1
    while path.exists():
        count += 1
        path = folder / f"{stem}-{count}.png"
    return path
