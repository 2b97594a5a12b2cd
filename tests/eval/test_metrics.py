import itertools
import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from ordage.eval import (
    DECODERS,
    OrdinalScale,
    Predictions,
    absolute_errors,
    amae,
    balanced_accuracy,
    bin_accuracy,
    confusion,
    cs,
    cs_curve,
    decode,
    epsilon_error,
    kendall,
    mae,
    mae_bins,
    mean,
    median,
    median_ae,
    mmae,
    mode,
    nll,
    off_by_one_accuracy,
    quadratic_weighted_kappa,
    r2,
    ranked_probability_scores,
    risk_coverage,
    rmse,
    rps,
    spearman,
    spreads,
)


def _classes(seed, rows, num_classes, only=None):
    rng = np.random.default_rng(seed)
    pool = np.arange(num_classes) if only is None else np.asarray(only)
    return rng.choice(pool, rows), rng.integers(0, num_classes, rows), num_classes


# (true classes, predicted classes, K)
CLASS_CASES = {
    "random": _classes(0, 500, 10),
    "two classes": _classes(1, 50, 2),
    "many classes": _classes(2, 1000, 117),
    "missing classes": _classes(3, 200, 10, only=[0, 3, 9]),
    "one true class": _classes(4, 40, 5, only=[2]),
    "perfect": (np.array([0, 1, 2, 3]), np.array([0, 1, 2, 3]), 4),
    "one prediction": (np.array([0, 1, 2, 3]), np.array([1, 1, 1, 1]), 4),
    "one sample": (np.array([3]), np.array([1]), 4),
    "one class everywhere": (np.array([2, 2]), np.array([2, 2]), 4),
}
each_case = pytest.mark.parametrize(("true", "said", "num_classes"), CLASS_CASES.values(), ids=CLASS_CASES)


def _peaked(rows, num_classes, seed=0, sharpness=3.0):
    """Log-probabilities from nearly flat to nearly certain."""
    logits = np.random.default_rng(seed).normal(scale=sharpness, size=(rows, num_classes))
    return logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)


DISTRIBUTIONS = {
    "random": _peaked(300, 10),
    "two classes": _peaked(40, 2),
    "many classes": _peaked(200, 117),
    "one sample": _peaked(1, 5),
    "saturated": _peaked(100, 20, sharpness=300.0),
    "certain": np.log(np.eye(4), where=np.eye(4) > 0, out=np.full((4, 4), -np.inf)),
    "float32": _peaked(100, 101).astype(np.float32),
}
each_distribution = pytest.mark.parametrize("log_probs", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)


@each_distribution
def test_mode_is_the_first_most_probable_class(log_probs):
    expected = [max(range(len(row)), key=lambda k, row=row: (row[k], -k)) for row in log_probs.tolist()]

    assert mode(log_probs).tolist() == expected


@each_distribution
def test_median_counts_the_thresholds_that_are_more_likely_passed(log_probs):
    probs = np.exp(log_probs.astype(np.float64))
    expected = [sum(row[k + 1 :].sum() > 0.5 for k in range(len(row) - 1)) for row in probs]

    assert median(log_probs).tolist() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_classes", [2, 4, 6, 10, 100])
