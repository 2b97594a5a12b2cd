import itertools
import math

import numpy as np
import pytest
import scipy.stats

from ordage.eval import PairedDifference, holm, paired_bootstrap, verdict, wilcoxon_over_seeds

MINUS = "\N{MINUS SIGN}"
SIMULATIONS = 800


def _rejected(simulate, **options):
    """Share of simulated pairs of methods for which p < 0.05."""
    found = 0
    for i in range(SIMULATIONS):
        a, b, cluster = simulate(np.random.default_rng(i))
        found += paired_bootstrap(a, b, cluster, n_resamples=600, seed=i, **options).p_value < 0.05
    return found / SIMULATIONS


def test_equal_methods_are_found_different_in_one_of_twenty_sets():
    def simulate(rng):
        difficulty = rng.gamma(2, 2, 200)
        return difficulty + np.abs(rng.normal(size=200)), difficulty + np.abs(rng.normal(size=200)), None

    assert 0.03 <= _rejected(simulate) <= 0.07


def test_equal_methods_are_found_different_in_one_of_twenty_sets_of_clusters():
    def simulate(rng):
        subject = np.repeat(np.arange(60), 5)
        a, b = (rng.normal(size=60)[subject] + rng.normal(size=300) for _ in range(2))
        return a, b, subject

    assert 0.03 <= _rejected(simulate) <= 0.07


def test_ignoring_clusters_would_find_far_too_many_differences():
    def simulate(rng):
        subject = np.repeat(np.arange(60), 5)
        a, b = (rng.normal(size=60)[subject] + 0.5 * rng.normal(size=300) for _ in range(2))
        return a, b, None

    assert _rejected(simulate) > 0.2


@pytest.mark.parametrize("of_seeds", [0.0, 0.05, 0.5])
def test_equal_methods_over_five_seeds_are_found_different_in_one_of_twenty_sets(of_seeds):
    # From errors that differ by chance on each image alone to seeds that move all errors together.
    def simulate(rng):
        a, b = (
            rng.normal(scale=of_seeds, size=(5, 1)) + rng.normal(scale=0.7, size=200) + rng.normal(size=(5, 200))
            for _ in range(2)
        )
        return a, b, None

    assert 0.03 <= _rejected(simulate) <= 0.07


def test_seeds_that_differ_are_not_mistaken_for_a_difference_of_methods():
    rng = np.random.default_rng(0)
    seeds = np.array([-0.5, 0.6, 0.4, -0.3, 0.3])[:, np.newaxis]
    images = 0.01 * rng.normal(size=(5, 2000))

    one_seed = paired_bootstrap(5 + seeds[1] + images[1], np.full(2000, 5.0))
    all_seeds = paired_bootstrap(5 + seeds + images, np.full((5, 2000), 5.0))

    assert one_seed.p_value < 0.01
    assert all_seeds.p_value > 0.3


def test_planted_difference_is_found_where_pairing_is_what_reveals_it():
    rng = np.random.default_rng(0)
    difficulty = rng.gamma(2, 3, 1000)
    b = difficulty + rng.normal(scale=0.5, size=(5, 1000))
    a = difficulty + rng.normal(scale=0.5, size=(5, 1000)) - 0.2

    result = paired_bootstrap(a, b)

    assert scipy.stats.ttest_ind(a[0], b[0]).pvalue > 0.05
    assert result.difference == pytest.approx(-0.2, abs=0.05)
    assert result.low < -0.2 < result.high < 0
    assert result.p_value < 0.001
    assert (result.seeds, result.n) == (5, 1000)


def test_interval_covers_the_planted_difference():
    covered = 0
    for i in range(SIMULATIONS):
        rng = np.random.default_rng(i)
        result = paired_bootstrap(rng.gamma(2, size=150) + 0.3, rng.gamma(2, size=150), n_resamples=600)
        covered += result.low <= 0.3 <= result.high

    assert 0.93 <= covered / SIMULATIONS <= 0.97


def test_exchanged_methods_give_the_opposite_result():
    rng = np.random.default_rng(0)
    a, b = rng.gamma(2, size=(3, 100)), rng.gamma(2, size=(3, 100))

    one, other = paired_bootstrap(a, b), paired_bootstrap(b, a)

    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_value == pytest.approx(other.p_value)


def test_p_value_agrees_with_the_interval():
    rng = np.random.default_rng(0)
    for _ in range(50):
        result = paired_bootstrap(rng.normal(0.15, 1, 100), np.zeros(100), n_resamples=4000)

        assert (result.p_value < 0.05) == (result.low > 0 or result.high < 0) or result.p_value == pytest.approx(
            0.05, abs=0.002
        )


def test_one_row_of_seeds_is_the_same_as_none():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50), rng.normal(size=50)

    assert paired_bootstrap(a, b) == paired_bootstrap(a[np.newaxis], b[np.newaxis])


def test_identical_methods_do_not_differ():
    errors = np.random.default_rng(0).random((3, 40))

    assert paired_bootstrap(errors, errors) == PairedDifference(0, 0, 0, 1, seeds=3, n=40)


