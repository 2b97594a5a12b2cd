"""Several nets of one kind that are trained side by side, each on its own, and answer together.

Deep ensembles (Lakshminarayanan, Pritzel and Blundell, NeurIPS 2017) in one model: what one net learns by heart another
does not, so the mean of their logits errs less than any of them. Joined at the logits, not at the features: members
that were trained as one would learn as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["BackboneMembers", "HeadMembers"]


class BackboneMembers(nn.Module):
    """Backbones side by side: ``(N, C, H, W)`` images to ``(N, M, F)`` features."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """Take M backbones."""
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Ask each."""
        return torch.stack([member(images) for member in self.members], dim=1)


class HeadMembers(nn.Module):
    """Heads side by side, each on its own backbone: ``(N, M, F)`` features to ``(N, M, out_features)`` logits."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """Take M heads."""
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, features: Tensor) -> Tensor:
        """Ask each."""
        return torch.stack([head(own) for head, own in zip(self.members, features.unbind(1), strict=True)], dim=1)
