import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordage.eval import OrdinalScale


@st.composite
def scales(draw, max_classes=12):
    """Any scale: whole or fractional bounds, gaps, classes without width, open or closed at the end."""
    steps = st.one_of(st.integers(1, 30), st.floats(0.01, 30, allow_nan=False))
    widths = st.one_of(st.just(0), st.integers(0, 20), st.floats(0, 20, allow_nan=False))
    start = draw(st.one_of(st.integers(-50, 50), st.floats(-50, 50, allow_nan=False)))
    intervals = []
    for _ in range(draw(st.integers(2, max_classes))):
        end = start + draw(widths)
        intervals.append((start, end))
        start = end + draw(steps)
    if draw(st.booleans()):
        intervals[-1] = (intervals[-1][0], None)
    return OrdinalScale.from_intervals(intervals)


@st.composite
def scale_with_coarser(draw):
    """A scale of years and one that joins neighbouring classes of it."""
    fine = OrdinalScale.years(0, draw(st.integers(3, 40)), open_last=draw(st.booleans()))
    inner = draw(st.sets(st.integers(1, len(fine) - 1), min_size=1, max_size=6))
    starts = [0, *sorted(inner)]
    ends = [start - 1 for start in starts[1:]] + [fine.highs[-1]]
    return fine, OrdinalScale(tuple(starts), tuple(ends))


@given(scales())
def test_spec_is_read_back_by_parse(scale):
    assert OrdinalScale.parse(scale.spec) == scale


@given(scales())
def test_dict_survives_json(scale):
    text = json.dumps(scale.to_dict(), allow_nan=False)

    assert OrdinalScale.from_dict(json.loads(text)) == scale


def test_dict_keeps_values_unit_and_labels():
    scale = OrdinalScale.from_labels(["none", "mild", "severe"]).with_values([0, 1, 2])

    assert OrdinalScale.from_dict(scale.to_dict()) == scale


def test_parse_reads_the_documented_example():
    scale = OrdinalScale.parse("0-10,11-20,21-30,31-40,41-50,51-60,61-70,71-80,81-90,91+")

    assert scale.lows == (0, 11, 21, 31, 41, 51, 61, 71, 81, 91)
    assert scale.highs == (10, 20, 30, 40, 50, 60, 70, 80, 90, math.inf)
    assert scale.labels[0] == "0-10"
    assert scale.labels[-1] == "91+"
    assert scale.values == (5, 15.5, 25.5, 35.5, 45.5, 55.5, 65.5, 75.5, 85.5, 96)
    assert len(scale) == scale.num_classes == 10
    assert scale.is_open
    assert scale.unit == "years"


@pytest.mark.parametrize("dash", ["-", "\N{EN DASH}", "\N{EM DASH}", "\N{MINUS SIGN}", " - ", " \N{EN DASH} "])
def test_parse_tolerates_spaces_and_dashes(dash):
    assert OrdinalScale.parse(f" 0{dash}10 , 11{dash}20 ,21+ ") == OrdinalScale.parse("0-10,11-20,21+")


def test_parse_reads_single_values_and_fractions_and_negative_bounds():
    assert OrdinalScale.parse("-5--1, 0, 0.5-2.5").highs == (-1, 0, 2.5)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("0-5,10-6", "'10-6'"),
        ("0-10,10-20", "'10-20' comes after '0-10'"),
        ("0-10,5+", "'5\\+' comes after '0-10'"),
        ("0+,10-20", "'10-20' comes after '0\\+'"),
        ("0-10,0-10", "'0-10' comes after '0-10'"),
        ("0-10,abc", "'abc'"),
        ("0-10,,11-20", "''"),
        ("0-10,11-20,", "''"),
        ("0-10,11-20-30", "'11-20-30'"),
        ("0-10,nan", "'nan'"),
        ("0-10,03-Sep", "'03-Sep'"),
        ("0-10", "at least 2 classes, but got 1"),
    ],
)
def test_parse_names_the_piece_it_cannot_use(text, named):
    with pytest.raises(ValueError, match=named):
        OrdinalScale.parse(text)


