"""Work on many rows by all cores, in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_order"]

CHUNK = 64  # rows that a worker does between two reports
AHEAD = 4  # chunks a worker may be ahead of the one that is taken

T = TypeVar("T")


def in_order(work: Callable[[range], T], size: int) -> Iterator[T]:
    """Yield what ``work`` makes of every chunk of rows, in their order, made by all cores a few chunks ahead.

    Threads, not processes: Pillow, simplejpeg and torch work outside the interpreter's lock, and nothing is copied.
    """
    workers = os.cpu_count() or 1
    chunks = (range(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK))
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[T]] = deque()
        try:
            for rows in chunks:
                pending.append(pool.submit(work, rows))
                if len(pending) > AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
