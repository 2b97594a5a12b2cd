"""Work that does not fit into a device's memory at once is done in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from .errors import MissingError

__all__ = ["clear_device_cache", "in_pieces", "should_reduce_batch_size"]

T = TypeVar("T")


def in_pieces(work: Callable[[int], T], pieces: int, most: int) -> tuple[T, int]:
    """Do ``work`` in as few pieces as memory allows: twice as many whenever it runs out.

    Args:
        work: takes the number of pieces; is called again from its start.
        pieces: to begin with.
        most: pieces that there can be.

    Returns:
        What ``work`` returned, and in how many pieces it was done.

    Raises:
        MissingError: memory does not suffice for the smallest pieces.
    """
    while True:
        try:
            return work(pieces), pieces
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
        # Here, not in the handler: the error's traceback keeps what was being computed.
        clear_device_cache(garbage_collection=True)
        if 2 * pieces > most:
            smaller = "--batch-size, " if most < 2 else ""
            raise MissingError(f"the device's memory does not suffice; take a smaller {smaller}--img-size or --model")
        pieces *= 2
