"""From the bytes of an image file to upright grey or RGB pixels, and what was found in the file."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

try:
    import simplejpeg
except ImportError:  # an extra: the same pixels as Pillow, in half of the time
    simplejpeg = None

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ImageInfo", "decode", "to_channels", "to_pixels"]

_ORIENTATION = 0x0112  # the EXIF tag
_PROGRAMS = {"EPS", "WMF"}  # what Pillow gives to Ghostscript and to Windows to be run


class ImageInfo(NamedTuple):
    """What a file says about its image.

    Attributes:
        width: in pixels, of the upright image.
        height: in pixels, of the upright image.
        mode: how its pixels are stored, by Pillow's names: L, RGB, CMYK, P, RGBA, I;16, …
        format: JPEG, PNG, …
        orientation: the EXIF orientation, 1 where it is upright as stored.
    """

    width: int
    height: int
    mode: str
    format: str
    orientation: int


def decode(
    content: bytes, *, chans: int, at_least: int, at_most: int | None = None
) -> tuple[NDArray[np.uint8], ImageInfo]:
    """Decode the bytes of an image file.

    Args:
        content: the file's bytes.
        chans: 1 for grey, 3 for RGB.
        at_least: the side in pixels that is needed; a JPEG of four times the side or more is decoded at 1/2, 1/4 or
            1/8 of its size for a fraction of the cost, never below twice what is needed.
        at_most: pixels that may be decoded, where the bytes come from strangers: a small file may hold a huge image.

    Returns:
        ``(H, W, chans)`` uint8, upright, and what the file says about itself.

    Raises:
        ValueError: the bytes are no image, one that is cut off, or one of too many pixels; the message is a reason for
            a report.
    """
    if not content:
        raise ValueError("the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as image:
            orientation = _orientation(image)
            width, height = image.size if orientation < 5 else image.size[::-1]
            info = ImageInfo(width, height, image.mode, image.format or "", orientation)
            plain = orientation == 1 and info.mode in ("L", "RGB") and info.format == "JPEG"
            image.draft("L" if chans == 1 else "RGB", (2 * at_least, 2 * at_least))
            if at_most is not None and math.prod(image.size) > at_most:
                raise ValueError(f"{width} x {height} pixels, more than {at_most / 1e6:.0f} million")
            pixels = _decode_jpeg(content, image.size, chans) if plain else None
            if pixels is None:
                image.load()
                pixels = to_pixels(image if orientation == 1 else ImageOps.exif_transpose(image), chans)
    except Exception as error:  # Pillow raises many types on broken files, and every one of them means: unreadable
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "not an image, or a broken one"
        raise ValueError(reason) from None
    return pixels, info


def _formats() -> list[str]:
    """Return all formats that Pillow knows, also by plug-ins of its user, less those that are programs."""
    Image.init()
    return [name for name in Image.ID if name not in _PROGRAMS]


def _orientation(image: Image.Image) -> int:
    """Return 1 to 8 by the EXIF data; 1 where there is none, or nothing that makes sense."""
    # Only these keys announce EXIF data; reading it costs as much as all the rest of opening a small image.
    if not image.info.keys() & {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"} and image.format != "TIFF":
        return 1
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _decode_jpeg(content: bytes, size: tuple[int, int], chans: int) -> NDArray[np.uint8] | None:
    """Decode a JPEG by simplejpeg at the size that Pillow's ``draft`` chose; ``None`` where that does not work."""
    if simplejpeg is None:
        return None
    colours = "GRAY" if chans == 1 else "RGB"
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, colours, min_width=size[0], min_height=size[1])
    except ValueError:  # Pillow decides what is broken, so that it does not depend on what is installed
        return None
    return pixels


def to_pixels(image: Image.Image, chans: int) -> NDArray[np.uint8]:
    """Return an upright image as ``(H, W, chans)`` uint8: 16 bits scaled to 8, transparent parts white."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_to_eight_bits(np.asarray(image, np.float32), image.mode))
    elif image.mode in ("P", "PA", "LA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")  # transparent parts become white, not whatever colour lies beneath
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "L" if chans == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    # Not np.asarray, which takes twice as long, and whose array cannot be written to.
    return np.frombuffer(bytearray(image.tobytes()), np.uint8).reshape(image.height, image.width, chans)


def _to_eight_bits(array: NDArray[np.float32], mode: str) -> NDArray[np.uint8]:
    # Pillow clips to 255 instead of scaling. 32-bit integers and floats may hold any range: theirs tells which.
    array = np.nan_to_num(array)
    high = float(array.max(initial=0))
    factor = 1.0
    if mode.startswith("I;16") or high > 255:
        factor = 1 / 257
    elif mode == "F" and high <= 1:
        factor = 255.0
    return (array * factor).clip(0, 255).astype(np.uint8)


def to_channels(pixels: NDArray[Any], chans: int) -> NDArray[np.uint8]:
    """Return ``(..., C)`` uint8 pixels of 1, 3 or 4 channels with ``chans`` of them: grey by Rec. 601, alpha on white.

    Example:
        >>> to_channels(np.array([[255, 0, 0]], np.uint8), 1)
        array([[76]], dtype=uint8)
    """
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:].astype(np.uint16)
        pixels = ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    if pixels.shape[-1] == chans:
        return pixels
    if chans == 3:
        return np.repeat(pixels, 3, axis=-1)
    # The integers that Pillow takes: 0.299, 0.587 and 0.114 in units of 1 / 65536.
    weighted = pixels.astype(np.uint32) @ np.array([[19595], [38470], [7471]], np.uint32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)
