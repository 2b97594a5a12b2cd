import math

import numpy as np
import pytest
import scipy.stats

from ordage.eval import ConformalIntervals, OrdinalScale, Predictions, judge_intervals, median

YEARS = OrdinalScale.years(0, 80)


def faces(rows, seed, *, noise=6.0, said_noise=6.0, **fields):
    """Ages with normal guesses: what is said to be uncertain by ``said_noise`` really is by ``noise``."""
    rng = np.random.default_rng(seed)
    age = rng.integers(15, 66, rows)
    guess = age + rng.normal(scale=noise, size=rows)
    log_probs = scipy.stats.norm.logpdf(np.arange(81), guess[:, None], said_noise)
    probs = np.exp(log_probs - log_probs.max(axis=1, keepdims=True))
    return Predictions.from_probs(probs / probs.sum(axis=1, keepdims=True), YEARS, age=age, **fields)


def covers(first, last, target):
    return (first <= target) & (target <= last)


@pytest.mark.parametrize("said_noise", [1.5, 6.0, 20.0], ids=["too sure", "right", "too unsure"])
@pytest.mark.parametrize("meta", [{}, {"point_predictor": True}], ids=["tail", "distance"])
def test_coverage_over_exchangeable_draws_is_what_was_promised(said_noise, meta):
    # One new sample a draw, so that the 200 are independent and their number is binomial.
    covered = 0
    for draw in range(200):
        everyone = faces(100, draw, said_noise=said_noise, meta=meta)
        intervals = ConformalIntervals.fit(everyone.select(np.arange(99)), coverage=0.9)
        covered += int(intervals.covers(everyone.select([99]))[0])
    low, high = scipy.stats.binom.interval(0.99, 200, 0.9)

    assert low <= covered <= high


def test_intervals_hold_the_classes_that_fit_as_well_as_nearly_all_true_ones():
    said, new = faces(57, 0), faces(40, 1)
    probs = said.probs.astype(float)
    fits = sorted(min(row[: y + 1].sum(), row[y:].sum()) / row.sum() for row, y in zip(probs, said.target, strict=True))
    threshold = fits[math.floor(0.2 * 58) - 1]  # a share of 1 - coverage of the 57 and the new one may fit worse

    first, last = ConformalIntervals.fit(said, coverage=0.8).of(new)

    for row, low, high in zip(new.probs.astype(float), first, last, strict=True):
        fit = [min(row[: k + 1].sum(), row[k:].sum()) / row.sum() for k in range(81)]
        assert [k for k in range(81) if fit[k] >= threshold] == list(range(low, high + 1))


@pytest.mark.parametrize("coverage", [0.05, 0.5, 0.9, 0.99])
def test_intervals_are_never_empty_and_hold_the_median(coverage):
    said = faces(300, 0)
    first, last = ConformalIntervals.fit(said, coverage=coverage).of(said)
    middle = median(said.log_probs)

    assert (first <= middle).all()
    assert (middle <= last).all()


def test_more_coverage_is_wider():
    said = faces(500, 0)

    widths = [ConformalIntervals.fit(said, coverage=c).widths(said).mean() for c in (0.5, 0.8, 0.95)]

    assert widths == sorted(widths)
    assert widths[0] < widths[2]


def test_wider_distributions_have_wider_intervals():
    sharp, blunt = faces(300, 0, noise=2, said_noise=2), faces(300, 1, noise=9, said_noise=9)
    both = Predictions.from_probs(np.concatenate([sharp.probs, blunt.probs]), YEARS, age=[*sharp.age, *blunt.age])

    widths = ConformalIntervals.fit(both).widths(both)

    assert widths[300:].mean() > 3 * widths[:300].mean()


def test_a_few_samples_cannot_promise_anything_but_everything():
    said = faces(8, 0)  # ninety percent need nine

    first, last = ConformalIntervals.fit(said, coverage=0.9).of(said)

    assert set(first) == {0}
    assert set(last) == {80}


