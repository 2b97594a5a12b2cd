"""Splits: seeded, stratified by age bin, and exclusive: no person and no identical image on two sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..errors import DataError
from .manifest import PARTS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["SHARES", "clusters", "leaks", "read_splits", "split"]

SHARES: Mapping[str, float] = {"train": 0.7, "val": 0.1, "test": 0.2}


def clusters(*keys: ArrayLike) -> NDArray[np.int64]:
    """Number the groups of samples that must stay together: those that share a value of any key, however indirectly.

    Args:
        keys: ``(N,)`` arrays, such as subjects and content hashes.

    Returns:
        ``(N,)`` cluster numbers from 0.

    Example:
        >>> clusters(["ann", "bob", "ann", "eve"], ["x", "y", "z", "y"])
        array([0, 1, 0, 1])
    """
    columns = [np.unique(np.asarray(key), return_inverse=True)[1].reshape(-1) for key in keys]
    size = len(columns[0])
    offsets = np.cumsum([size, *(column.max(initial=-1) + 1 for column in columns)])
    rows = np.tile(np.arange(size), len(columns))
    nodes = np.concatenate([column + offset for column, offset in zip(columns, offsets, strict=False)])
    graph = coo_array((np.ones(len(rows), np.int8), (rows, nodes)), shape=(offsets[-1], offsets[-1]))
    labels = connected_components(graph, directed=False)[1][:size]
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)


def split(
    strata: NDArray[np.int64], cluster: NDArray[np.int64], shares: Mapping[str, float] = SHARES, *, seed: int
) -> NDArray[np.str_]:
    """Deal samples to parts, whole clusters at a time, each stratum in the same shares as nearly as that allows.

    Clusters of several samples are dealt first, largest first, each to the part that lacks most of its strata; single
    samples then fill every stratum up.

    Args:
        strata: ``(N,)`` such as age bins, non-negative.
        cluster: ``(N,)`` cluster numbers, see `clusters`.
        shares: part names and their shares, which sum to one.
        seed: the same seed and samples in the same order give the same split.

    Returns:
        ``(N,)`` part names.
    """
    generator = np.random.default_rng(seed)
    names = np.array(list(shares))
    share = np.array(list(shares.values()))
    part = np.zeros(len(strata), np.int64)
    lacking = share[:, None] * np.bincount(strata)  # (parts, strata): how many samples each part still should get

    members = np.argsort(cluster, kind="stable")
    sizes = np.bincount(cluster)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    several = np.flatnonzero(sizes > 1)
    several = several[generator.permutation(len(several))]
    for unit in several[np.argsort(-sizes[several], kind="stable")]:
        rows = members[starts[unit] : starts[unit] + sizes[unit]]
        own = np.bincount(strata[rows], minlength=lacking.shape[1])
        # Relative to its share: a small part that lacks little in number may lack as much in proportion.
        choice = int(np.argmax((lacking @ own) / share))
        part[rows] = choice
        lacking[choice] -= own

    single = members[starts[sizes == 1]]
    single = single[generator.permutation(len(single))]
    single = single[np.argsort(strata[single], kind="stable")]
    for rows in np.split(single, np.flatnonzero(np.diff(strata[single])) + 1) if len(single) else []:
        wanted = np.clip(lacking[:, strata[rows[0]]], 0, None)
        wanted = wanted if wanted.sum() > 0 else share
        # A random start of the rounding keeps strata of one or two samples from always landing in the same part.
        ends = np.floor(np.cumsum(wanted) / wanted.sum() * len(rows) + generator.random()).astype(np.int64)
        part[rows] = np.searchsorted(np.minimum(ends[:-1], len(rows)), np.arange(len(rows)), side="right")
    return names[part]


def leaks(part: NDArray[np.str_], key: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Mark the samples whose key also stands in a later part, in the order train, val, test.

    Removing them makes a given split exclusive without touching its test part.

    Returns:
        ``(N,)`` true where the sample would leak.
    """
    order = pd.Series(pd.Categorical(part, PARTS).codes)
    return (order < order.groupby(key).transform("max")).to_numpy()


def read_splits(path: str, ids: pd.Series) -> NDArray[np.str_]:
    """Read ``splits.csv`` (columns id and part) for the samples ``ids``; a sample that is not in it gets ``""``.

    Raises:
        DataError: unreadable, columns missing, an unknown part, or no sample of ours in it.
    """
    try:
        table = pd.read_csv(Path(path), dtype=str, keep_default_na=False, encoding_errors="surrogateescape")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"--splits {path}: {' '.join(str(error).split())}") from None
    if not {"id", "part"} <= set(table.columns):
        raise DataError(f"--splits {path}: expected the columns id and part, but got {', '.join(table.columns)}")
    if wrong := sorted(set(table["part"]) - set(PARTS)):
        raise DataError(f"--splits {path}: expected parts {', '.join(PARTS)}, but got {wrong[0]!r}")
    part = ids.map(table.drop_duplicates("id").set_index("id")["part"]).fillna("").to_numpy(np.str_)
    if not (part != "").any():
        raise DataError(
            f"--splits {path}: none of its {len(table)} ids is a sample of this data, such as {ids.iat[0]!r}"
        )
    return part
