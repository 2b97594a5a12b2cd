"""Near-identical images: the same picture, compressed, scaled or brightened anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SIMILAR", "near_groups"]

SIMILAR = 0.98  # correlation of two miniatures; above it all pairs looked at show one picture, from 0.97 on not all do
AXES = 16  # principal axes that candidates are looked up by
BLANK = 2.0  # standard deviation in grey levels below which a miniature shows nothing


def near_groups(thumbs: NDArray[np.uint8], *, similar: float = SIMILAR) -> NDArray[np.int64]:
    r"""Number the groups of images whose miniatures correlate at ``similar`` or more, however indirectly.

    Every pair is found: two unit vectors that correlate at r lie within :math:`\sqrt{2 - 2 r}` of each other, and
    closer still on a few principal axes, where a tree looks them up.

    Args:
        thumbs: ``(M, S, S)`` grey miniatures of distinct images.
        similar: the least correlation.

    Returns:
        ``(M,)`` group numbers from 0; an image that is like no other, or blank, is a group of its own.

    Example:
        >>> pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16)).astype(np.uint8)
        >>> brighter = np.minimum(pictures[:1].astype(int) + 9, 255).astype(np.uint8)
        >>> near_groups(np.concatenate([pictures, brighter]))
        array([0, 1, 2, 0])
    """
    size = len(thumbs)
    vectors = thumbs.reshape(size, -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1)
    shown = np.flatnonzero(length > BLANK * np.sqrt(vectors.shape[1]))
    vectors = vectors[shown] / length[shown, None]
    if len(shown) < 2:
        return np.arange(size)
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    places = vectors @ axes[:, -AXES:]
    reach = np.sqrt(2 - 2 * similar) * (1 + 1e-6)
    pairs = cKDTree(places).query_pairs(reach, output_type="ndarray")
    alike = [
        chunk[np.einsum("ij,ij->i", vectors[chunk[:, 0]], vectors[chunk[:, 1]]) >= similar]
        for chunk in np.array_split(pairs, max(1, len(pairs) // 100_000))  # so that many candidates take no memory
    ]
    first, second = shown[np.concatenate(alike)].T
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1]
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)
