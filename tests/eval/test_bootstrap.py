import math

import numpy as np
import pytest

from ordage.eval import bootstrap_means

SIMULATIONS = 600
# 95 % of 600 simulations, give or take 3.3 standard deviations: a right method leaves this in one run of a thousand.
LEAST, MOST = 0.92, 0.98


def _covered(simulate, truth):
    """Share of simulated sets whose interval holds the truth, and the intervals' mean width."""
    intervals = [simulate(np.random.default_rng(i)) for i in range(SIMULATIONS)]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    return covered, np.mean([interval.high - interval.low for interval in intervals])


def test_interval_of_a_mean_error_covers_the_truth():
    def simulate(rng):
        return bootstrap_means({"mae": np.abs(rng.normal(size=1000))}, n_resamples=500)["mae"]

    covered, _ = _covered(simulate, math.sqrt(2 / math.pi))

    assert 0.93 <= covered <= 0.97


def test_interval_of_a_share_covers_the_truth():
    def simulate(rng):
        return bootstrap_means({"accuracy": rng.random(300) < 0.4}, n_resamples=500)["accuracy"]

    covered, _ = _covered(simulate, 0.4)

    assert LEAST <= covered <= MOST


def _photographs(rng):
    """People who are easy or hard, with 1 to 9 pictures each."""
    subject = np.repeat(np.arange(80), rng.integers(1, 10, 80))
    return 5 + rng.normal(size=80)[subject] + 0.5 * rng.normal(size=len(subject)), subject


def test_interval_by_cluster_covers_the_truth_where_ignoring_the_clusters_does_not():
    def by_cluster(rng):
        errors, subject = _photographs(rng)
        return bootstrap_means({"mae": errors}, cluster=subject, n_resamples=500)["mae"]

    def by_sample(rng):
        return bootstrap_means({"mae": _photographs(rng)[0]}, n_resamples=500)["mae"]

    covered, width = _covered(by_cluster, 5)
    covered_by_sample, width_by_sample = _covered(by_sample, 5)

    assert LEAST <= covered <= MOST
    assert covered_by_sample < 0.8
    assert width > 1.5 * width_by_sample


def test_interval_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    values, cluster = rng.gamma(2, size=60), rng.integers(0, 20, 60)
    means = []
    for _ in range(4000):
        drawn = rng.choice(np.unique(cluster), 20)
        means.append(np.concatenate([values[cluster == c] for c in drawn]).mean())

    interval = bootstrap_means({"v": values}, cluster=cluster, n_resamples=20_000)["v"]

    assert interval.value == pytest.approx(values.mean())
    np.testing.assert_allclose((interval.low, interval.high), np.quantile(means, [0.025, 0.975]), rtol=0.02)


def test_statistics_share_their_resamples():
    values = np.random.default_rng(0).normal(size=50)

    intervals = bootstrap_means({"a": values, "b": 2 * values + 1}, n_resamples=300)

    assert intervals["b"].low == pytest.approx(2 * intervals["a"].low + 1)
    assert intervals["b"].high == pytest.approx(2 * intervals["a"].high + 1)


def test_unknown_values_are_left_out_of_their_own_statistic_alone():
    errors = np.array([1.0, math.nan, 3.0, math.nan])

    intervals = bootstrap_means({"mae": errors, "accuracy": [1, 1, 0, 0]}, n_resamples=200)

    assert intervals["mae"].value == 2
    assert 1 <= intervals["mae"].low <= intervals["mae"].high <= 3
    assert intervals["accuracy"].value == 0.5


def test_statistic_without_known_values_is_nan():
    interval = bootstrap_means({"mae": [math.nan, math.nan]}, n_resamples=50)["mae"]

    assert all(map(math.isnan, (interval.value, interval.low, interval.high)))


def test_single_cluster_has_no_interval():
    for values, cluster in (([1.0, 2.0], ["ann", "ann"]), ([1.0], None)):
        interval = bootstrap_means({"mae": values}, cluster=cluster, n_resamples=50)["mae"]

        assert interval.value == np.mean(values)
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)


def test_no_resamples_leave_the_mean_alone():
    interval = bootstrap_means({"mae": [1.0, 2.0]}, n_resamples=0)["mae"]

    assert interval.value == 1.5
    assert math.isnan(interval.low)


def test_same_seed_gives_the_same_interval_and_another_seed_another():
    values = {"v": np.random.default_rng(0).normal(size=500)}

    assert bootstrap_means(values, seed=3, n_resamples=100) == bootstrap_means(values, seed=3, n_resamples=100)
    assert bootstrap_means(values, seed=3, n_resamples=100) != bootstrap_means(values, seed=4, n_resamples=100)


def test_global_random_state_is_left_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()

    bootstrap_means({"v": [1.0, 2.0]}, n_resamples=10)

    assert np.random.get_state()[1].tolist() == before


def test_higher_confidence_gives_a_wider_interval():
    values = {"v": np.random.default_rng(0).normal(size=500)}
    narrow, wide = (bootstrap_means(values, confidence=c, n_resamples=1000)["v"] for c in (0.8, 0.99))

    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_clusters_may_be_names():
    values = np.random.default_rng(0).normal(size=6)

    by_name = bootstrap_means({"v": values}, cluster=["b", "a", "b", "c", "a", "c"], n_resamples=100)

    assert by_name == bootstrap_means({"v": values}, cluster=[1, 0, 1, 2, 0, 2], n_resamples=100)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"values": {}}, "at least one array"),
        ({"values": {"a": []}}, "at least one sample"),
        ({"values": {"a": [1.0, 2.0], "b": [1.0]}}, r"`values\['b'\]` of shape \(2,\)"),
        ({"values": {"a": [1.0]}, "cluster": [1, 2]}, r"`cluster` of shape \(1,\)"),
        ({"values": {"a": [1.0]}, "cluster": [math.nan]}, "`cluster` without NaN, but row 0"),
        ({"values": {"a": [1.0]}, "n_resamples": -1}, "`n_resamples` to be 0 or larger, but got -1"),
        ({"values": {"a": [1.0]}, "confidence": 95}, "`confidence` to be above 0 and below 1, but got 95"),
    ],
)
def test_invalid_arguments_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        bootstrap_means(**options)