def test_order_follows_the_value_and_not_the_text():
    assert OrdinalScale.from_intervals([(10, 10), (1, 1), (2, 2), (10, 10)]).labels == ("1", "2", "10")
    assert OrdinalScale.parse("10,2,1") == OrdinalScale.parse("1,2,10")


def test_from_intervals_leaves_the_last_class_open_for_none_or_infinity():
    assert OrdinalScale.from_intervals([(60, None), (0, 2)]) == OrdinalScale.from_intervals([(0, 2), (60, math.inf)])


def test_from_intervals_refuses_overlap():
    with pytest.raises(ValueError, match="'8-12' comes after '4-8'"):
        OrdinalScale.from_intervals([(8, 12), (4, 8)])


def test_years_has_one_class_a_year_that_stands_for_itself():
    scale = OrdinalScale.years(16, 77)

    assert len(scale) == 62
    assert scale.values == scale.lows == scale.highs
    assert scale.labels[:2] == ("16", "17")


def test_open_last_year_stands_half_a_year_above_its_start():
    assert OrdinalScale.years(0, 2, open_last=True).values == (0, 1, 2.5)


@pytest.mark.parametrize(
    ("max_age", "spec"),
    [
        (11, "0-10,11+"),
        (20, "0-10,11+"),
        (20.5, "0-10,11+"),
        (21, "0-10,11-20,21+"),
        (100, "0-10,11-20,21-30,31-40,41-50,51-60,61-70,71-80,81-90,91+"),
    ],
)
def test_tens_end_at_the_class_that_holds_the_highest_age(max_age, spec):
    assert OrdinalScale.tens(max_age).spec == spec


@pytest.mark.parametrize(("width", "max_age", "spec"), [(10, 35, "0-9,10-19,20-29,30+"), (1, 2, "0,1,2+")])
def test_equal_widths_start_at_zero(width, max_age, spec):
    assert OrdinalScale.equal_width(width, max_age).spec == spec


@pytest.mark.parametrize(("count", "youngest", "oldest"), [(2, 0, 1), (10, 0, 116), (7, 16, 77), (61, 16, 76)])
def test_a_number_of_equal_classes_covers_all_years_evenly(count, youngest, oldest):
    scale = OrdinalScale.equal_count(count, youngest, oldest)

    widths = np.bincount(scale.class_of(np.arange(youngest, oldest + 1)))
    assert len(scale) == len(widths) == count
    assert widths.max() - widths.min() <= 1
    assert scale.lows[0] == youngest
    assert scale.is_open


@pytest.mark.parametrize("count", [1, 12])
def test_a_number_of_classes_that_the_years_cannot_fill_is_refused(count):
    with pytest.raises(ValueError, match="Expected `count` to be 2 to 11"):
        OrdinalScale.equal_count(count, 20, 30)


@pytest.mark.parametrize("build", [lambda: OrdinalScale.tens(10), lambda: OrdinalScale.equal_width(10, 9)])
def test_too_low_a_highest_age_is_refused(build):
    with pytest.raises(ValueError, match="`max_age` to reach a second class, but got"):
        build()


def test_width_below_one_is_refused():
    with pytest.raises(ValueError, match="`width` to be a whole number of at least 1, but got 0"):
        OrdinalScale.equal_width(0, 50)


def test_labels_make_a_scale_of_positions_without_unit():
    scale = OrdinalScale.from_labels(["none", "mild", "severe"])

    assert scale.labels == ("none", "mild", "severe")
    assert scale.values == (0, 1, 2)
    assert scale.unit == ""


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"lows": (0, 10), "highs": (5,)}, "as many `highs` as `lows`, but got 1 and 2"),
        ({"lows": (), "highs": ()}, "at least 2 classes, but got 0"),
        ({"lows": (0, 10), "highs": (5, 9)}, "end at or after its start"),
        ({"lows": (0, math.nan), "highs": (5, 20)}, "start at a number"),
        ({"lows": (-math.inf, 10), "highs": (5, 20)}, "start at a number"),
        ({"lows": (10, 0), "highs": (20, 5)}, "increasing classes that do not overlap"),
        ({"lows": (0, 10), "highs": (5, 20), "values": (1,)}, "`values` for each of 2 classes, but got 1"),
        ({"lows": (0, 10), "highs": (5, 20), "values": (7, 3)}, "`values` to increase with the classes"),
        ({"lows": (0, 10), "highs": (5, 20), "values": (7, math.inf)}, "finite `values`"),
        ({"lows": (0, 10), "highs": (5, 20), "labels": ("a",)}, "`labels` for each of 2 classes, but got 1"),
        ({"lows": (0, 10), "highs": (5, 20), "labels": ("a", "a")}, "`labels` to be different names, but got 'a'"),
    ],
)
def test_invalid_fields_are_refused(fields, named):
    with pytest.raises(ValueError, match=named):
        OrdinalScale(**fields)


