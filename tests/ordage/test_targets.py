import math

import numpy as np
import pandas as pd
import pytest

from ordage.data.manifest import Manifest
from ordage.data.targets import choose_bins, choose_classes, class_of
from ordage.errors import UsageError
from ordage.eval import OrdinalScale


def manifest(pairs, scale=None):
    table = pd.DataFrame(pairs, columns=["low", "high"]).astype(float)
    table.insert(0, "id", [str(row) for row in range(len(table))])
    return Manifest(table=table, source="here", layout="csv", reason="", scale=scale)


def exact(*ages):
    return manifest([(age, age) for age in ages])


def test_without_bins_tens_go_as_far_as_the_ages():
    assert choose_bins(exact(3, 20, 47), None).spec == "0-10,11-20,21-30,31-40,41+"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("0-17,18+", "0-17,18+"),
        ("3", "3-17,18-32,33+"),
        ("width:20", "0-19,20-39,40+"),
        ("years", ",".join(map(str, range(3, 48)))),
        ("quantile:2", "3-19,20+"),
    ],
)
def test_bins_are_read_in_every_form(spec, expected):
    assert choose_bins(exact(3, 20, 47), spec).spec == expected


def test_quantile_bins_hold_equally_many():
    ages = np.random.default_rng(0).gamma(3, 12, 4000).astype(int)
    data = exact(*ages)

    counts = np.bincount(class_of(data, choose_bins(data, "quantile:8")), minlength=8)

    assert counts.max() - counts.min() < 250


def test_exact_ages_train_on_years_and_intervals_on_themselves():
    bins = OrdinalScale.parse("0-10,11-20,21+")
    intervals = manifest([(0, 10), (11, 20), (60, math.inf)])

    years = choose_classes(exact(3, 20, 47), bins, None)

    assert years.lows == tuple(range(48))
    assert years.mapping_to(bins).tolist() == [0] * 11 + [1] * 10 + [2] * 27
    assert choose_classes(exact(3, 20, 47), bins, "bins") is bins
    assert choose_bins(intervals, None).spec == "0-10,11-20,60+"
    with pytest.raises(UsageError, match="--train-on years"):
        choose_classes(intervals, bins, "years")


def test_an_interval_that_spans_two_bins_has_no_class():
    data = manifest([(0, 10), (5, 15), (21, 30), (21, math.inf)])

    assert class_of(data, OrdinalScale.parse("0-10,11-20,21+")).tolist() == [0, -1, 2, 2]
    assert class_of(data, OrdinalScale.parse("0-10,11-20,21-40,41+")).tolist() == [0, -1, 2, -1]


def test_an_age_in_no_bin_has_no_class():
    assert class_of(exact(3, 25, 35, 44, 70), OrdinalScale.parse("20-29,40-49")).tolist() == [-1, 0, -1, 1, -1]


def test_ages_below_eleven_are_judged_by_the_year():
    assert choose_bins(exact(1, 3, 5), None).spec == "1,2,3,4,5"


def test_bins_give_numbered_classes_their_intervals():
    data = manifest([(0, 0), (2, 2), (1, 1)], scale=OrdinalScale.from_labels(["0", "1", "2"]))

    assert class_of(data, OrdinalScale.parse("0-10,11-20,21+")).tolist() == [0, 2, 1]
    with pytest.raises(UsageError, match="expected 3 bins, one for each class of here, but got 2"):
        class_of(data, OrdinalScale.parse("0-10,11+"))
