"""The images that somebody names for prediction: files, folders, patterns, tables, arrays, or a list on stdin."""

from __future__ import annotations

import glob
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .data.layouts.arrays import load_arrays
from .data.layouts.table import image_column, image_root, load
from .data.manifest import IMAGE_SUFFIXES, image_files
from .errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Images", "gather"]

TABLES = (".csv", ".tsv", ".parquet", ".pq")


@dataclass(frozen=True)
class Images:
    """Images by name, none of them read yet.

    Attributes:
        names: what each is called in the answers: the path as it was given, or the place in an array.
        pixels: ``(N, H, W)`` or ``(N, H, W, C)`` uint8 where they are an array; else the names are paths.
    """

    names: list[str]
    pixels: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.names)

    def read(self, row: int) -> bytes:
        """Return the bytes of an image file.

        Raises:
            OSError: they cannot be had.
        """
        return Path(self.names[row]).read_bytes()

    def open(self, row: int) -> Image.Image:
        """Return an image as it is."""
        if self.pixels is None:
            return Image.open(self.names[row])
        pixels = np.asarray(self.pixels[row])
        return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def gather(arguments: Sequence[str], *, image_col: str | None = None) -> list[Images]:
    """Find the images that are named; those of arrays apart, all others together.

    Args:
        arguments: files, folders (searched to any depth), patterns with ``*``, tables with a column of image paths,
            ``.npz`` and ``.npy`` arrays, or ``-`` for a path a line on stdin.
        image_col: the column of a table; found by its name without.

    Raises:
        OrdageError: nothing there, or a table or an array that cannot be read.
    """
    paths: list[str] = []
    arrays: list[Images] = []
    for argument in arguments:
        if Path(argument).suffix.lower() in (".npz", ".npy") and Path(argument).is_file():
            arrays += _of_arrays(Path(argument))
        else:
            paths += _paths(argument, image_col)
    # The same image named twice is one image.
    return [*([Images(list(dict.fromkeys(paths)))] if paths else []), *arrays]


def _paths(argument: str, image_col: str | None) -> Iterable[str]:
    path = Path(argument)
    if argument == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # a file name need not be text
        return [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    if path.is_dir():
        found = [str(file) for file in image_files(path)]
        if not found:
            raise DataError(f"{path}: no images in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return found
    if path.suffix.lower() in TABLES and path.is_file():
        return _of_table(path, image_col)
    if path.exists() or not glob.has_magic(argument):
        return [argument]  # what cannot be read becomes a row that says so
    matched = sorted(name for name in glob.glob(argument, recursive=True) if Path(name).is_file())
    if not matched:
        raise DataError(f"{argument}: no file matches")
    return matched


def _of_table(path: Path, image_col: str | None) -> Iterator[str]:
    table = load(path)
    table.rejected.check(len(table.frame) + len(table.rejected), allowed=False, source=str(path))
    names = table.frame[image_column(table, image_col)].str.strip().tolist()
    root = image_root(path, names, None)
    return (str(root / name.replace("\\", "/")) for name in names)


def _of_arrays(path: Path) -> list[Images]:
    found: list[Images] = []
    for name, array in load_arrays(path).items():
        images: Any = array
        if images.dtype == np.uint8 and images.ndim in (3, 4):
            if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3, 4):
                images = np.moveaxis(images, 1, -1)  # channels come first
            prefix = f"{path}:{name}" if path.suffix == ".npz" else str(path)
            found.append(Images([f"{prefix}[{row}]" for row in range(len(images))], images))
    if not found:
        raise DataError(f"{path}: no uint8 array (N, H, W) or (N, H, W, C) in it")
    return found
