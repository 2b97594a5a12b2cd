"""What training changes about its images: batched, with draws of each image's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name the whole field uses

__all__ = ["AUGMENTATIONS", "DRAWS", "erase", "flip_and_shift", "rotate_and_scale", "tone"]

DRAWS = 12  # random numbers for an image: four to erase, two for the tone, six for the geometry
GREY = 127.5  # the middle of the range, near what the nets' normalisation takes for zero


def flip_and_shift(images: Tensor, index: Tensor, draws: Tensor, *, shift: float = 0.08) -> Tensor:
    """Take a batch out of a set, each image flipped with probability 1/2 and moved by a whole number of pixels.

    One gather does all three, so that on a CPU augmentation costs no more than taking the batch. Uncovered pixels
    repeat the border.

    Args:
        images: ``(N, H, W, C)`` uint8, the whole set.
        index: ``(B,)`` which images.
        draws: ``(B, 3)`` uniform in [0, 1), each image's own.
        shift: largest move, as a share of the side.

    Returns:
        ``(B, C, H, W)`` uint8 in channels-last memory.
    """
    _, height, width, chans = images.shape
    device = images.device
    reach = round(shift * width)
    moves = (draws[:, :2, None] * (2 * reach + 1)).long().transpose(0, 1) - reach
    flip = draws[:, 2, None] < 0.5
    rows = (torch.arange(height, device=device) + moves[0]).clamp_(0, height - 1)
    columns = torch.arange(width, device=device)
    columns = (torch.where(flip, width - 1 - columns, columns) + moves[1]).clamp_(0, width - 1)
    pixels = ((index[:, None] * height + rows) * width)[:, :, None] + columns[:, None, :]
    # Three times as fast as three indices; and one byte a place is taken faster than selected.
    batch = images.take(pixels) if chans == 1 else images.reshape(-1, chans).index_select(0, pixels.view(-1))
    return batch.view(len(index), height, width, chans).permute(0, 3, 1, 2)


def rotate_and_scale(
    images: Tensor,
    index: Tensor,
    draws: Tensor,
    *,
    degrees: float = 12.0,
    scale: float = 0.1,
    shift: float = 0.08,
) -> Tensor:
    """Take a batch out of a set, each image flipped with probability 1/2 and moved, half of them turned and scaled.

    What is rotated is blurred, which a small face has no room for: a net that has seen nothing else knows sharp faces
    badly. So the other half keeps its pixels, moved by a whole number of them.

    Args:
        images: ``(N, H, W, C)`` uint8, the whole set.
        index: ``(B,)`` which images.
        draws: ``(B, 6)`` uniform in [0, 1), each image's own.
        degrees: largest rotation.
        scale: largest change of the scale, as a share of it.
        shift: largest move, as a share of the side.

    Returns:
        ``(B, C, H, W)`` float32 in 0 to 255.
    """
    batch = images[index].permute(0, 3, 1, 2).float()
    height, width = batch.shape[2:]
    draw = draws.T * 2 - 1
    turned = draw[5] < 0
    angle = draw[0] * (degrees * torch.pi / 180) * turned
    zoom = 1 + draw[1] * scale * turned
    mirror = torch.where(draw[2] < 0, -1.0, 1.0)
    right, down = draw[3] * shift * width, draw[4] * shift * height
    right, down = torch.where(turned, right, right.round()), torch.where(turned, down, down.round())
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    first = torch.stack((cos * mirror, -sin, right * 2 / width), -1)
    second = torch.stack((sin * mirror, cos, down * 2 / height), -1)
    grid = F.affine_grid(torch.stack((first, second), 1), list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp_(0, 255)


def tone(images: Tensor, draws: Tensor, *, brightness: float = 0.1, contrast: float = 0.2) -> Tensor:
    """Change the brightness and the contrast of each image.

    Args:
        images: ``(B, C, H, W)``, 0 to 255.
        draws: ``(B, 2)`` uniform in [0, 1), each image's own.
        brightness: largest change, as a share of the range.
        contrast: largest change, as a share of it.

    Returns:
        ``(B, C, H, W)`` float32 in 0 to 255.
    """
    images = images.float()
    centre = images.mean((1, 2, 3), keepdim=True)
    draw = (draws.T * 2 - 1)[..., None, None, None]
    gain = 1 + draw[1] * contrast
    # (images - centre) * gain + centre + offset, in one piece of memory
    return (images * gain).add_(centre * (1 - gain) + 255 * brightness * draw[0]).clamp_(0, 255)


def erase(images: Tensor, draws: Tensor, *, chance: float = 0.5, least: float = 0.15, most: float = 0.5) -> Tensor:
    """Paint a grey square over some of the images.

    Hides what a small net would otherwise learn by heart: DeVries and Taylor, "Improved regularization of
    convolutional neural networks with cutout", 2017; random sizes as in Zhong et al., "Random erasing", AAAI 2020.

    Args:
        images: ``(B, C, H, W)`` float, 0 to 255, in channels-last memory to be quick.
        draws: ``(B, 4)`` uniform in [0, 1), each image's own.
        chance: of an image to be painted on.
        least: side of the smallest square, as a share of the image's.
        most: side of the largest; its middle is anywhere in the image, so part of it may lie outside.

    Returns:
        ``(B, C, H, W)`` in channels-last memory; ``images`` themselves where they were.
    """
    count, chans, height, width = images.shape
    which, size, middles = draws[:, :1], draws[:, 1:2], draws[:, 2:]
    reach = torch.where(which < chance, (least + size * (most - least)) / 2, -1.0)

    def covered(axis: int, length: int) -> Tensor:
        pixels = (torch.arange(length, device=images.device) + 0.5) / length
        return ((pixels - middles[:, axis, None]).abs() <= reach).to(images.dtype)

    # Numbers and whole lines of pixels, because torch is slow on a CPU where it masks, and where channels are apart.
    lines = images.permute(0, 2, 3, 1).reshape(count, height, width * chans)
    columns = covered(1, width).repeat_interleave(chans, 1)
    lines.lerp_(lines.new_full((), GREY), covered(0, height)[:, :, None] * columns[:, None, :])
    return lines.view(count, height, width, chans).permute(0, 3, 1, 2)


def _none(images: Tensor, index: Tensor, draws: Tensor) -> Tensor:
    return images[index].permute(0, 3, 1, 2)


def _light(images: Tensor, index: Tensor, draws: Tensor) -> Tensor:
    return erase(tone(flip_and_shift(images, index, draws[:, 6:]), draws[:, 4:6]), draws[:, :4])


def _full(images: Tensor, index: Tensor, draws: Tensor) -> Tensor:
    return erase(tone(rotate_and_scale(images, index, draws[:, 6:]), draws[:, 4:6]), draws[:, :4])


# By the name of the option. Each takes ``(N, H, W, C)`` uint8, ``(B,)`` which of them and ``(B, DRAWS)`` uniform
# numbers, and returns ``(B, C, H, W)``. What is random comes from outside, so that an image is changed alike in
# whichever piece of a batch it is.
AUGMENTATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"none": _none, "light": _light, "full": _full}
