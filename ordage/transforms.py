"""From an image to the network's input. `ImageSpec` travels with the model, so that every later use prepares alike."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F  # noqa: N812 - the name the whole field uses

from .images import ImageInfo, decode, to_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LARGEST_DEFAULT", "ImageSpec", "default_size", "resize"]

DEFAULT_SIZE = 64  # pixels, for image files and a net without a size of its own
TOGETHER = 8  # decoded images of one shape that are resized in one call
LARGE = 2**19  # bytes of an image above which the calls do not count
LARGEST_DEFAULT = 128  # pixels, for a pretrained backbone and arrays: 224 costs three times as much


def _middle(height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of the largest square in the middle."""
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


@dataclass(frozen=True)
class ImageSpec:
    """How an image becomes the network's input.

    Attributes:
        size: side of the square input in pixels.
        chans: 1 for grey, 3 for colour.
        fit: how an image that is not square becomes so: ``crop`` its middle, ``pad`` it, or ``stretch`` it.
        interpolation: ``bilinear``, ``bicubic``, … as the pretrained weights want it.
        mean: per channel, on a scale of 0 to 1.
        std: per channel, on a scale of 0 to 1.
    """

    size: int
    chans: int
    fit: Literal["crop", "pad", "stretch"] = "crop"
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Turn a decoded image into ``(size, size, chans)`` uint8: upright, grey or RGB, square, resized."""
        return self.fitted(to_pixels(ImageOps.exif_transpose(image), self.chans)[None])[0]

    def decode(self, content: bytes, *, at_most: int | None = None) -> tuple[NDArray[np.uint8], ImageInfo]:
        """Decode the bytes of an image file into ``(size, size, chans)`` uint8; say what else the file tells.

        Args:
            content: the file's bytes.
            at_most: pixels that may be decoded; any number without.

        Raises:
            ValueError: the bytes are no image, or one that is cut off; the message is a reason for a report.
        """
        pixels, info = decode(content, chans=self.chans, at_least=self.size, at_most=at_most)
        return self.fitted(pixels[None])[0], info

    def decode_into(
        self, out: NDArray[np.uint8], places: Iterable[int], read: Callable[[int], bytes]
    ) -> dict[int, ImageInfo | str]:
        """Decode many image files into one array.

        Args:
            out: ``(N, size, size, chans)`` uint8; a place whose file cannot be decoded is left as it is.
            places: which of the ``N`` to fill.
            read: returns the bytes of the file for a place.

        Returns:
            What each file tells about its image, or the reason why there is none, by place.
        """
        found: dict[int, ImageInfo | str] = {}
        waiting: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = defaultdict(list)

        def fit(images: list[tuple[int, NDArray[np.uint8]]]) -> None:
            if images:
                own, pixels = zip(*images, strict=True)
                out[list(own)] = self.fitted(np.stack(pixels))
                images.clear()

        for place in places:
            try:
                pixels, found[place] = decode(read(place), chans=self.chans, at_least=self.size)
            except (OSError, ValueError) as error:
                found[place] = getattr(error, "strerror", None) or str(error)
                continue
            # A call for several images of one shape costs half as much; large images are not worth keeping for that.
            images = waiting[pixels.shape] if pixels.nbytes < LARGE else []
            images.append((place, pixels))
            if len(images) == TOGETHER or pixels.nbytes >= LARGE:
                fit(images)
        for images in waiting.values():
            fit(images)
        return found

    def fitted(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make images of one shape square and resize them: ``(N, H, W, C)`` to ``(N, size, size, C)`` uint8."""
        height, width = images.shape[1:3]
        if self.fit == "crop":
            rows, columns = _middle(height, width)
            images = images[:, rows, columns]
        if self.fit != "pad" or height == width:
            return resize(images, self.size, self.size, self.interpolation)
        longest = max(height, width)
        height, width = (max(1, round(side * self.size / longest)) for side in (height, width))
        padded = np.zeros((len(images), self.size, self.size, images.shape[-1]), np.uint8)
        top, left = (self.size - height) // 2, (self.size - width) // 2
        padded[:, top : top + height, left : left + width] = resize(images, height, width, self.interpolation)
        return padded

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> ImageSpec:
        """Read what `to_dict` returned."""
        return cls(**{**settings, "mean": tuple(settings["mean"]), "std": tuple(settings["std"])})


def default_size(native: tuple[int, ...] | None) -> int:
    """Return the side of the input where nobody chose it, in pixels.

    Args:
        native: shape ``(H, W, C)`` of the images where the source holds arrays.
    """
    return DEFAULT_SIZE if native is None else min(max(native[:2]), LARGEST_DEFAULT)


def resize(images: NDArray[np.uint8], height: int, width: int, interpolation: str) -> NDArray[np.uint8]:
    """Resize with antialiasing: ``(N, H, W, C)`` to ``(N, height, width, C)`` uint8.

    Bilinear and bicubic go through torch, whose kernels for uint8 are those of Pillow to one level of grey and two to
    three times as fast; Pillow has the rest.

    Args:
        images: uint8.
        height: in pixels.
        width: in pixels.
        interpolation: ``bilinear``, ``bicubic``, ``lanczos`` or ``nearest``.
    """
    if images.shape[1:3] == (height, width):
        return images
    if interpolation in ("bilinear", "bicubic"):
        batch = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        resized = F.interpolate(batch, (height, width), mode=interpolation, antialias=True)
        return resized.permute(0, 2, 3, 1).contiguous().numpy()
    method = Image.Resampling[interpolation.upper()]
    squeezed = images[..., 0] if images.shape[-1] == 1 else images
    resized_rows = [np.asarray(Image.fromarray(image).resize((width, height), method)) for image in squeezed]
    return np.stack(resized_rows).reshape(len(images), height, width, images.shape[-1])
