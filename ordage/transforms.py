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
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name the whole field uses

from .images import ImageInfo, decode, to_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "AUGMENTATIONS",
    "DRAWS",
    "LARGEST_DEFAULT",
    "ImageSpec",
    "default_size",
    "flip_and_shift",
    "resize",
    "rotate_and_scale",
]


DRAWS = 7  # random numbers that an augmentation may use for an image
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

    def decode(self, content: bytes) -> tuple[NDArray[np.uint8], ImageInfo]:
        """Decode the bytes of an image file into ``(size, size, chans)`` uint8; say what else the file tells.

        Raises:
            ValueError: the bytes are no image, or one that is cut off; the message is a reason for a report.
        """
        pixels, info = decode(content, chans=self.chans, at_least=self.size)
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


def flip_and_shift(images: Tensor, index: Tensor, draws: Tensor, *, shift: float = 0.08) -> Tensor:
    """Take a batch out of a set, each image flipped with probability 1/2 and moved by a whole number of pixels.

    One gather does all three, so that on a CPU augmentation costs no more than taking the batch. Uncovered pixels
    repeat the border.

    Args:
        images: ``(N, H, W, C)`` uint8, the whole set.
        index: ``(B,)`` which images.
        draws: ``(B, DRAWS)`` uniform in [0, 1), each image's own.
        shift: largest move, as a share of the side.

    Returns:
        ``(B, C, H, W)`` uint8 in channels-last memory.
    """
    height, width, device = images.shape[1], images.shape[2], images.device
    reach = round(shift * width)
    moves = (draws[:, :2, None] * (2 * reach + 1)).long().transpose(0, 1) - reach
    flip = draws[:, 2, None] < 0.5
    rows = (torch.arange(height, device=device) + moves[0]).clamp_(0, height - 1)
    columns = torch.arange(width, device=device)
    columns = (torch.where(flip, width - 1 - columns, columns) + moves[1]).clamp_(0, width - 1)
    return images[index[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def rotate_and_scale(
    images: Tensor,
    index: Tensor,
    draws: Tensor,
    *,
    degrees: float = 12.0,
    scale: float = 0.1,
    shift: float = 0.08,
    brightness: float = 0.2,
    contrast: float = 0.2,
) -> Tensor:
    """Take a batch out of a set with independent draws per image: flip, rotation, scale, shift, brightness, contrast.

    Args:
        images: ``(N, H, W, C)`` uint8, the whole set.
        index: ``(B,)`` which images.
        draws: ``(B, DRAWS)`` uniform in [0, 1), each image's own.
        degrees: largest rotation.
        scale: largest change of the scale, as a share of it.
        shift: largest move, as a share of the side.
        brightness: largest change, as a share of the range.
        contrast: largest change, as a share of it.

    Returns:
        ``(B, C, H, W)`` float32 in 0 to 255.
    """
    batch = images[index].permute(0, 3, 1, 2).float()
    draw = draws.T * 2 - 1
    angle = draw[0] * (degrees * torch.pi / 180)
    zoom = 1 + draw[1] * scale
    mirror = torch.where(draw[2] < 0, -1.0, 1.0)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    first = torch.stack((cos * mirror, -sin, draw[3] * 2 * shift), -1)
    second = torch.stack((sin * mirror, cos, draw[4] * 2 * shift), -1)
    grid = F.affine_grid(torch.stack((first, second), 1), list(batch.shape), align_corners=False)
    batch = F.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    centre = batch.mean((1, 2, 3), keepdim=True)
    gain = (1 + draw[5] * contrast)[:, None, None, None]
    offset = (255 * brightness * draw[6])[:, None, None, None]
    return ((batch - centre) * gain + centre + offset).clamp_(0, 255)


def _take(images: Tensor, index: Tensor, draws: Tensor) -> Tensor:
    return images[index].permute(0, 3, 1, 2)


# What is random about them comes from outside, so that an image is changed alike in whichever piece of a batch it is.
AUGMENTATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "none": _take,
    "light": flip_and_shift,
    "full": rotate_and_scale,
}
