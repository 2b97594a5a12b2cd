import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ordage.losses import interval, mean, median, mode, quantile

quick = settings(deadline=None, database=None, max_examples=100)
# Multiples of 1/64 are exact in float32, so that "at least" has one meaning.
distributions = st.lists(st.integers(0, 63), min_size=1, max_size=8).map(lambda cuts: [0, *sorted(cuts), 64])


def probabilities(cuts):
    return (torch.tensor(cuts).diff() / 64).double()


@quick
@given(distributions)
def test_median_is_the_number_of_tails_above_one_half(cuts):
    probs = probabilities(cuts)
    tails = probs.flip(0).cumsum(0).flip(0)[1:]

    assert median(probs.log()) == (tails > 0.5).sum()


@quick
@given(distributions, st.integers(1, 63))
def test_quantile_is_the_first_class_that_reaches_it(cuts, q):
    probs = probabilities(cuts)

    first = next(k for k in range(len(probs)) if probs[: k + 1].sum() >= q / 64)

    assert quantile(probs.log(), q / 64) == first


@quick
@given(distributions, st.integers(1, 63))
def test_interval_is_the_shortest_run_that_holds_the_mass(cuts, mass):
    probs = probabilities(cuts)
    runs = {
        (low, high): probs[low : high + 1].sum().item()
        for low in range(len(probs))
        for high in range(low, len(probs))
        if probs[low : high + 1].sum() >= mass / 64
    }
    shortest = min(high - low for low, high in runs)
    most = max(held for (low, high), held in runs.items() if high - low == shortest)

    low, high = (end.item() for end in interval(probs.log(), mass / 64))

    assert high - low == shortest
    # Several runs may hold equally much; the logarithm's rounding then decides which it is.
    assert runs[low, high] == pytest.approx(most, abs=1e-9)


def test_interval_of_a_float32_distribution_that_rounds_below_one_exists():
    log_probs = torch.randn(50, 101, generator=torch.Generator().manual_seed(0)).log_softmax(-1)

    low, high = interval(log_probs, 0.999999)

    assert bool((low >= 0).all())
    assert bool((low <= high).all())
    assert bool((high <= 100).all())


def test_point_decoders_differ_where_they_should():
    log_probs = torch.tensor([0.4, 0.15, 0.15, 0.3]).log()

    assert mode(log_probs) == 0
    assert median(log_probs) == 1
    torch.testing.assert_close(mean(log_probs, [0.0, 10.0, 20.0, 100.0]), torch.tensor(34.5))


def test_a_tie_of_the_median_is_the_lower_class():
    assert median(torch.tensor([0.5, 0.5]).log()) == 0


def test_zero_probabilities_are_no_trouble():
    log_probs = torch.tensor([-torch.inf, 0.0, -torch.inf])

    assert mode(log_probs) == median(log_probs) == 1
    assert mean(log_probs, [1, 2, 3]) == 2
    assert interval(log_probs, 0.9) == (1, 1)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_any_leading_shape_works(shape):
    log_probs = torch.randn(*shape, 5).log_softmax(-1)

    for decode in (
        mode,
        median,
        lambda x: mean(x, range(5)),
        lambda x: quantile(x, 0.1),
        lambda x: interval(x, 0.9)[0],
    ):
        assert decode(log_probs).shape == shape


def test_half_precision_is_decoded_in_float32():
    log_probs = torch.full((101,), 1 / 101).log().bfloat16()

    assert mean(log_probs, range(101)).dtype == torch.float32
    assert median(log_probs) in (49, 50, 51)


@pytest.mark.parametrize("decode", [mode, median, lambda x: mean(x, [0.0]), lambda x: interval(x, 0.9)])
def test_what_is_no_distribution_is_an_error(decode):
    with pytest.raises(ValueError, match="`log_probs` to be a floating-point tensor"):
        decode(torch.tensor([1, 2]))


@pytest.mark.parametrize("wrong", [0, 1, -0.5, 90, "0.9", float("nan")])
def test_mass_that_is_no_probability_is_an_error(wrong):
    with pytest.raises(ValueError, match="`mass` to be a number strictly between 0 and 1, but got"):
        interval(torch.zeros(3), wrong)
    with pytest.raises(ValueError, match="`q` to be a number strictly between 0 and 1, but got"):
        quantile(torch.zeros(3), wrong)


def test_mean_needs_one_value_a_class():
    with pytest.raises(ValueError, match=r"`class_values` to hold 3 numbers, shape \(3,\), but got .* shape \(2,\)"):
        mean(torch.zeros(3), [1.0, 2.0])
