"""What a model said about a set of samples, and what is true of them: all that evaluation needs."""

import json
import os
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ._arrays import BoolArray, IntArray, StrArray, as_classes, as_distribution, check_rows, first_row, row_blocks
from .scale import OrdinalScale

_FORMAT = "ordage.predictions/1"
# What a float32 softmax over a few hundred classes, or one computed in bfloat16 and stored later, may be off by.
_SUM_TOLERANCE = 1e-3
_OPTIONAL = ("subject", "violation", "age_std", "point")  # columns that may be None


@dataclass(frozen=True, eq=False)
class Predictions:
    """Class distributions of N samples over the K classes of a scale, with the truth beside them.

    Args:
        ids: ``(N,)`` names of the samples.
        log_probs: ``(N, K)`` natural logarithms of class probabilities, kept as float32; each row's exponentials
            sum to one.
        scale: The K classes.
        age: ``(N,)`` true ages in ``scale.unit``; NaN where only the class is known.
        target: ``(N,)`` true classes in ``0 .. K - 1``.
        subject: ``(N,)`` who each sample shows, or None; a sample whose subject is missing (empty, None, NaN)
            counts as a subject of its own.
        groups: Columns of shape ``(N,)`` to break results down by.
        meta: What JSON can hold about the run: ``loss``, ``seed``, ``paper_decoder`` ("mode", "median" or "mean",
            the rule of the loss's own paper), ``point_predictor`` (True where ``log_probs`` is a single value
            dressed up as a distribution, so that its likelihood means nothing).
        violation: ``(N,)`` whether the raw outputs P(y > k) increased somewhere, or None where that cannot occur.
        age_std: ``(N,)`` standard deviation of several people's guesses, of which ``age`` is the mean; NaN where
            unknown, or None.
        point: ``(N,)`` the answers of a model that gives no distributions, in ``scale.unit``; every decoder returns
            them as they are, and ``log_probs`` only tells their classes. None where ``log_probs`` is the answer.

    Raises:
        ValueError: A field has the wrong shape or type, or a row is no distribution; the message names the field
            and the first such row.

    Example:
        >>> scale = OrdinalScale.parse("0-17,18+")
        >>> said = Predictions(["a", "b"], np.log([[0.9, 0.1], [0.4, 0.6]]), scale, [3, np.nan], [0, 1])
        >>> len(said), said.probs.round(2).tolist()[1][1] > 0.5
        (2, True)
    """

    ids: StrArray
    log_probs: npt.NDArray[np.float32]
    scale: OrdinalScale
    age: npt.NDArray[np.float64]
    target: IntArray
    subject: StrArray | None = None
    groups: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    violation: BoolArray | None = None
    age_std: npt.NDArray[np.float64] | None = None
    point: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Turn every field into the array it is documented as, and check it."""
        log_probs = as_distribution("log_probs", self.log_probs).astype(np.float32, copy=False)
        if log_probs.shape[1] != len(self.scale):
            raise ValueError(
                f"Expected `log_probs` with {len(self.scale)} columns as `scale` has classes, "
                f"but got {log_probs.shape[1]}."
            )
        _check_distributions(log_probs)
        columns: dict[str, npt.NDArray[Any]] = {
            "ids": _as_text(self.ids),
            "age": _as_ages("age", self.age),
            "target": as_classes("target", self.target, len(self.scale)),
        }
        if self.subject is not None:
            columns["subject"] = _as_text(self.subject)
        if self.violation is not None:
            columns["violation"] = _as_flags(self.violation)
        if self.age_std is not None:
            columns["age_std"] = _as_ages("age_std", self.age_std)
        if self.point is not None:
            columns["point"] = _as_ages("point", self.point)
            if np.isnan(columns["point"]).any():
                row = first_row(np.isnan(columns["point"]))
                raise ValueError(f"Expected `point` without NaN, but row {row} is NaN.")
        groups = {str(name): _as_group(column) for name, column in self.groups.items()}
        for name, column in [*columns.items(), *((f"groups[{name!r}]", column) for name, column in groups.items())]:
            check_rows(name, column, "log_probs", len(log_probs))
        _check_json(self.meta)
        for name, value in {**columns, "log_probs": log_probs, "groups": groups, "meta": dict(self.meta)}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_probs(
        cls,
        probs: npt.ArrayLike,
        scale: OrdinalScale,
        *,
        age: npt.ArrayLike | None = None,
        target: npt.ArrayLike | None = None,
        ids: npt.ArrayLike | None = None,
        **fields: Any,
    ) -> Self:
        """Predictions from class probabilities, as any other library's model gives them.

        Args:
            probs: ``(N, K)`` probabilities.
            scale: The K classes.
            age: ``(N,)`` true ages; unknown where left out.
            target: ``(N,)`` true classes; left out, they are the classes of the ages.
            ids: ``(N,)`` names; left out, the row numbers.
            **fields: ``subject``, ``groups``, ``meta``, ``violation`` and ``age_std`` as in the class.

        Raises:
            ValueError: A probability is negative or NaN, or neither ``age`` nor ``target`` is given.

        Example:
            >>> said = Predictions.from_probs([[0.9, 0.1]], OrdinalScale.parse("0-17,18+"), age=[3])
            >>> said.target
            array([0])
        """
        array = as_distribution("probs", probs)
        bad = ~(array >= 0).all(axis=1)
        if bad.any():
            row = first_row(bad)
            raise ValueError(f"Expected `probs` to be 0 or larger and not NaN, but row {row} is {array[row]}.")
        if age is None and target is None:
            raise ValueError("Expected `age`, `target` or both to evaluate against, but got neither.")
        ages = np.full(len(array), np.nan) if age is None else np.asarray(age, dtype=np.float64)
        with np.errstate(divide="ignore"):
            log_probs = np.log(array)
        return cls(
            ids=np.arange(len(array)).astype(np.str_) if ids is None else np.asarray(ids),
            log_probs=log_probs.astype(np.float32, copy=False),
            scale=scale,
            age=ages,
            target=scale.class_of(ages) if target is None else np.asarray(target),
            **fields,
        )

    @classmethod
    def from_points(
        cls,
        point: npt.ArrayLike,
        scale: OrdinalScale,
        *,
        age: npt.ArrayLike,
        ids: npt.ArrayLike | None = None,
        meta: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Self:
        """Predictions of a model that answers with one number for each sample, as a regression does.

        Args:
            point: ``(N,)`` the answers in ``scale.unit``.
            scale: The bins to judge on; an answer belongs to the nearest.
            age: ``(N,)`` true ages.
            ids: ``(N,)`` names; left out, the row numbers.
            meta: As in the class.
            **fields: ``subject``, ``groups`` and ``age_std`` as in the class.

        Raises:
            ValueError: An answer or an age is NaN or infinite, or their numbers differ.

        Example:
            >>> said = Predictions.from_points([16.9, 30], OrdinalScale.parse("0-17,18+"), age=[18, 30])
            >>> said.probs.argmax(axis=1).tolist(), said.target.tolist()
            ([0, 1], [1, 1])
        """
        points, ages = _as_ages("point", point), _as_ages("age", age)
        check_rows("point", points, "age", len(ages))
        classes = scale.nearest(points)
        log_probs = np.full((len(points), len(scale)), -np.inf, dtype=np.float32)
        log_probs[np.arange(len(points)), classes] = 0
        return cls(
            ids=np.arange(len(points)).astype(np.str_) if ids is None else np.asarray(ids),
            log_probs=log_probs,
            scale=scale,
            age=ages,
            target=scale.class_of(ages),
            meta={**(meta or {}), "point_predictor": True},
            point=points,
            **fields,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The predictions that `save` wrote. Nothing is ever unpickled.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is not one that `save` wrote, or was changed since.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = dict(archive)
            header = json.loads(str(arrays.pop("header")))
            if header["format"] != _FORMAT:
                raise ValueError(f"its format is {header['format']!r}, not {_FORMAT!r}")
            groups = {name: arrays.pop(f"group_{i}") for i, name in enumerate(header["groups"])}
            fields = {name: arrays[name] for name in ("ids", "log_probs", "age", "target")}
            optional: dict[str, Any] = {name: arrays.get(name) for name in _OPTIONAL}
        # np.load returns a bare array, which is no context manager, for a file of one array: a TypeError.
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            name = os.fspath(path)
            raise ValueError(f"Expected {name!r} to be a file written by `Predictions.save`, but: {error}") from error
        return cls(
            **fields,
            scale=OrdinalScale.from_dict(header["scale"]),
            groups=groups,
            meta=header["meta"],
            **optional,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one ``.npz`` file, at once or not at all.

        Args:
            path: The file; one that exists is replaced.
        """
        header = {
            "format": _FORMAT,
            "scale": self.scale.to_dict(),
            "meta": self.meta,
            "groups": list(self.groups),
        }
        arrays: dict[str, npt.NDArray[Any]] = {
            "header": np.asarray(json.dumps(header, allow_nan=False)),
            "ids": self.ids,
            "log_probs": self.log_probs,
            "age": self.age,
            "target": self.target,
        }
        arrays |= {f"group_{i}": column for i, column in enumerate(self.groups.values())}
        optional = {name: getattr(self, name) for name in _OPTIONAL}
        arrays |= {name: column for name, column in optional.items() if column is not None}
        _write_atomically(Path(path), arrays)

    def __len__(self) -> int:
        """The number of samples N."""
        return len(self.log_probs)

    @property
    def probs(self) -> npt.NDArray[np.float32]:
        """``(N, K)`` class probabilities."""
        return np.exp(self.log_probs)

    @property
    def known_age(self) -> BoolArray:
        """``(N,)`` whether the true age, and not only the class, is known."""
        return np.isfinite(self.age)

    @property
    def clusters(self) -> IntArray | None:
        """``(N,)`` a number for each subject, or None; samples of unknown subject get one each."""
        if self.subject is None:
            return None
        codes = np.unique(self.subject, return_inverse=True)[1].astype(np.int64, copy=False)
        unknown = np.flatnonzero(self.subject == "")
        codes[unknown] = codes.max() + 1 + np.arange(len(unknown))
        return codes

    def on(self, scale: OrdinalScale) -> Self:
        """The same predictions on a coarser scale: probabilities summed, truth moved along.

        The true class is that of the age where it is known, so a sample beyond the edge of the finer scale still
        reaches its own bin.

        Raises:
            ValueError: A class of the present scale reaches into two of ``scale``.

        Example:
            >>> said = Predictions.from_probs([[0.2, 0.3, 0.5]], OrdinalScale.years(16, 18), age=[18])
            >>> said.on(OrdinalScale.parse("0-17,18+")).probs.round(2).tolist()
            [[0.5, 0.5]]
        """
        if scale == self.scale:
            return self
        target = self.scale.mapping_to(scale)[self.target]
        known = self.known_age
        target[known] = scale.class_of(self.age[known])
        log_probs = np.empty((len(self), len(scale)), dtype=np.float32)
        for rows in row_blocks(*self.log_probs.shape):
            log_probs[rows] = self.scale.coarsen(self.log_probs[rows], scale, log=True)
        return replace(self, log_probs=log_probs, scale=scale, target=target)

    def select(self, rows: npt.ArrayLike) -> Self:
        """The samples where the mask ``rows`` is True, or those with the row numbers ``rows``.

        Raises:
            ValueError: Nothing is selected, or a mask does not have N entries.

        Example:
            >>> said = Predictions.from_probs([[0.9, 0.1], [0.4, 0.6]], OrdinalScale.parse("0-17,18+"), age=[3, 30])
            >>> said.select(said.age > 18).ids.tolist()
            ['1']
        """
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_:
            check_rows("rows", chosen, "log_probs", len(self))
        if not (chosen.any() if chosen.dtype == np.bool_ else chosen.size):
            raise ValueError(f"Expected `rows` to select at least one of the {len(self)} samples, but got none.")
        names = ("ids", "log_probs", "age", "target", *_OPTIONAL)
        columns: dict[str, Any] = {name: getattr(self, name) for name in names}
        chosen_columns: dict[str, Any] = {
            name: None if column is None else column[chosen] for name, column in columns.items()
        }
        groups = {name: column[chosen] for name, column in self.groups.items()}
        return replace(self, groups=groups, **chosen_columns)


