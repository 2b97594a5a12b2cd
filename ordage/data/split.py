"""Splits: seeded, stratified by age bin, and exclusive: no person and no identical image on two sides."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..errors import DataError, UsageError
from .manifest import PARTS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["SHARES", "clusters", "leaks", "make_folds", "parts_of_folds", "read_splits", "split"]

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


def make_folds(strata: NDArray[np.int64], cluster: NDArray[np.int64], folds: int, *, seed: int) -> NDArray[np.int64]:
    """Deal samples to folds of the same size, whole clusters at a time, see `split`.

    Returns:
        ``(N,)`` folds from 0.
    """
    shares = {str(fold): 1 / folds for fold in range(folds)}
    return split(strata, cluster, shares, seed=seed).astype(np.int64)


def parts_of_folds(fold: NDArray[np.int64], tested: int) -> NDArray[np.str_]:
    """Return the part of each sample when one fold is tested: the fold before it validates, all others train.

    Args:
        fold: ``(N,)`` from 0 to K - 1, K at least 3.
        tested: which fold is the test part.

    Raises:
        UsageError: there is no such fold.

    Example:
        >>> parts_of_folds(np.array([0, 1, 2, 3]), tested=0)
        array(['test', 'train', 'train', 'val'], dtype='<U5')
    """
    count = int(fold.max()) + 1
    if tested >= count:
        raise UsageError(f"--fold {tested}: there are {count} folds, 0 to {count - 1}")
    return _by_folds(fold, [tested], [(tested - 1) % count])


def _by_folds(fold: NDArray[np.int64], test: Sequence[int], val: Sequence[int]) -> NDArray[np.str_]:
    return np.where(np.isin(fold, test), "test", np.where(np.isin(fold, val), "val", "train"))


def leaks(part: NDArray[np.str_], key: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Mark the samples whose key also stands in a later part, in the order train, val, test.

    Removing them makes a given split exclusive without touching its test part.

    Returns:
        ``(N,)`` true where the sample would leak.
    """
    order = pd.Series(pd.Categorical(part, PARTS).codes)
    return (order < order.groupby(key).transform("max")).to_numpy()


def read_splits(path: str, ids: pd.Series, fold: int = 0) -> NDArray[np.str_]:
    """Read the parts of the samples ``ids`` from a file; a sample that is not in it gets ``""``.

    Args:
        path: ``splits.csv`` (columns id and part), or a JSON file of the Facial-Age-Estimation-Benchmark.
        ids: ``(N,)`` the samples.
        fold: which of the benchmark's splits.

    Raises:
        DataError: unreadable, columns missing, an unknown part, or no sample of ours in it.
        UsageError: the benchmark has no such split.
    """
    known = _benchmark_parts(path, fold) if path.lower().endswith(".json") else _csv_parts(path)
    part = _match(ids, known)
    if not (part != "").any():
        raise DataError(
            f"--splits {path}: none of its {len(known)} ids is a sample of this data, such as {ids.iat[0]!r}"
        )
    return part


def _csv_parts(path: str) -> dict[str, str]:
    try:
        table = pd.read_csv(Path(path), dtype=str, keep_default_na=False, encoding_errors="surrogateescape")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"--splits {path}: {' '.join(str(error).split())}") from None
    if not {"id", "part"} <= set(table.columns):
        raise DataError(f"--splits {path}: expected the columns id and part, but got {', '.join(table.columns)}")
    if wrong := sorted(set(table["part"]) - set(PARTS)):
        raise DataError(f"--splits {path}: expected parts {', '.join(PARTS)}, but got {wrong[0]!r}")
    table = table.drop_duplicates("id")
    return dict(zip(table["id"], table["part"], strict=True))


# The first folder that each of the benchmark's five splits tests; the two before are for validation.
BENCHMARK_TESTS = (8, 0, 2, 3, 4)


def _benchmark_parts(path: str, fold: int) -> dict[str, str]:
    """Read image paths and folders of the benchmark (Paplhám, Franc, CVPR 2024), and deal its split ``fold``.

    Sets of ten folders are tested on two of them and validated on the two before; sets of three have one for training,
    validation and test each.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        names = [str(entry["img_path"]) for entry in content]
        folder = np.array([int(entry["folder"]) for entry in content])
    except (OSError, ValueError) as error:
        raise DataError(f"--splits {path}: {' '.join(str(error).split())}") from None
    except (TypeError, KeyError):
        raise DataError(f"--splits {path}: expected a list of entries with img_path and folder") from None
    if not names or folder.min() < 0:
        raise DataError(f"--splits {path}: expected entries in folders from 0")
    if int(folder.max()) == 9:
        if fold >= len(BENCHMARK_TESTS):
            raise UsageError(f"--fold {fold}: the benchmark has the splits 0 to {len(BENCHMARK_TESTS) - 1}")
        first = BENCHMARK_TESTS[fold]
        part = _by_folds(folder, [first, first + 1], [(first - 2) % 10, (first - 1) % 10])
    elif int(folder.max()) == 2:
        part = np.array(PARTS)[folder]
    else:
        part = parts_of_folds(np.unique(folder, return_inverse=True)[1].reshape(-1).astype(np.int64), fold)
    return dict(zip(names, part.tolist(), strict=True))


def _match(ids: pd.Series, known: Mapping[str, str]) -> NDArray[np.str_]:
    """Return what is known of each id: by the id itself, else by the longest end of a path that both share.

    The benchmark's paths begin with a folder of its own, so the name decides where it is the only one of its kind.
    """
    direct = ids.map(known).fillna("").to_numpy(np.str_).astype("<U5")
    if (direct != "").any():
        return direct
    depth = int(ids.str.count("/").min())
    for pieces in range(depth + 1, 0, -1):
        ends: dict[str, str] = {}
        for name, part in known.items():
            end = "/".join(name.replace("\\", "/").split("/")[-pieces:])
            ends[end] = part if end not in ends else ""  # two of the same name: neither can be told
        own = ids.map(lambda sample, pieces=pieces: "/".join(sample.split("/")[-pieces:]))
        found = own.map(ends).fillna("").to_numpy(np.str_).astype("<U5")
        found[own.duplicated(keep=False).to_numpy()] = ""
        if (found != "").any():
            return found
    return direct
