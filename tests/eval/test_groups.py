import math

import numpy as np
import pytest

from ordage.eval import ConstantBaselines, OrdinalScale, Predictions, decades, evaluate

BINS = OrdinalScale.parse("0-10,11-20,21-30,31+")
YEARS = OrdinalScale.years(0, 45)


def predictions(rows=400, seed=0, error=4.0, **fields):
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 46, rows).astype(float)
    centre = age + rng.normal(size=rows) * error
    scores = np.exp(-np.abs(np.arange(46) - centre[:, None]) / 2)
    return Predictions.from_probs(scores / scores.sum(axis=1, keepdims=True), YEARS, age=age, **fields)


def test_each_groups_figures_are_those_of_its_samples_alone():
    said = predictions(groups={"gender": np.array(["f", "m", "m", ""] * 100)})

    table = evaluate(said, bins=BINS).groups["gender"]

    assert [(row.name, row.n) for row in table.rows] == [("f", 100), ("m", 200)]
    for row in table.rows:
        alone = evaluate(said.select(said.groups["gender"] == row.name), bins=BINS)
        assert row.bin_accuracy.value == pytest.approx(alone.headline.bin_accuracy.value)
        assert row.off_by_one_accuracy.value == pytest.approx(alone.headline.off_by_one_accuracy.value)
        assert row.mae.value == pytest.approx(alone.headline.mae.value)
        assert row.bias.value == pytest.approx(alone.rest["bias"])
        assert row.mae.low < row.mae.value < row.mae.high


def test_decades_and_frequency_in_training_come_by_themselves():
    said = predictions()
    train = np.concatenate([np.repeat(np.arange(0, 20), 101), np.repeat(np.arange(20, 40), 20), np.arange(40, 46)])

    groups = evaluate(said, bins=BINS, baselines=ConstantBaselines.fit(BINS, age=train)).groups

    assert [row.name for row in groups["decade"].rows] == ["0-9", "10-19", "20-29", "30-39", "40-49"]
    counts = {row.name: row.n for row in groups["training images"].rows}
    assert counts == {
        "few (under 20)": (said.age >= 40).sum(),
        "many (over 100)": (said.age < 20).sum(),
        "medium (20 to 100)": ((said.age >= 20) & (said.age < 40)).sum(),
    }


def test_decades_of_fractional_missing_and_negative_ages():
    assert decades([0, 9.99, 10, 117, math.nan]).tolist() == ["0-9", "0-9", "10-19", "110-119", ""]
    assert decades([-0.5]).tolist() == ["-10--1"]


def test_groups_that_are_numbers_are_in_their_order_and_columns_of_names_are_left_out():
    said = predictions(
        groups={
            "site": np.array([10, 9, 2, 1] * 100),
            "weight": np.linspace(1, 2, 400),
            "name": np.arange(400).astype(str),
            "same": np.full(400, "x"),
        }
    )

    groups = evaluate(said, bins=BINS, n_resamples=10).groups

    assert [row.name for row in groups["site"].rows] == ["1", "2", "9", "10"]
    assert set(groups) == {"site", "decade"}


def test_planted_gap_is_found_between_the_right_groups():
    easy, hard, tiny = predictions(300, 0, error=2), predictions(300, 1, error=7), predictions(10, 2, error=30)
    names = np.repeat(["easy", "hard", "tiny"], [300, 300, 10])
    said = Predictions.from_probs(
        np.concatenate([easy.probs, hard.probs, tiny.probs]),
        YEARS,
        age=[*easy.age, *hard.age, *tiny.age],
        groups={"kind": names},
    )

    table = evaluate(said).groups["kind"]

    assert [row.small for row in table.rows] == [False, False, True]
    assert (table.gap.worst, table.gap.best) == ("hard", "easy")
    errors = {row.name: row.mae.value for row in table.rows}
    assert table.gap.difference == pytest.approx(errors["hard"] - errors["easy"])
    assert 0 < table.gap.low < table.gap.difference < table.gap.high
    assert table.gap.p_value < 0.01


@pytest.mark.slow
def test_groups_without_a_difference_have_a_significant_gap_in_one_of_twenty_sets():
    names = np.array(["a", "b", "c", "d"] * 30)
    gaps = [
        evaluate(predictions(120, seed, groups={"g": names}), n_resamples=300).groups["g"].gap for seed in range(500)
    ]

    assert 0.03 <= np.mean([gap.p_value < 0.05 for gap in gaps]) <= 0.07
    # The interval of two groups chosen for being far apart leaves zero out much more often.
    assert np.mean([gap.low > 0 for gap in gaps]) > 0.1


def test_without_two_large_groups_there_is_no_gap():
    said = predictions(groups={"g": np.array(["large"] * 390 + ["tiny"] * 10)})

    assert evaluate(said, n_resamples=10).groups["g"].gap is None


def test_groups_are_resampled_by_subject():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 10)
    age = np.repeat(rng.integers(5, 40, 40), 10).astype(float)
    centre = age + np.repeat(rng.normal(size=40) * 5, 10)  # all images of a person err alike
    scores = np.exp(-np.abs(np.arange(46) - centre[:, None]) / 2)
    probs = scores / scores.sum(axis=1, keepdims=True)
    groups = {"g": np.array(["a", "b"])[people % 2]}
    alone = Predictions.from_probs(probs, YEARS, age=age, groups=groups)
    by_subject = Predictions.from_probs(probs, YEARS, age=age, groups=groups, subject=people.astype(str))

    def width(said):
        row = evaluate(said).groups["g"].rows[0]
        return row.mae.high - row.mae.low

    assert width(by_subject) > 2 * width(alone)