def test_dict_without_a_field_is_refused():
    with pytest.raises(ValueError, match=r"\['unit', 'values'\] are missing"):
        OrdinalScale.from_dict({"lows": [0, 1], "highs": [0, 1], "labels": ["0", "1"]})


@given(scales(), st.lists(st.floats(-200, 600, allow_nan=False), max_size=20))
def test_class_of_is_the_last_class_that_has_started(scale, ages):
    expected = [max([k for k in range(len(scale)) if scale.lows[k] <= age], default=0) for age in ages]

    assert scale.class_of(ages).tolist() == expected


def test_class_of_puts_fractional_ages_before_the_next_start():
    assert OrdinalScale.parse("0-10,11-20,21+").class_of([10, 10.99, 11, 20.5, 21]).tolist() == [0, 0, 1, 1, 2]


def test_class_of_keeps_the_shape():
    assert OrdinalScale.years(0, 9).class_of(np.array([[1, 2], [3, 40]])).tolist() == [[1, 2], [3, 9]]
    assert OrdinalScale.years(0, 9).class_of(4.2) == 4


def test_class_of_refuses_unknown_ages():
    with pytest.raises(ValueError, match="`ages` without NaN, but entry 1 is NaN"):
        OrdinalScale.years(0, 9).class_of([1, math.nan])


def test_nearest_rounds_years_and_grades():
    assert OrdinalScale.years(0, 9).nearest([3.4, 3.6, -5, 99]).tolist() == [3, 4, 0, 9]
    assert OrdinalScale.from_labels("abcd").nearest([0.4, 2.7]).tolist() == [0, 3]


def test_nearest_meets_half_way_between_bins():
    assert OrdinalScale.parse("0-10,11-20,31+").nearest([10.4, 10.6, 25, 26]).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("age", "inside"),
    [(-0.1, False), (0, True), (2.9, True), (3, False), (4, True), (6.9, True), (7, False), (math.nan, False)],
)
def test_contains_tells_gaps_and_edges(age, inside):
    assert OrdinalScale.parse("0-2,4-6").contains(age) == inside


def test_open_class_contains_every_later_age():
    assert OrdinalScale.parse("0-2,4+").contains([1000.0]).all()


@given(scales())
def test_every_class_contains_its_default_value_and_its_start(scale):
    for numbers in (scale.values, scale.lows):
        assert scale.class_of(numbers).tolist() == list(range(len(scale)))
        assert scale.contains(numbers).all()


def test_with_values_is_the_mean_of_the_training_ages_inside():
    scale = OrdinalScale.parse("0-10,11-20,21+").with_values([1, 2, 6, 12, -4, math.nan])

    assert scale.values == (3, 12, 26)


def test_with_values_ignores_ages_beyond_a_closed_scale():
    assert OrdinalScale.parse("0-10,11-20").with_values([80, 12]).values == (5, 12)


def test_with_values_leaves_out_ages_that_contradict_their_class():
    assert OrdinalScale.parse("0-10,11-20").with_values([2, 4, 12], classes=[0, 1, 1]).values == (2, 12)


def test_with_values_keeps_classes_unit_and_labels():
    before = OrdinalScale.from_labels(["a", "b"])
    after = before.with_values([])

    assert after == before