@pytest.mark.parametrize("meta", [{}, {"point_predictor": True}])
def test_each_group_keeps_the_promise_on_request(meta):
    names = np.repeat(["easy", "hard"], 3000)

    def of_groups(seed):
        # All are said with the same spread, but one group's errors are three times the other's.
        easy, hard = faces(3000, seed, noise=3), faces(3000, seed + 1, noise=9)
        probs = np.concatenate([easy.probs, hard.probs])
        return Predictions.from_probs(probs, YEARS, age=[*easy.age, *hard.age], groups={"g": names}, meta=meta)

    calibration, test = of_groups(0), of_groups(2)
    over_all = ConformalIntervals.fit(calibration).covers(test)
    by_group = ConformalIntervals.fit(calibration, by="g").covers(test)

    assert over_all[names == "hard"].mean() < 0.86
    assert 0.885 < by_group[names == "hard"].mean() < 0.925
    assert 0.885 < by_group[names == "easy"].mean() < 0.95  # in whole years, of which one more is one too many


def test_groups_too_small_for_a_promise_share_that_over_all():
    names = np.array(["large"] * 95 + ["tiny"] * 5)
    said = faces(100, 0, groups={"g": names})
    intervals = ConformalIntervals.fit(said, coverage=0.9, by="g")

    assert list(intervals.thresholds) == ["large"]
    alone = intervals(said.log_probs[-5:])
    assert all(np.array_equal(a, b[-5:]) for a, b in zip(alone, intervals.of(said), strict=True))


def test_extreme_confidence_keeps_its_digits():
    # Wrong with a probability of 1e-12: a plain 1 - P(y <= k) would call every such class impossible alike.
    probs = np.full((40, 81), 1e-14)
    probs[:, 40] = 1 - 8e-13
    probs[:20, 41:44] = [1e-9, 1e-11, 1e-13]
    target = np.array([41] * 18 + [43] * 2 + [40] * 20)
    said = Predictions(np.arange(40).astype(str), np.log(probs), YEARS, np.full(40, np.nan), target)

    first, last = ConformalIntervals.fit(said, coverage=0.9).of(said)

    assert last[0] == 41
    assert first[0] == 40


def test_figures_of_intervals_by_group():
    calibration, test = faces(400, 0), faces(600, 1, subject=np.repeat(np.arange(200), 3).astype(str))
    intervals = ConformalIntervals.fit(calibration)
    half = np.where(test.age < 40, "young", "old")

    figures = judge_intervals(intervals, test, columns={"half": half, "constant": np.full(600, "x")})

    first, last = intervals.of(test)
    inside = covers(first, last, test.target)
    assert figures.coverage.value == inside.mean()
    assert figures.coverage.low < inside.mean() < figures.coverage.high
    assert figures.mean_width.value == pytest.approx((last - first).mean())
    assert figures.median_width == np.median(last - first)
    assert list(figures.groups) == ["half"]
    for row in figures.groups["half"]:
        assert row.n == (half == row.name).sum()
        assert row.coverage.value == pytest.approx(inside[half == row.name].mean())


def test_width_is_counted_in_the_unit_of_the_scale():
    bins = OrdinalScale.parse("0-10,11-20,21-30,31+")
    said = Predictions.from_probs([[0.25] * 4] * 8, bins, target=[0] * 8)

    widths = ConformalIntervals.fit(said).widths(said)

    assert widths.tolist() == [bins.values[-1] - bins.values[0]] * 8


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"coverage": 90}, "`coverage` above 0 and below 1, but got 90"),
        ({"by": "gender"}, "but got 'gender'; there are: g"),
    ],
)
def test_invalid_arguments_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        ConformalIntervals.fit(faces(10, 0, groups={"g": ["a"] * 10}), **options)


def test_groups_must_fit_the_samples():
    said = faces(30, 0)

    with pytest.raises(ValueError, match=r"`groups` of shape \(30,\)"):
        ConformalIntervals.fit(said)(said.log_probs, ["a"])
