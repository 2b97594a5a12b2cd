import math

import numpy as np
import pytest

from ordage.eval import effort_to_see, paired_bootstrap


def drawn(rng, seeds, n, difference, of_seeds, of_samples):
    """Differences whose parts have these standard deviations."""
    errors = difference + of_seeds * rng.normal(size=(seeds, 1)) + of_samples * rng.normal(size=(1, n))
    return errors, np.zeros_like(errors)


def test_of_one_seed_it_is_the_textbook_number_of_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.normal(5, 2, 400), rng.normal(5.1, 2, 400)
    d = a - b

    # n = ((z(0.975) + z(0.8)) s / d)²
    expected = ((1.959964 + 0.841621) * d.std(ddof=1) / d.mean()) ** 2

    assert effort_to_see(a, b).samples == pytest.approx(expected, rel=1e-4)
    assert effort_to_see(a, b).seeds is None


def test_with_that_many_samples_four_of_five_repetitions_see_the_difference():
    rng = np.random.default_rng(1)
    true = 0.2
    # By a large set, so that what is extrapolated from is certain.
    needed = effort_to_see(*drawn(rng, 1, 200_000, true, 0, 2.0)).samples

    seen = [paired_bootstrap(*drawn(rng, 1, needed, true, 0, 2.0), n_resamples=400).p_value < 0.05 for _ in range(300)]

    assert np.mean(seen) == pytest.approx(0.8, abs=0.07)  # three standard errors


def test_more_seeds_are_asked_for_where_seeds_are_what_differs():
    rng = np.random.default_rng(2)
    a, b = drawn(rng, 40, 5000, 0.1, 0.5, 0.5)
    found = effort_to_see(a, b)

    assert found.samples is None  # however many images: these seeds alone differ by more than the difference
    variance = a.mean(axis=1).var(ddof=1)
    allowed = (a.mean() / (1.959964 + 0.841621)) ** 2 - a.mean(axis=0).var(ddof=1) / 5000
    assert found.seeds == pytest.approx(variance / allowed, rel=0.1)


def test_a_difference_that_nothing_would_show_says_so():
    a, b = drawn(np.random.default_rng(3), 3, 50, 0.0, 1.0, 1.0)
    a = a - a.mean() + 1e-6

    assert effort_to_see(a, b).samples is None
    assert effort_to_see(a, b).seeds is None
    assert "Neither" in str(effort_to_see(a, b))


def test_copies_of_a_sample_count_once_where_they_belong_together():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.3, 1, 100), np.zeros(100)
    alone = effort_to_see(a, b).samples
    copied = effort_to_see(np.repeat(a, 5), np.zeros(500), np.repeat(np.arange(100), 5)).samples

    assert copied == pytest.approx(5 * alone, abs=5)  # as many people, five images each


def test_the_sentence_rounds_to_what_is_known():
    rng = np.random.default_rng(5)
    found = effort_to_see(*drawn(rng, 3, 2000, 0.05, 0.0, 2.0))

    assert found.samples is not None
    assert f"{round(found.samples, 2 - len(str(found.samples))):,} test images with 3 seeds" in str(found)


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1.0, math.nan], [1.0, 2.0]), ([1.0, 2.0], [1.0])])
def test_what_cannot_be_compared_is_refused(a, b):
    with pytest.raises(ValueError, match="Expected"):
        effort_to_see(a, b)