def test_with_values_refuses_classes_of_another_length():
    with pytest.raises(ValueError, match=r"`classes` of shape \(2,\) as `ages`, but got \(1,\)"):
        OrdinalScale.years(0, 5).with_values([1, 2], classes=[1])


@given(scale_with_coarser())
def test_mapping_agrees_with_the_class_of_every_age(scales):
    fine, coarse = scales
    ages = np.arange(0, 60, 0.25)

    assert (fine.mapping_to(coarse)[fine.class_of(ages)] == coarse.class_of(np.minimum(ages, fine.lows[-1]))).all()


def test_mapping_to_itself_is_the_identity():
    scale = OrdinalScale.parse("0-2,4-6,8+")

    assert scale.mapping_to(scale).tolist() == [0, 1, 2]


def test_open_last_class_goes_to_the_edge_class():
    years = OrdinalScale.years(89, 92, open_last=True)

    assert years.mapping_to(OrdinalScale.parse("81-90,91+")).tolist() == [0, 0, 1, 1]
    assert years.mapping_to(OrdinalScale.parse("81-90,91-100")).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("fine", "coarse", "named"),
    [
        ("0-4,5-12,13+", "0-10,11+", "'5-12' reaches from '0-10' into '11\\+'"),
        ("0-79,80+", "0-90,91+", "'80\\+' reaches from '0-90' into '91\\+'"),
    ],
)
def test_class_that_straddles_two_bins_is_refused(fine, coarse, named):
    with pytest.raises(ValueError, match=named):
        OrdinalScale.parse(fine).mapping_to(OrdinalScale.parse(coarse))


def test_mapping_between_units_is_refused():
    with pytest.raises(ValueError, match="a coarser scale in 'years', but its unit is ''"):
        OrdinalScale.years(0, 3).mapping_to(OrdinalScale.from_labels("ab"))


@given(scale_with_coarser(), st.integers(0, 2**32 - 1))
def test_coarsen_sums_like_a_plain_loop(scales, seed):
    fine, coarse = scales
    probs = np.random.default_rng(seed).dirichlet(np.ones(len(fine)), size=(3, 2))
    expected = np.zeros((3, 2, len(coarse)))
    for k, bin_of_k in enumerate(fine.mapping_to(coarse)):
        expected[..., bin_of_k] += probs[..., k]

    np.testing.assert_allclose(fine.coarsen(probs, coarse), expected, rtol=1e-12)
    np.testing.assert_allclose(np.exp(fine.coarsen(np.log(probs), coarse, log=True)), expected, rtol=1e-12)


def test_coarsen_gives_nothing_to_a_bin_without_classes():
    fine, coarse = OrdinalScale.years(0, 3), OrdinalScale.parse("0-1,2-3,4+")

    assert fine.coarsen([0.1, 0.2, 0.3, 0.4], coarse)[2] == 0
    assert fine.coarsen(np.log([0.1, 0.2, 0.3, 0.4]), coarse, log=True)[2] == -np.inf


def test_coarsen_in_log_space_keeps_very_small_probabilities():
    fine, coarse = OrdinalScale.years(0, 3), OrdinalScale.parse("0-1,2+")
    log_probs = np.array([-1000.0, -1000.0, 0.0, -np.inf])

    np.testing.assert_allclose(fine.coarsen(log_probs, coarse, log=True), [-1000 + math.log(2), 0])


def test_coarsen_keeps_the_floating_type():
    probs = np.full((2, 4), 0.25, dtype=np.float32)

    assert OrdinalScale.years(0, 3).coarsen(probs, OrdinalScale.parse("0-1,2+")).dtype == np.float32


def test_coarsen_refuses_the_wrong_number_of_columns():
    with pytest.raises(ValueError, match=r"`probs` of shape \(..., 4\), but got \(2, 3\)"):
        OrdinalScale.years(0, 3).coarsen(np.ones((2, 3)), OrdinalScale.parse("0-1,2+"))


def test_scales_can_be_compared_and_hashed():
    assert len({OrdinalScale.parse("0-10,11+"), OrdinalScale.parse("0 - 10, 11+"), OrdinalScale.years(0, 1)}) == 2