def test_median_of_a_cumulative_probability_of_one_half_is_the_lower_class(num_classes, dtype):
    uniform = np.full((1, num_classes), -np.log(num_classes), dtype=dtype)

    assert median(uniform).tolist() == [num_classes // 2 - 1]


@each_distribution
def test_mean_is_the_sum_of_probability_times_value(log_probs):
    values = np.linspace(3, 90, log_probs.shape[1]) ** 1.2
    expected = [sum(np.exp(p) * v for p, v in zip(row, values, strict=True)) for row in log_probs.tolist()]

    np.testing.assert_allclose(mean(log_probs, values), expected, rtol=1e-5)


def test_mean_needs_a_value_for_each_class():
    with pytest.raises(ValueError, match="`values` for each of 3 classes, but got 2"):
        mean(np.log([[0.5, 0.25, 0.25]]), [1, 2])


def test_decoding_gives_the_value_of_the_decoded_class():
    scale = OrdinalScale.parse("0-10,11-20,21+").with_values([4, 14, 30])
    said = Predictions.from_probs([[0.4, 0.3, 0.3]], scale, age=[3])

    assert decode(said, "mode") == (0, 4)
    assert decode(said, "median") == (1, 14)
    assert decode(said, "mean").values == pytest.approx(0.4 * 4 + 0.3 * 14 + 0.3 * 30)
    assert decode(said, "mean").classes == 1


def test_unknown_decoder_is_refused_with_the_known_ones():
    said = Predictions.from_probs([[0.5, 0.5]], OrdinalScale.years(0, 1), age=[0])

    with pytest.raises(ValueError, match=r"\['mean', 'median', 'mode'\], but got 'argmax'"):
        decode(said, "argmax")
    assert sorted(DECODERS) == ["mean", "median", "mode"]


def test_median_beats_the_other_decoders_in_absolute_and_mean_in_squared_error():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(30, 0.3), 4000)
    target = (probs.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1).clip(max=29)
    said = Predictions.from_probs(probs, OrdinalScale.years(0, 29), age=target)
    answers = {how: decode(said, how).values for how in DECODERS}

    assert min(answers, key=lambda how: mae(said.age, answers[how])) == "median"
    assert min(answers, key=lambda how: rmse(said.age, answers[how])) == "mean"


@each_case
def test_bin_accuracy_is_scikit_learns(true, said, num_classes):
    assert bin_accuracy(true, said) == pytest.approx(sklearn.metrics.accuracy_score(true, said))


@each_case
def test_off_by_one_accuracy_counts_neighbours_on_positions(true, said, num_classes):
    near = [abs(t - s) <= 1 for t, s in zip(true.tolist(), said.tolist(), strict=True)]

    assert off_by_one_accuracy(true, said) == pytest.approx(sum(near) / len(near))


@each_case
def test_mae_bins_is_scikit_learns_on_positions(true, said, num_classes):
    assert mae_bins(true, said) == pytest.approx(sklearn.metrics.mean_absolute_error(true, said))


@each_case
def test_errors_of_values_are_scikit_learns(true, said, num_classes):
    x, y = true * 1.7, said * 1.3 + 0.2

    assert mae(x, y) == pytest.approx(sklearn.metrics.mean_absolute_error(x, y))
    assert rmse(x, y) == pytest.approx(np.sqrt(sklearn.metrics.mean_squared_error(x, y)))
    assert mae(x, y) == pytest.approx(absolute_errors(x, y).mean())


@each_case
@pytest.mark.parametrize("k", [0, 1, 3, 5, 10])
def test_cumulative_score_is_the_share_of_errors_up_to_k(true, said, num_classes, k):
    within = [abs(t - s) <= k for t, s in zip(true.tolist(), said.tolist(), strict=True)]

    assert cs(true, said, k) == pytest.approx(sum(within) / len(within))


@each_case
def test_cumulative_score_curve_is_the_score_at_each_k(true, said, num_classes):
    x, y = true * 1.5, said * 0.7

    np.testing.assert_allclose(cs_curve(x, y, 12), [cs(x, y, k) for k in range(13)])
    assert cs_curve([2.2, 7], [1.2, 7], 1).tolist() == [0.5, 1.0]


@each_case
def test_median_error_and_explained_variance_are_scikit_learns(true, said, num_classes):
    x, y = true * 1.7, said * 1.3 + 0.2

    assert median_ae(x, y) == pytest.approx(sklearn.metrics.median_absolute_error(x, y))
    # For a constant truth scikit-learn answers 0 or 1, of which neither is a share of anything.
    expected = sklearn.metrics.r2_score(x, y) if np.ptp(x) > 0 else np.nan
    assert r2(x, y) == pytest.approx(expected, nan_ok=True)


@each_case
def test_epsilon_error_is_its_formula(true, said, num_classes):
    std = np.linspace(0.5, 6, len(true))
    expected = [1 - math.exp(-((t - s) ** 2) / (2 * d * d)) for t, s, d in zip(true, said, std, strict=True)]

    assert epsilon_error(true, said, std) == pytest.approx(np.mean(expected))


def test_epsilon_error_of_a_tiny_error_keeps_its_digits():
    assert epsilon_error([30.0], [30.0 + 1e-9], [1.0]) == pytest.approx(5e-19, rel=1e-6)


def test_cumulative_score_counts_an_error_of_exactly_k_despite_rounding():
    assert 2.2 - 1.2 > 1
    assert cs([2.2], [1.2], 1) == 1


