"""Batches by whichever way is shortest: from the device, from a memory map, or from worker processes that decode."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .stream import Streamed

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

    The set lives on the device where it fits; else a batch is gathered and sent while the device works on the one
    before, out of a memory map, or out of what worker processes decode.

    Args:
        images: ``(M, H, W, C)`` uint8, possibly a memory map, or `Streamed`.
        row: ``(n,)`` where each of the part's samples stands in ``images``.
        target: ``(n,)`` their classes.
        device: where the model is.

    Attributes:
        resident: whether the set lives on the device.
        pixels: of an image, H x W.
        waiting: how long the device had nothing to do because the next batch was not there yet.
    """

    def __init__(
        self,
        images: NDArray[np.uint8] | Streamed,
        row: NDArray[np.int64],
        target: NDArray[np.int64],
        device: torch.device,
    ) -> None:
        """Copy the part to the device if it is another one and the part fits."""
        self.device = device
        self.target = torch.from_numpy(target.astype(np.int64)).to(device)
        self._row = torch.from_numpy(row.astype(np.int64))
        self._images = images if isinstance(images, Streamed) else torch.from_numpy(images)
        self.pixels = self._images.shape[1] * self._images.shape[2]
        self.resident = isinstance(self._images, Tensor) and device.type == "cpu"
        if isinstance(self._images, Tensor) and device.type == "cuda":
            size = len(row) * self._images[0].numel()
            if size < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
                self._images, self._row = self._images[self._row].to(device), torch.arange(len(row))
                self.resident = True
        self._row = self._row.to(device) if self.resident else self._row
        self.waiting = _Waiting(device)

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
            assert isinstance(self._images, Tensor)
            order = order.to(self.device)
            for index in order.split(batch_size):
                yield Batch(self._images, self._row[index], self.target[index])
            return
        batches = order.split(batch_size)
        # The thread takes a batch out and starts its copy while the device works on the one before.
        with ThreadPoolExecutor(1) as pool:
            pixels = self._pixels(batches)
            coming = pool.submit(next, pixels)
            for position, index in enumerate(batches):
                with self.waiting:
                    source = coming.result()
                if position + 1 < len(batches):
                    coming = pool.submit(next, pixels)
                yield Batch(source, torch.arange(len(index), device=self.device), self.target[index.to(self.device)])

    def _pixels(self, batches: tuple[Tensor, ...]) -> Iterator[Tensor]:
        """Yield the pixels of each batch on the device."""
        if isinstance(self._images, Streamed):
            found = self._images.take([self._row[index].numpy() for index in batches])
        else:
            images = self._images
            found = (images[self._row[index]] for index in batches)
        for pixels in found:
            pinned = pixels.pin_memory() if self.device.type == "cuda" and not pixels.is_pinned() else pixels
            yield pinned.to(self.device, non_blocking=True)


class _Waiting:
    """A clock that runs while the device has nothing to do in the block; the host of a GPU does not wait for it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds = 0.0
        self._open: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._begun: float | torch.cuda.Event = 0.0

    def __enter__(self) -> None:
        self._begun = self._now()

    def __exit__(self, *_: object) -> None:
        begun, ended = self._begun, self._now()
        if isinstance(begun, float):
            assert isinstance(ended, float)
            self._seconds += ended - begun
        else:
            assert not isinstance(ended, float)
            self._open.append((begun, ended))

    def pop_seconds(self) -> float:
        """Return the time since the last call; a GPU is waited for."""
        for begun, ended in self._open:
            ended.synchronize()
            self._seconds += begun.elapsed_time(ended) / 1000
        seconds, self._seconds, self._open = self._seconds, 0.0, []
        return seconds

    def _now(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        # The device comes by when it is done with all before: between two of them it had nothing to do.
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
