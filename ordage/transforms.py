"""From an image to the network's input. `ImageSpec` travels with the model, so that every later use prepares alike."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name the whole field uses

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AUGMENTATIONS", "ImageSpec", "flip_and_shift", "rotate_and_scale"]

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_FITS: dict[str, Callable[[Image.Image, tuple[int, int], Image.Resampling], Image.Image]] = {
    "crop": lambda image, size, method: ImageOps.fit(image, size, method),
    "pad": lambda image, size, method: ImageOps.pad(image, size, method),
    "stretch": lambda image, size, method: image.resize(size, method),
}


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
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits: Pillow would clip to 255 instead of scaling
            image = Image.fromarray((np.asarray(image, np.float32) / 257).clip(0, 255).astype(np.uint8))
        elif image.mode in ("P", "PA", "LA", "RGBA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")  # transparent parts become white, not whatever colour lies beneath
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if self.chans == 1 else "RGB")
        if image.size != (self.size, self.size):
            image = _FITS[self.fit](image, (self.size, self.size), _RESAMPLING[self.interpolation])
        return np.asarray(image, np.uint8).reshape(self.size, self.size, self.chans)

    def decode(self, content: bytes) -> NDArray[np.uint8]:
        """Decode the bytes of an image file into ``(size, size, chans)`` uint8.

        Raises:
            ValueError: the bytes are no image, or one that is cut off; the message is a reason for a report.
        """
        if not content:
            raise ValueError("the file is empty")
        try:
            with Image.open(io.BytesIO(content)) as image:
                # A JPEG decodes at 1/2, 1/4 or 1/8 for a fraction of the cost; twice the size leaves resizing its say.
                image.draft("L" if self.chans == 1 else "RGB", (2 * self.size, 2 * self.size))
                image.load()
                return self.prepare(image)
        except Exception as error:  # Pillow raises many types on broken files, and every one of them means: unreadable
            reason = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, UnidentifiedImageError):
                reason = "not an image, or a broken one"
            raise ValueError(reason) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> ImageSpec:
        """Read what `to_dict` returned."""
        return cls(**{**settings, "mean": tuple(settings["mean"]), "std": tuple(settings["std"])})


def flip_and_shift(images: Tensor, index: Tensor, generator: torch.Generator, *, shift: float = 0.08) -> Tensor:
    """Take a batch out of a set, each image flipped with probability 1/2 and moved by a whole number of pixels.

    One gather does all three, so that on a CPU augmentation costs no more than taking the batch. Uncovered pixels
    repeat the border.

    Args:
        images: ``(N, H, W, C)`` uint8, the whole set.
        index: ``(B,)`` which images.
        generator: of the same device as ``images``.
        shift: largest move, as a share of the side.

    Returns:
        ``(B, C, H, W)`` uint8 in channels-last memory.
    """
    size, height, width = len(index), images.shape[1], images.shape[2]
    device = images.device
    reach = round(shift * width)
    moves = torch.randint(-reach, reach + 1, (2, size, 1), generator=generator, device=device)
    flip = torch.rand((size, 1), generator=generator, device=device) < 0.5
    rows = (torch.arange(height, device=device) + moves[0]).clamp_(0, height - 1)
    columns = torch.arange(width, device=device)
    columns = (torch.where(flip, width - 1 - columns, columns) + moves[1]).clamp_(0, width - 1)
    return images[index[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def rotate_and_scale(
    images: Tensor,
    index: Tensor,
    generator: torch.Generator,
    *,
    degrees: float = 12.0,
    scale: float = 0.1,
    shift: float = 0.08,
    brightness: float = 0.2,
    contrast: float = 0.2,
) -> Tensor:
    """Take a batch out of a set with independent draws per image: flip, rotation, scale, shift, brightness, contrast.

    Returns:
        ``(B, C, H, W)`` float32 in 0 to 255.
    """
    device, size = images.device, len(index)
    batch = images[index].permute(0, 3, 1, 2).float()
    draw = torch.rand((7, size), generator=generator, device=device) * 2 - 1
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


def _take(images: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
    return images[index].permute(0, 3, 1, 2)


AUGMENTATIONS: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "none": _take,
    "light": flip_and_shift,
    "full": rotate_and_scale,
}