@each_case
def test_confusion_counts_every_pair(true, said, num_classes):
    expected = np.zeros((num_classes, num_classes), dtype=int)
    for t, s in zip(true, said, strict=True):
        expected[t, s] += 1

    assert confusion(true, said, num_classes).tolist() == expected.tolist()


@each_case
def test_balanced_accuracy_is_scikit_learns(true, said, num_classes):
    # Classes without true samples are dropped there too, with a warning.
    recalls = sklearn.metrics.recall_score(true, said, labels=np.unique(true), average=None, zero_division=0)

    assert balanced_accuracy(true, said, num_classes) == pytest.approx(recalls.mean())


@each_case
def test_quadratic_weighted_kappa_is_one_less_observed_by_expected_disagreement(true, said, num_classes):
    observed = np.mean((true - said) ** 2.0)
    expected = np.mean((true[:, np.newaxis] - said) ** 2.0)

    kappa = quadratic_weighted_kappa(true, said, num_classes)

    assert kappa == pytest.approx(1 - observed / expected if expected else np.nan, nan_ok=True)


@each_case
def test_averaged_and_largest_error_over_bins_are_those_of_a_loop(true, said, num_classes):
    errors = np.abs(true - said) * 1.5
    of_bins = [errors[true == k].mean() for k in range(num_classes) if (true == k).any()]

    assert amae(errors, true, num_classes) == pytest.approx(np.mean(of_bins))
    assert mmae(errors, true, num_classes) == pytest.approx(max(of_bins))


@each_case
def test_spearman_is_the_correlation_of_average_ranks(true, said, num_classes):
    ranks = scipy.stats.rankdata(true), scipy.stats.rankdata(said)
    varied = all(np.ptp(rank) > 0 for rank in ranks)

    expected = np.corrcoef(*ranks)[0, 1] if varied else np.nan

    assert spearman(true, said) == pytest.approx(expected, nan_ok=True)


@each_case
def test_kendall_counts_pairs_that_agree_and_corrects_for_ties(true, said, num_classes):
    x, y = true[:120].tolist(), said[:120].tolist()  # of all pairs
    pairs = [
        ((a > b) - (a < b), (c > d) - (c < d)) for (a, c), (b, d) in itertools.combinations(zip(x, y, strict=True), 2)
    ]
    agreement = sum(p * q for p, q in pairs)
    untied = sum(p != 0 for p, _ in pairs), sum(q != 0 for _, q in pairs)

    expected = agreement / math.sqrt(untied[0] * untied[1]) if all(untied) else math.nan

    assert kendall(x, y) == pytest.approx(expected, nan_ok=True)


@each_distribution
def test_spread_is_the_standard_deviation_of_each_distribution(log_probs):
    values = np.cumsum(np.arange(1, log_probs.shape[1] + 1)) * 1.5
    expected = []
    for row in np.exp(log_probs):
        middle = sum(p * v for p, v in zip(row, values, strict=True)) / row.sum()
        expected.append(math.sqrt(sum(p * (v - middle) ** 2 for p, v in zip(row, values, strict=True)) / row.sum()))

    np.testing.assert_allclose(spreads(log_probs, values), expected, rtol=1e-6, atol=1e-6 * values[-1])


def test_risk_is_the_mean_error_of_those_kept_and_shared_by_the_equally_uncertain():
    errors, spread = np.array([4.0, 1.0, 3.0, 8.0]), np.array([2.0, 1.0, 2.0, 5.0])

    # Of the two with spread 2 either may be the second to be kept: it errs by their mean.
    np.testing.assert_allclose(risk_coverage(errors, spread), [1, (1 + 3.5) / 2, (1 + 7) / 3, 4])
    np.testing.assert_allclose(risk_coverage(errors, np.ones(4)), [4, 4, 4, 4])


@each_distribution
def test_ranked_probability_score_is_that_of_a_loop(log_probs):
    rows, num_classes = log_probs.shape
    target = np.random.default_rng(5).integers(0, num_classes, rows)
    expected = []
    for row, true in zip(np.exp(log_probs.astype(np.float64)), target, strict=True):
        expected.append(sum((row[: k + 1].sum() - (true <= k)) ** 2 for k in range(num_classes)))

    np.testing.assert_allclose(ranked_probability_scores(log_probs, target), expected, atol=1e-5)
    assert rps(log_probs, target) == pytest.approx(np.mean(expected), abs=1e-5)
    assert rps(log_probs, target, normalized=True) == pytest.approx(np.mean(expected) / (num_classes - 1), abs=1e-5)