def test_mean_over_clusters_of_unequal_size_weighs_samples_alike():
    a = np.array([1.0, 1.0, 1.0, 5.0])

    assert paired_bootstrap(a, np.zeros(4), ["x", "x", "x", "y"]).difference == 2


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: paired_bootstrap([1, 2], [1]), r"of one shape, \(N,\) or \(S, N\), but got \(2,\) and \(1,\)"),
        (lambda: paired_bootstrap([], []), "of one shape"),
        (lambda: paired_bootstrap([1.0, math.nan], [1.0, 2.0]), "finite errors"),
        (lambda: paired_bootstrap([1.0], [2.0]), "at least 2 samples or clusters, but got 1"),
        (lambda: paired_bootstrap([1.0, 2.0], [2.0, 3.0], ["a", "a"]), "at least 2 samples or clusters, but got 1"),
        (lambda: paired_bootstrap([1.0, 2.0], [2.0, 3.0], ["a"]), r"`cluster` of shape \(2,\)"),
        (lambda: paired_bootstrap([1.0, 2.0], [2.0, 3.0], n_resamples=0), "`n_resamples` to be at least 1"),
        (lambda: paired_bootstrap([1.0, 2.0], [2.0, 3.0], confidence=1), "`confidence` to be above 0 and below 1"),
        (lambda: holm([0.1, 1.1]), "`p_values` between 0 and 1"),
        (lambda: holm([0.1, math.nan]), "`p_values` to hold finite numbers, but row 1"),
        (lambda: wilcoxon_over_seeds([1.0], [1.0, 2.0]), r"`scores_b` of shape \(1,\)"),
    ],
)
def test_invalid_arguments_are_refused(call, named):
    with pytest.raises(ValueError, match=named):
        call()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_holm_rejects_what_the_stepwise_procedure_rejects(count):
    rng = np.random.default_rng(count)
    for _ in range(200):
        p = rng.choice([0.001, 0.004, 0.01, 0.012, 0.02, 0.03, 0.05, 0.3], count)
        level = rng.uniform(0.001, 0.3)
        rejected = np.zeros(count, dtype=bool)
        for step, i in enumerate(np.argsort(p, kind="stable")):
            if p[i] * (count - step) > level:
                break
            rejected[i] = True

        assert ((holm(p) <= level) == rejected).all()


def test_holm_keeps_the_order_given_and_stays_below_one():
    assert holm([0.6, 0.01, 0.5]).tolist() == [1, 0.03, 1]


@pytest.mark.parametrize("seeds", [1, 3, 5, 8])
def test_wilcoxon_is_the_share_of_sign_flips_at_least_as_extreme(seeds):
    a, b = np.random.default_rng(seeds).normal(loc=[[0.8], [0]], size=(2, seeds))
    ranks = scipy.stats.rankdata(np.abs(a - b))
    centre = ranks.sum() / 2
    observed = abs(ranks[a > b].sum() - centre)
    flips = [abs(ranks @ np.array(signs) - centre) for signs in itertools.product([0, 1], repeat=seeds)]

    assert wilcoxon_over_seeds(a, b).p_value == pytest.approx(np.mean(np.array(flips) >= observed - 1e-9))


def test_too_few_seeds_are_said_to_be_too_few():
    five = wilcoxon_over_seeds([1, 2, 3, 4, 5], [2, 4, 6, 8, 10])
    six = wilcoxon_over_seeds([1, 2, 3, 4, 5, 6], [2, 4, 6, 8, 10, 12])

    assert five.p_value == five.smallest_p == 0.0625
    assert five.note == "5 seeds cannot reach p < 0.05: the smallest p-value they allow is 0.0625."
    assert six.p_value == six.smallest_p == 0.03125
    assert six.note == ""


def test_single_seed_is_said_to_show_nothing():
    assert wilcoxon_over_seeds([1], [2]).note == "1 seed cannot reach p < 0.05: the smallest p-value they allow is 1."


def test_equal_scores_have_a_p_value_of_one():
    assert wilcoxon_over_seeds([1, 2, 3], [1, 2, 3]).p_value == 1


def _result(difference, low, high, p_value, seeds=5):
    return PairedDifference(difference, low, high, p_value, seeds=seeds, n=2000)


@pytest.mark.parametrize(
    ("result", "options", "sentence"),
    [
        (
            _result(-0.21, -0.35, -0.08, 0.001),
            {},
            "coral has a lower MAE than softmax by 0.21 years (95 % interval 0.08 to 0.35).",
        ),
        (
            _result(0.21, 0.08, 0.35, 0.001),
            {},
            "coral has a higher MAE than softmax by 0.21 years (95 % interval 0.08 to 0.35).",
        ),
        (
            _result(-0.04, -0.12, 0.05, 0.4),
            {},
            "No significant difference in MAE between coral and softmax "
            f"({MINUS}0.04 years, 95 % {MINUS}0.12 to 0.05).",
        ),
        (
            _result(-0.21, -0.35, -0.08, 0.001, seeds=1),
            {},
            "coral has a lower MAE than softmax by 0.21 years (95 % interval 0.08 to 0.35), "
            "with one seed each, so that chance in training is not counted.",
        ),
        (
            _result(-0.21, -0.35, -0.08, 0.02),
            {"p_value": 0.08},
            "No significant difference in MAE between coral and softmax "
            f"({MINUS}0.21 years, 95 % {MINUS}0.35 to {MINUS}0.08; corrected p = 0.080).",
        ),
        (
            _result(-0.21, -0.35, -0.08, 0.0001),
            {"p_value": 0.0003, "metric": "error rate", "unit": "", "decimals": 1},
            "coral has a lower error rate than softmax by 0.2 (95 % interval 0.1 to 0.3; corrected p < 0.001).",
        ),
        (
            _result(-0.001, -0.004, 0.002, 0.6),
            {},
            "No significant difference in MAE between coral and softmax (0.00 years, 95 % 0.00 to 0.00).",
        ),
    ],
)
def test_verdict_is_one_plain_sentence(result, options, sentence):
    assert verdict(result, "coral", "softmax", **options) == sentence


def test_verdict_states_its_own_confidence():
    result = PairedDifference(-0.2, -0.4, -0.1, 0.03, seeds=2, n=10, confidence=0.99)

    assert verdict(result, "a", "b").startswith("No significant difference in MAE between a and b")
    assert "99 %" in verdict(result, "a", "b")
