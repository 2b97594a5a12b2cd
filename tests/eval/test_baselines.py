import numpy as np
import pytest

from ordage.eval import ConstantBaselines, OrdinalScale

BINS = OrdinalScale.parse("0-10,11-20,21-30,31+")


def test_constants_are_those_of_the_training_labels():
    constants = ConstantBaselines.fit(BINS, age=[5, 12, 13, 14, 40])

    assert constants.majority_bin == 1
    assert constants.median_bin == 1
    assert constants.median_age == 13


def test_constants_are_judged_on_the_test_labels():
    constants = ConstantBaselines.fit(BINS, age=[5, 12, 13, 14, 40])
    ages = np.array([3, 15, 25, 60])

    scores = constants.score(BINS.class_of(ages), ages)

    assert scores.majority_bin_accuracy == 1 / 4
    assert scores.majority_bin_off_by_one_accuracy == 3 / 4
    assert scores.median_age_mae == (10 + 2 + 12 + 47) / 4
    assert scores.median_bin_mae == (1 + 0 + 1 + 2) / 4


def test_no_constant_has_a_lower_training_error_than_the_median_nor_a_higher_accuracy_than_the_majority():
    ages = np.random.default_rng(0).gamma(3, 9, 1001)
    target = BINS.class_of(ages)
    constants = ConstantBaselines.fit(BINS, age=ages)
    scores = constants.score(target, ages)

    assert scores.median_age_mae <= min(np.abs(ages - guess).mean() for guess in np.linspace(0, 99, 500)) + 1e-12
    assert scores.median_bin_mae == min(np.abs(target - guess).mean() for guess in range(4))
    assert scores.majority_bin_accuracy == max((target == guess).mean() for guess in range(4))


def test_error_in_years_needs_ages_on_both_sides():
    target = np.array([0, 1, 1])
    without_train_ages = ConstantBaselines.fit(BINS, target=target)
    with_train_ages = ConstantBaselines.fit(BINS, age=[5, 12, 13])

    assert np.isnan(without_train_ages.median_age)
    assert np.isnan(without_train_ages.score(target, [1, 12, 13]).median_age_mae)
    assert np.isnan(with_train_ages.score(target).median_age_mae)
    assert with_train_ages.score(target).majority_bin_accuracy == 2 / 3


def test_samples_of_unknown_age_count_for_bins_only():
    constants = ConstantBaselines.fit(BINS, target=[0, 1, 1], age=[4, np.nan, 14])

    assert constants.median_age == 9
    assert constants.score([0, 1], [5, np.nan]).median_age_mae == 4


def test_majority_of_a_tie_is_the_first_bin():
    assert ConstantBaselines.fit(BINS, target=[3, 1, 3, 1]).majority_bin == 1


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: ConstantBaselines.fit(BINS), "`target`, `age` or both"),
        (lambda: ConstantBaselines.fit(BINS, age=[]), r"`target` of shape \(N,\) with N >= 1"),
        (lambda: ConstantBaselines.fit(BINS, target=[4]), r"class of `target` to be in 0..3, but row 0 is 4"),
        (lambda: ConstantBaselines.fit(BINS, target=[1], age=[1, 2]), r"`age` of shape \(1,\)"),
        (lambda: ConstantBaselines.fit(BINS, target=[1]).score([1, 2], [3]), r"`age` of shape \(2,\)"),
    ],
)
def test_invalid_labels_are_refused(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_ages_are_sorted_by_how_many_training_images_share_them():
    ages = [3] * 101 + [4] * 100 + [5] * 20 + [6.5] * 19
    constants = ConstantBaselines.fit(OrdinalScale.parse("0-4,5+"), age=ages)

    many, medium, few = "many (over 100)", "medium (20 to 100)", "few (under 20)"
    assert constants.shots([3, 3.9, 4, 5, 6, 7, 200, np.nan]).tolist() == [
        many,
        many,
        medium,
        medium,
        few,
        few,
        few,
        "",
    ]
