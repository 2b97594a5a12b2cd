"""Tiny images with an ordered class, drawn: the higher the class, the larger the disc, under noise."""

import torch
from torch import Tensor

CLASSES = 10


def draw(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return images ``(number, 3, 32, 32)`` and classes ``(number,)``, 0 to 9, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(CLASSES, (number,), generator=generator)
    centre = 12 + 8 * torch.rand(number, 2, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    distance = ((torch.stack([y, x]) - centre) ** 2).sum(1).sqrt()
    radius = 2 + classes[:, None, None]
    noise = torch.randn(number, 3, 32, 32, generator=generator)
    return (radius - distance).clamp(-1, 1)[:, None] + 0.5 * noise, classes
