"""Images that are too many to keep decoded: worker processes decode them whenever they are needed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..transforms import ImageSpec
    from .contents import Contents

__all__ = ["Streamed"]


class Streamed:
    """Distinct images that are decoded on demand.

    Args:
        contents: the encoded images.
        first: ``(M,)`` the row of ``contents`` that holds each distinct image.
        spec: how they are prepared.
    """

    def __init__(self, contents: Contents, first: NDArray[np.int64], spec: ImageSpec) -> None:
        """Keep what tells where the images are; nothing is read yet."""
        self._images = _Decoding(contents, first, spec)
        self._batches = _Batches()
        self._loader: DataLoader[Any] | None = None
        self.shape = (len(first), spec.size, spec.size, spec.chans)

    def take(self, batches: list[NDArray[np.int64]]) -> Iterator[Tensor]:
        """Yield the images of each batch of rows, ``(B, H, W, C)`` uint8, a few batches ahead.

        Raises:
            DataError: a file is no longer what it was when it was looked at first.
        """
        if self._loader is None:  # the processes start with the first use and stay for all epochs
            self._loader = DataLoader(
                self._images,
                batch_sampler=self._batches,
                num_workers=os.cpu_count() or 1,
                collate_fn=_tensor,
                worker_init_fn=_leave_interrupts_to_the_main_process,
                pin_memory=torch.cuda.is_available(),
                persistent_workers=True,
            )
        self._batches.rows = batches
        for images in self._loader:
            if isinstance(images, str):
                raise DataError(images)
            yield images


class _Batches(Sampler[list[int]]):
    """The batches of rows that are wanted next."""

    def __init__(self) -> None:
        self.rows: list[NDArray[np.int64]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class _Decoding(Dataset["NDArray[np.uint8] | str"]):
    """Pixels by rows; a reason where there are none, since an exception would arrive as a traceback in a string."""

    def __init__(self, contents: Contents, first: NDArray[np.int64], spec: ImageSpec) -> None:
        self._contents, self._first, self._spec = contents, first, spec

    def __len__(self) -> int:
        return len(self._first)

    def __getitems__(self, rows: list[int]) -> NDArray[np.uint8] | str:
        sources = self._first[rows].tolist()
        images = np.zeros((len(rows), self._spec.size, self._spec.size, self._spec.chans), np.uint8)
        found = self._spec.decode_into(images, range(len(rows)), lambda place: self._contents.read(sources[place]))
        for place, reason in found.items():
            if isinstance(reason, str):
                name = self._contents.name(sources[place])
                return f"{name}: was readable when the run began, but is not any more ({reason})"
        return images


def _tensor(images: Any) -> Tensor | str:  # what __getitems__ returned; the type of DataLoader knows of lists alone
    return images if isinstance(images, str) else torch.from_numpy(images)


def _leave_interrupts_to_the_main_process(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it saves the state first, and needs the batch it waits for
