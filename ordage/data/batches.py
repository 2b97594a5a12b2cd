"""Batches without worker processes: the set lives on the device where it fits, else one batch ahead comes to it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Batch", "Batches"]

RESIDENT_SHARE = 0.5  # of the device's free memory that the images may take; the rest is the model's


@dataclass(frozen=True)
class Batch:
    """Where a batch's pixels are.

    Attributes:
        source: ``(M, H, W, C)`` uint8 on the device, the whole set or just the batch.
        index: ``(B,)`` which of them.
        target: ``(B,)`` classes.
    """

    source: Tensor
    index: Tensor
    target: Tensor


class Batches:
    """The samples of one part on a device.

    Args:
        images: ``(N, H, W, C)`` uint8, possibly a memory map.
        row: ``(n,)`` the part's rows in ``images``.
        target: ``(n,)`` their classes.
        device: where the model is.
    """

    def __init__(
        self, images: NDArray[np.uint8], row: NDArray[np.int64], target: NDArray[np.int64], device: torch.device
    ) -> None:
        """Copy the part to the device if it is another one and the part fits."""
        self.device = device
        self.target = torch.from_numpy(target.astype(np.int64)).to(device)
        self._row = torch.from_numpy(row.astype(np.int64))
        self._images = torch.from_numpy(images)
        size = len(row) * int(np.prod(images.shape[1:]))
        self.resident = device.type == "cpu"
        if device.type == "cuda" and size < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._images, self._row = torch.from_numpy(images[row]).to(device), torch.arange(len(row))
            self.resident = True
        self._row = self._row.to(device) if self.resident else self._row

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.target)

    def take(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        """Yield the samples ``order`` in batches; the last one holds what is left.

        Args:
            order: positions in this part, on the CPU.
            batch_size: samples in a batch.
        """
        if not len(order):  # an epoch that was interrupted after its last step; splitting would yield an empty batch
            return
        if self.resident:
            order = order.to(self.device)
            for index in order.split(batch_size):
                yield Batch(self._images, self._row[index], self.target[index])
            return
        with ThreadPoolExecutor(1) as pool:  # one batch is gathered and sent while the device works on the one before
            pending = None
            for index in order.split(batch_size):
                coming = pool.submit(self._send, index)
                if pending is not None:
                    yield pending.result()
                pending = coming
            if pending is not None:
                yield pending.result()

    def _send(self, index: Tensor) -> Batch:
        pixels = self._images[self._row[index]]
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        return Batch(
            pixels.to(self.device, non_blocking=True),
            torch.arange(len(index), device=self.device),
            self.target[index.to(self.device)],
        )