def test_ranked_probability_score_of_certain_answers_is_the_error_in_bins():
    true, said, num_classes = CLASS_CASES["random"]
    with np.errstate(divide="ignore"):
        certain = np.log(np.eye(num_classes)[said])

    assert rps(certain, true) == pytest.approx(mae_bins(true, said))


@each_distribution
def test_likelihood_is_scikit_learns_log_loss(log_probs):
    num_classes = log_probs.shape[1]
    target = log_probs.argmax(axis=1)
    probs = np.exp(log_probs.astype(np.float64))
    expected = sklearn.metrics.log_loss(target, probs / probs.sum(axis=1, keepdims=True), labels=np.arange(num_classes))

    assert nll(log_probs, target) == pytest.approx(expected, abs=1e-5)


def test_likelihood_of_what_was_held_impossible_is_infinite():
    assert nll([[0.0, -np.inf]], [1]) == np.inf


def test_likelihood_keeps_very_small_probabilities():
    assert nll([[0.0, -500.0]], [1]) == 500


def test_class_0_said_for_class_3_is_not_off_by_one():
    # Positions inferred from the labels at hand, {0, 3}, would be neighbours.
    assert off_by_one_accuracy([0, 0, 3], [3, 3, 0]) == 0


def test_kappa_is_told_how_far_apart_the_labels_are():
    # Among the labels at hand alone, {0, 1, 9}, class 9 would be as near to 1 as 0 is.
    true, said = [0, 1, 9, 9, 1], [1, 1, 9, 1, 0]
    inferred = sklearn.metrics.cohen_kappa_score(true, said, weights="quadratic")

    assert quadratic_weighted_kappa(true, said, 10) != pytest.approx(inferred, abs=0.05)


def test_averaged_error_of_20_years_is_not_one_year():
    # Ages of 20 and 40 alone in a test set are 20 years apart, not one class.
    target, predicted = np.array([20, 40]), np.array([40, 20])

    assert amae(absolute_errors(target, predicted), target, 101) == 20


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: bin_accuracy([0, 1], [0]), r"`predicted` of shape \(2,\) as `target` has 2 rows, but got \(1,\)"),
        (lambda: bin_accuracy([], []), r"`target` of shape \(N,\) with N >= 1, but got \(0,\)"),
        (lambda: bin_accuracy([0.5], [0]), "`target` to hold integer classes, but its dtype is float64"),
        (lambda: off_by_one_accuracy([[0]], [[0]]), r"`target` of shape \(N,\)"),
        (lambda: mae_bins([0], [-1]), "class of `predicted` to be 0 or larger, but row 0 is -1"),
        (lambda: mae([1, np.nan], [1, 2]), "`true` to hold finite numbers, but row 1 is nan"),
        (lambda: rmse([1, 2], [1]), r"`predicted` of shape \(2,\)"),
        (lambda: confusion([0, 4], [0, 1], 4), r"class of `target` to be in 0..3, but row 1 is 4"),
        (lambda: quadratic_weighted_kappa([0], [4], 4), r"class of `predicted` to be in 0..3, but row 0 is 4"),
        (lambda: amae([1.0], [0, 1], 4), r"`errors` of shape \(2,\)"),
        (lambda: epsilon_error([1.0], [1.0], [0.0]), "every `std` above 0, but row 0 is 0"),
        (lambda: spreads(np.zeros((1, 3)), [1, 2]), "one of `values` for each of 3 classes, but got 2"),
        (lambda: rps(np.zeros((2, 1)), [0, 0]), r"`log_probs` of shape \(N, K\) with N >= 1 and K >= 2"),
        (lambda: nll(np.zeros((2, 3)), [0]), r"`target` of shape \(2,\)"),
        (lambda: nll(np.zeros((1, 3)), [3]), r"class of `target` to be in 0..2"),
    ],
)
def test_invalid_arguments_are_refused_by_name(call, named):
    with pytest.raises(ValueError, match=named):
        call()
