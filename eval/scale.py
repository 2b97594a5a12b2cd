"""The ordered classes that an age, or any other ordered quantity, is sorted into."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ._arrays import BoolArray, FloatArray, IntArray, first_row

# Texts come with hyphens, en and em dashes and minus signs.
_DASHES = "-\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}"
_NUMBER = rf"[{_DASHES}]?[0-9]+(?:\.[0-9]+)?"
_CLASS = re.compile(rf"({_NUMBER})\s*(?:(\+)|[{_DASHES}]\s*({_NUMBER}))?")


@dataclass(frozen=True)
class OrdinalScale:
    """K ordered classes, each an interval ``[low, high]`` in the unit as people write it.

    "0-10" holds the ages 0 to 10 and, for fractional ages, everything below the next class's start: 10.9 is still
    "0-10" where the next class is "11-20". The last class may be open (``high`` is infinite, written "91+"). A
    class without a width, such as a year or a grade, has ``low == high``. Order follows the value, never the text.

    Args:
        lows: Start of each class, ``(K,)`` in ``unit``, increasing.
        highs: End of each class, ``(K,)`` in ``unit``, included; the last may be infinite.
        values: Number that stands for each class, ``(K,)`` in ``unit``, increasing. Default: the midpoint; for an
            open last class its start plus half the width of the class before ("81-90,91+" gives 96).
        unit: What ages are counted in; empty for grades and stages.
        labels: Name of each class, ``(K,)``. Default: the interval as written, "0-10", "30" or "91+".

    Raises:
        ValueError: Fewer than two classes, classes that overlap or are out of order, an end below its start, or
            ``values`` or ``labels`` that do not fit.

    Example:
        >>> bins = OrdinalScale.parse("0-10, 11-20, 21+")
        >>> bins.labels, bins.values
        (('0-10', '11-20', '21+'), (5.0, 15.5, 26.0))
        >>> bins.class_of([10.9, 11, 70])
        array([0, 1, 2])
    """

    lows: tuple[float, ...]
    highs: tuple[float, ...]
    values: tuple[float, ...] = ()
    unit: str = "years"
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the classes and fill in what was left out."""
        lows, highs = _floats(self.lows), _floats(self.highs)
        _check_intervals(lows, highs)
        values = _floats(self.values) or _midpoints(lows, highs)
        labels = tuple(self.labels) or tuple(map(_write_interval, lows, highs))
        _check_values(values, len(lows))
        _check_labels(labels, len(lows))
        for name, value in (("lows", lows), ("highs", highs), ("values", values), ("labels", labels)):
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, text: str, *, unit: str = "years") -> Self:
        """The scale written as intervals with commas between: ``"0-10,11-20,…,91+"``.

        Spaces and en dashes are fine, and the order of the pieces does not matter.

        Args:
            text: Pieces such as "0-10", "30" and, for the last class only, "91+".
            unit: What the numbers count.

        Raises:
            ValueError: A piece cannot be read, ends below its start or overlaps another; the message names it.

        Example:
            >>> OrdinalScale.parse("0 - 2, 3-9, 10+").spec
            '0-2,3-9,10+'
        """
        intervals = sorted(_read_class(piece) for piece in text.split(","))
        return cls(tuple(low for low, _ in intervals), tuple(high for _, high in intervals), unit=unit)

    @classmethod
    def years(cls, low: int, high: int, *, open_last: bool = False) -> Self:
        """One class for each year from ``low`` to ``high``; with ``open_last`` the last one holds all later years.

        Example:
            >>> OrdinalScale.years(16, 19, open_last=True).labels
            ('16', '17', '18', '19+')
        """
        lows = tuple(range(low, high + 1))
        return cls(lows, (*lows[:-1], math.inf) if open_last else lows)

    @classmethod
    def tens(cls, max_age: float) -> Self:
        """The classes 0-10, 11-20, 21-30, … up to the one that holds ``max_age``, which is left open.

        Raises:
            ValueError: ``max_age`` is below 11, which leaves one class.

        Example:
            >>> OrdinalScale.tens(35).spec
            '0-10,11-20,21-30,31+'
        """
        return cls._of_starts((0, *range(11, math.floor(max_age) + 1, 10)), "max_age", max_age)

    @classmethod
    def equal_width(cls, width: int, max_age: float) -> Self:
        """Classes of ``width`` years from 0 up to the one that holds ``max_age``, which is left open.

        Raises:
            ValueError: ``width`` is below 1, or ``max_age`` below ``width``, which leaves one class.

        Example:
            >>> OrdinalScale.equal_width(5, 19).spec
            '0-4,5-9,10-14,15+'
        """
        if width < 1:
            raise ValueError(f"Expected `width` to be a whole number of at least 1, but got {width}.")
        return cls._of_starts(tuple(range(0, math.floor(max_age) + 1, width)), "max_age", max_age)

    @classmethod
    def equal_count(cls, count: int, youngest: int, oldest: int) -> Self:
        """``count`` classes of equal width, in whole years, over the ages from ``youngest`` to ``oldest``.

        Where the years do not divide evenly the widths differ by one. The last class is left open.

        Raises:
            ValueError: ``count`` is below 2, or there are fewer years than classes.

        Example:
            >>> OrdinalScale.equal_count(4, 0, 79).spec, OrdinalScale.equal_count(3, 16, 25).spec
            ('0-19,20-39,40-59,60+', '16-18,19-21,22+')
        """
        years = oldest - youngest + 1
        if not 2 <= count <= years:
            raise ValueError(f"Expected `count` to be 2 to {years}, the years that there are, but got {count}.")
        return cls._of_starts(tuple(youngest + k * years // count for k in range(count)), "oldest", oldest)

    @classmethod
    def from_intervals(cls, intervals: Iterable[tuple[float, float | None]], *, unit: str = "years") -> Self:
        """The distinct intervals of some data, in order of value.

        Args:
            intervals: Pairs ``(low, high)`` in ``unit``, in any order and as often as they occur; a ``high`` of
                None or infinity leaves the last class open.
            unit: What the numbers count.

        Raises:
            ValueError: Two different intervals overlap, or one ends below its start.

        Example:
            >>> OrdinalScale.from_intervals([(60, None), (8, 13), (0, 2), (8, 13)]).spec
            '0-2,8-13,60+'
        """
        distinct = sorted({(float(low), math.inf if high is None else float(high)) for low, high in intervals})
        return cls(tuple(low for low, _ in distinct), tuple(high for _, high in distinct), unit=unit)

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> Self:
        """A scale of named grades in the order given; each stands for its position 0, 1, 2, … and has no unit.

        Example:
            >>> OrdinalScale.from_labels(["none", "mild", "severe"]).values
            (0.0, 1.0, 2.0)
        """
        positions = tuple(range(len(labels)))
        return cls(positions, positions, unit="", labels=tuple(labels))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The scale that `to_dict` wrote.

        Raises:
            ValueError: A field is missing, or the classes are not a scale.
        """
        missing = sorted({"lows", "highs", "values", "unit", "labels"} - set(data))
        if missing:
            raise ValueError(f"Expected a scale with lows, highs, values, unit and labels, but {missing} are missing.")
        highs = tuple(math.inf if high is None else high for high in data["highs"])
        return cls(tuple(data["lows"]), highs, tuple(data["values"]), data["unit"], tuple(data["labels"]))

    def to_dict(self) -> dict[str, Any]:
        """The scale as JSON holds it; an open end is None.

        Example:
            >>> OrdinalScale.parse("0-17,18+").to_dict()["highs"]
            [17.0, None]
        """
        return {
            "lows": list(self.lows),
            "highs": [None if math.isinf(high) else high for high in self.highs],
            "values": list(self.values),
            "unit": self.unit,
            "labels": list(self.labels),
        }

    def __len__(self) -> int:
        """The number of classes K."""
        return len(self.lows)

    @property
    def num_classes(self) -> int:
        """The number of classes K."""
        return len(self.lows)

    @property
    def spec(self) -> str:
        """The intervals as `parse` reads them back; `to_dict` keeps the values, unit and labels as well."""
        return ",".join(map(_write_interval, self.lows, self.highs))

    @property
    def is_open(self) -> bool:
        """Whether the last class has no end."""
        return math.isinf(self.highs[-1])

    def class_of(self, ages: npt.ArrayLike) -> IntArray:
        """The class of each age; ages before the first or after the last class go to that edge class.

        An age in a gap between two classes goes to the one before it; `contains` tells such ages apart.

        Args:
            ages: ``(...)`` in ``unit``, none of them NaN.

        Returns:
            ``(...)`` classes in ``0 .. K - 1``.

        Raises:
            ValueError: An age is NaN.

        Example:
            >>> OrdinalScale.parse("18-29,30-39").class_of([3, 29.5, 30, 80])
            array([0, 0, 1, 1])
        """
        return np.searchsorted(self._starts[1:], _known("ages", ages), side="right").astype(np.int64, copy=False)

    def nearest(self, values: npt.ArrayLike) -> IntArray:
        """The class nearest to each predicted value: classes meet half way between an end and the next start.

        This is rounding where classes are years or grades: 30.7 on average is 31, although somebody aged 30.7 is
        in the class of 30.

        Args:
            values: ``(...)`` in ``unit``, none of them NaN.

        Returns:
            ``(...)`` classes in ``0 .. K - 1``.

        Raises:
            ValueError: A value is NaN.

        Example:
            >>> OrdinalScale.years(29, 31).nearest([29.4, 30.7])
            array([0, 2])
        """
        borders = (np.asarray(self.highs[:-1]) + np.asarray(self.lows[1:])) / 2
        return np.searchsorted(borders, _known("values", values), side="right").astype(np.int64, copy=False)

    def contains(self, ages: npt.ArrayLike) -> BoolArray:
        """Whether each age lies inside a class: not before the first, after the last, in a gap, or NaN.

        Args:
            ages: ``(...)`` in ``unit``.

        Returns:
            ``(...)`` booleans.

        Example:
            >>> OrdinalScale.parse("0-2,4-6").contains([2.9, 3, 6.9, 7])
            array([ True, False,  True, False])
        """
        array = np.asarray(ages, dtype=np.float64)
        known = np.where(np.isnan(array), -np.inf, array)
        inside = (known >= self._starts[0]) & (known < self._ends[self.class_of(known)])
        return np.asarray(inside, dtype=np.bool_)

    def with_values(self, ages: npt.ArrayLike, classes: npt.ArrayLike | None = None) -> Self:
        """The same classes, each standing for the mean of the training ages inside it.

        Args:
            ages: ``(N,)`` training ages in ``unit``; NaN where unknown.
            classes: ``(N,)`` their classes where the data gives them; by default `class_of` the age.

        Returns:
            A scale whose ``values`` are those means, and the default value for a class without ages.

        Raises:
            ValueError: ``classes`` does not fit ``ages``.

        Example:
            >>> OrdinalScale.parse("0-10,11-20").with_values([2, 4, 4.5, 40]).values
            (3.5, 15.5)
        """
        array = np.asarray(ages, dtype=np.float64)
        inside = self.contains(array)
        own = self.class_of(np.where(inside, array, self.lows[0]))
        if classes is not None:
            given = np.asarray(classes)
            if given.shape != array.shape:
                raise ValueError(f"Expected `classes` of shape {array.shape} as `ages`, but got {given.shape}.")
            inside &= given == own
        totals = np.bincount(own[inside], weights=array[inside], minlength=len(self))
        counts = np.bincount(own[inside], minlength=len(self))
        means = np.where(counts > 0, totals / np.maximum(counts, 1), _midpoints(self.lows, self.highs))
        return replace(self, values=tuple(means.tolist()))

    def mapping_to(self, coarse: "OrdinalScale") -> IntArray:
        """The class of ``coarse`` that each class of this scale belongs to.

        As in `class_of`, the edge classes of ``coarse`` take what lies beyond them: "100+" belongs to "91-100".

        Args:
            coarse: A scale in the same unit, none of whose borders cuts a class of this one.

        Returns:
            ``(K,)`` classes of ``coarse``, non-decreasing.

        Raises:
            ValueError: A class reaches into two classes of ``coarse``, or the units differ.

        Example:
            >>> OrdinalScale.years(8, 12).mapping_to(OrdinalScale.parse("0-10,11-20"))
            array([0, 0, 0, 1, 1])
        """
        if self.unit != coarse.unit:
            raise ValueError(f"Expected a coarser scale in {self.unit!r}, but its unit is {coarse.unit!r}.")
        first, last = coarse.class_of(self.lows), coarse.class_of(self.highs)
        cut = first != last
        if cut.any():
            k = first_row(cut)
            raise ValueError(
                f"Expected bins that leave every class whole, but '{_write_interval(self.lows[k], self.highs[k])}' "
                f"reaches from '{coarse.labels[first[k]]}' into '{coarse.labels[last[k]]}'."
            )
        return first

    def coarsen(self, probs: npt.ArrayLike, coarse: "OrdinalScale", *, log: bool = False) -> FloatArray:
        """Class probabilities summed into the classes of a coarser scale.

        Args:
            probs: ``(..., K)`` probabilities; log-probabilities with ``log``.
            coarse: A scale of K' classes that `mapping_to` accepts.
            log: Whether ``probs`` are, and the result shall be, logarithms; they are summed without leaving log
                space, so very unlikely classes keep their precision.

        Returns:
            ``(..., K')`` of the same floating type; 0 (log: minus infinity) where nothing belongs to a class.

        Raises:
            ValueError: ``probs`` does not have K columns, or `mapping_to` refuses.

        Example:
            >>> bins = OrdinalScale.parse("0-1,2+")
            >>> OrdinalScale.years(0, 3).coarsen([0.1, 0.2, 0.3, 0.4], bins).round(6)
            array([0.3, 0.7])
        """
        array = np.asarray(probs)
        if array.dtype.kind != "f":
            array = array.astype(np.float64)
        if array.ndim < 1 or array.shape[-1] != len(self):
            raise ValueError(f"Expected `probs` of shape (..., {len(self)}), but got {array.shape}.")
        # A class of `coarse` that receives nothing must stay empty: reduceat would copy its neighbour into it.
        present, starts = np.unique(self.mapping_to(coarse), return_index=True)
        total = np.full((*array.shape[:-1], len(coarse)), -np.inf if log else 0.0, dtype=array.dtype)
        if log:
            # Rounding may push the logarithm of a certain class above 0, which is no probability.
            total[..., present] = np.minimum(np.logaddexp.reduceat(array, starts, axis=-1), 0)
        else:
            total[..., present] = np.add.reduceat(array, starts, axis=-1)
        return total

    @classmethod
    def _of_starts(cls, starts: tuple[int, ...], name: str, value: float) -> Self:
        if len(starts) < 2:
            raise ValueError(f"Expected `{name}` to reach a second class, but got {value}: use narrower classes.")
        return cls(starts, (*(start - 1 for start in starts[1:]), math.inf))

    @cached_property
    def _starts(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.lows, dtype=np.float64)

    @cached_property
    def _ends(self) -> npt.NDArray[np.float64]:
        """Where each class stops for fractional ages, excluded: after its last whole year, or at the next class."""
        highs = np.asarray(self.highs, dtype=np.float64)
        return np.asarray(np.minimum(np.floor(highs) + 1, [*self.lows[1:], math.inf]))


def _floats(numbers: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(number) for number in numbers)


def _known(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    unknown = np.isnan(array)
    if unknown.any():
        raise ValueError(f"Expected `{name}` without NaN, but entry {first_row(unknown.ravel())} is NaN.")
    return array


def _write_number(number: float) -> str:
    return np.format_float_positional(number, trim="-")


def _write_interval(low: float, high: float) -> str:
    if math.isinf(high):
        return f"{_write_number(low)}+"
    return _write_number(low) if low == high else f"{_write_number(low)}-{_write_number(high)}"


def _read_class(piece: str) -> tuple[float, float]:
    came = piece.strip()
    match = _CLASS.fullmatch(came)
    if match is None:
        raise ValueError(f"Expected each class as '0-10', '30' or '91+' with commas between, but got {came!r}.")
    start, plus, end = match.groups()
    low = _read_number(start)
    high = math.inf if plus else _read_number(end or start)
    if high < low:
        raise ValueError(f"Expected each class to end at or after its start, but got {came!r}.")
    return low, high


def _read_number(text: str) -> float:
    size = float(text.lstrip(_DASHES))
    return size if text[0].isdigit() else -size


def _check_intervals(lows: tuple[float, ...], highs: tuple[float, ...]) -> None:
    if len(lows) != len(highs):
        raise ValueError(f"Expected as many `highs` as `lows`, but got {len(highs)} and {len(lows)}.")
    if len(lows) < 2:
        raise ValueError(f"Expected a scale of at least 2 classes, but got {len(lows)}.")
    for low, high in zip(lows, highs, strict=True):
        if not math.isfinite(low) or math.isnan(high):
            raise ValueError(f"Expected every class to start at a number, but got [{low}, {high}].")
        if high < low:
            raise ValueError(f"Expected each class to end at or after its start, but got [{low:g}, {high:g}].")
    for k in range(1, len(lows)):
        if lows[k] <= highs[k - 1]:
            before, after = _write_interval(lows[k - 1], highs[k - 1]), _write_interval(lows[k], highs[k])
            raise ValueError(
                f"Expected increasing classes that do not overlap, but '{after}' comes after '{before}' "
                f"and starts at {_write_number(lows[k])}."
            )


def _check_values(values: tuple[float, ...], num_classes: int) -> None:
    if len(values) != num_classes:
        raise ValueError(f"Expected one of `values` for each of {num_classes} classes, but got {len(values)}.")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"Expected finite `values`, but got {values}.")
    for before, after in pairwise(values):
        if after <= before:
            raise ValueError(f"Expected `values` to increase with the classes, but {after:g} follows {before:g}.")


def _check_labels(labels: tuple[str, ...], num_classes: int) -> None:
    if len(labels) != num_classes:
        raise ValueError(f"Expected one of `labels` for each of {num_classes} classes, but got {len(labels)}.")
    seen: set[str] = set()
    for label in labels:
        if not isinstance(label, str) or not label or label in seen:
            raise ValueError(f"Expected `labels` to be different names, but got {label!r} among {list(labels)}.")
        seen.add(label)


def _midpoints(lows: tuple[float, ...], highs: tuple[float, ...]) -> tuple[float, ...]:
    middles = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
    if math.isinf(highs[-1]):
        # "81-90" is ten years wide as people count, so "91+" stands for 96.
        middles[-1] = lows[-1] + (highs[-2] - lows[-2] + 1) / 2
    return tuple(middles)