def _check_distributions(log_probs: npt.NDArray[np.float32]) -> None:
    for rows in row_blocks(*log_probs.shape):
        block = log_probs[rows]
        unknown = np.isnan(block).any(axis=1)
        if unknown.any():
            raise ValueError(f"Expected `log_probs` without NaN, but row {rows.start + first_row(unknown)} has one.")
        # An overflow of the exponential is an infinite sum, which is refused here.
        with np.errstate(over="ignore"):
            totals = np.exp(block).sum(axis=1)
        bad = ~(np.abs(totals - 1) <= _SUM_TOLERANCE)
        if bad.any():
            row = first_row(bad)
            raise ValueError(
                f"Expected the exponentials of each row of `log_probs` to sum to 1, but row {rows.start + row} "
                f"sums to {totals[row]:.6g}: give log-probabilities, neither logits nor probabilities."
            )


def _check_json(meta: Mapping[str, Any]) -> None:
    try:
        json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected `meta` to hold only what JSON can hold, but {error}.") from error


def _is_missing(value: object) -> bool:
    # None, NaN and pandas' own marks, told by their text so that pandas need not be imported.
    return value is None or (not isinstance(value, str) and str(value) in {"nan", "<NA>", "NaT"})


def _as_text(values: npt.ArrayLike) -> StrArray:
    array = np.asarray(values)
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    text = ["" if _is_missing(value) else str(value) for value in array.ravel().tolist()]
    return np.asarray(text, dtype=np.str_).reshape(array.shape)


def _as_group(values: npt.ArrayLike) -> npt.NDArray[Any]:
    array = np.asarray(values)
    # Any other kind (objects, bytes, dates) becomes text, which needs no pickle.
    return array if array.dtype.kind in "biufU" else _as_text(array)


def _as_ages(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    infinite = np.isinf(array)
    if infinite.any():
        raise ValueError(f"Expected `{name}` to be finite or NaN, but row {first_row(infinite.ravel())} is infinite.")
    return array


def _as_flags(values: npt.ArrayLike) -> BoolArray:
    array = np.asarray(values)
    if array.dtype != np.bool_:
        raise ValueError(f"Expected `violation` to hold booleans, but its dtype is {array.dtype}.")
    return array


def _write_atomically(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with partial.open("xb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
