"""Where the bytes of a manifest's images come from, one row at a time."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from typing import Protocol

__all__ = ["Contents", "Files"]


class Contents(Protocol):
    """Encoded images by row. What implements it goes to worker processes, so it has to be picklable."""

    def __len__(self) -> int:
        """Return how many there are."""

    def read(self, row: int) -> bytes:
        """Return the bytes of one image file.

        Raises:
            OSError: they cannot be had.
        """

    def name(self, row: int) -> str:
        """Return what a user knows an image by."""

    def stamp(self) -> str | None:
        """Return what changes whenever a content may have changed, without reading any; ``None`` if nothing does."""


class Files:
    """Image files by their paths."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Keep the paths, one a row."""
        self.paths = list(paths)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.paths)

    def read(self, row: int) -> bytes:
        """Return the bytes of a file."""
        path = self.paths[row]
        if not stat.S_ISREG(os.stat(path).st_mode):  # a device or a pipe might never end
            raise OSError("not a file")
        with open(path, "rb") as file:
            return file.read()

    def name(self, row: int) -> str:
        """Return the path of a file."""
        return self.paths[row]

    def stamp(self) -> str:
        """Return a hash of all paths, sizes and times of change."""
        digest = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            try:
                status = os.stat(path)
                about = f"\0{path}\0{status.st_size}\0{status.st_mtime_ns}\0{os.access(path, os.R_OK)}"
            except (OSError, ValueError):  # ValueError: a path with a NUL
                about = f"\0{path}\0missing"
            digest.update(about.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
