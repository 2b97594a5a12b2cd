import json
import math

import numpy as np
import pytest

from ordage.eval import ConstantBaselines, OrdinalScale, Predictions, decode, evaluate, median

BINS = OrdinalScale.parse("0-10,11-20,21-30,31+")
YEARS = OrdinalScale.years(0, 45)


def random_predictions(scale=YEARS, rows=200, seed=0, **fields):
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 46, rows).astype(float)
    scores = -np.abs(np.asarray(scale.values) - age[:, np.newaxis] - rng.normal(scale=5, size=(rows, 1))) / 4
    probs = np.exp(scores + rng.normal(size=scores.shape))
    return Predictions.from_probs(probs / probs.sum(axis=1, keepdims=True), scale, **({"age": age} | fields))


def width(figure):
    return figure.high - figure.low


def by_hand():
    """Three samples on three bins that stand for 5, 15.5 and 26."""
    probs = [[0.6, 0.3, 0.1], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7]]
    return Predictions.from_probs(probs, OrdinalScale.parse("0-10,11-20,21+"), age=[3, 26, 4])


def test_headline_figures_by_hand():
    result = evaluate(by_hand())

    # Modes 0, 0, 2 and medians 0, 1, 2 against the classes 0, 2, 0.
    assert result.headline.bin_accuracy.value == pytest.approx(1 / 3)
    assert result.headline.off_by_one_accuracy.value == pytest.approx(2 / 3)
    assert result.headline.mae.value == pytest.approx((2 + 10.5 + 22) / 3)
    assert result.mae_bins.value == pytest.approx((0 + 1 + 2) / 3)
    assert result.rest["rmse"] == pytest.approx(math.sqrt(((10.25 - 3) ** 2 + (14.45 - 26) ** 2 + (21.8 - 4) ** 2) / 3))
    assert result.rest["cs@3"] == pytest.approx(1 / 3)


def test_headline_names_decoders_and_units():
    headline = evaluate(by_hand()).headline

    assert (headline.bin_accuracy.decoder, headline.bin_accuracy.unit) == ("mode", "share")
    assert (headline.off_by_one_accuracy.decoder, headline.off_by_one_accuracy.unit) == ("median", "share")
    assert (headline.mae.decoder, headline.mae.unit) == ("median", "years")


def test_test_figures_are_those_of_the_headline():
    result = evaluate(by_hand())

    assert result.test == {
        "n": 3,
        "bin_accuracy": result.headline.bin_accuracy.value,
        "off_by_one_accuracy": result.headline.off_by_one_accuracy.value,
        "mae": result.headline.mae.value,
    }


def test_intervals_hold_their_figures():
    result = evaluate(random_predictions(), bins=BINS)

    for figure in (*vars(result.headline).values(), result.mae_bins):
        assert figure.low < figure.value < figure.high


def test_model_of_years_is_judged_on_bins_by_summed_probabilities():
    said = random_predictions()
    sums = np.stack(
        [said.probs[:, low : high + 1].sum(axis=1) for low, high in ((0, 10), (11, 20), (21, 30), (31, 45))], 1
    )

    result = evaluate(said, bins=BINS)

    assert result.scale == BINS
    assert result.headline.bin_accuracy.value == np.mean(sums.argmax(axis=1) == BINS.class_of(said.age))
    assert result.headline.mae.value == pytest.approx(np.mean(np.abs(median(said.log_probs) - said.age)))


def test_every_loss_is_decoded_alike_whatever_its_paper_does():
    # Decoding one model by the mode and its rival by the median flatters the rival.
    plain = random_predictions(meta={"paper_decoder": "mode"})
    ordinal = random_predictions(meta={"paper_decoder": "median"})
    one, other = evaluate(plain, bins=BINS), evaluate(ordinal, bins=BINS)

    assert one.headline == other.headline
    assert one.rest == other.rest
    assert one.decoders["median"] == other.decoders["median"]
    assert one.decoders["mode"].mae > one.decoders["median"].mae
    assert one.decoders["paper"].mae == one.decoders["mode"].mae
    assert other.decoders["paper"].mae == one.decoders["median"].mae
    assert (one.decoders["paper"].decoder, other.decoders["paper"].decoder) == ("mode", "median")


def test_paper_decodes_on_its_own_classes_before_binning():
    # The most probable year is 10, the most probable bin 11-20.
    probs = np.zeros((1, 46))
    probs[0, [10, 12, 14]] = 0.4, 0.3, 0.3
    said = Predictions.from_probs(probs, YEARS, age=[9], meta={"paper_decoder": "mode"})

    result = evaluate(said, bins=BINS, n_resamples=0)

    assert result.decoders["paper"].bin_accuracy == 1
    assert result.decoders["mode"].bin_accuracy == 0


@pytest.mark.parametrize("how", ["mode", "median", "mean"])
def test_each_decoder_figure_follows_from_its_decoded_values(how):
    said = random_predictions()
    answer = decode(said, how)
    figures = evaluate(said, n_resamples=0).decoders[how]

    assert figures.mae == pytest.approx(np.mean(np.abs(answer.values - said.age)))
    assert figures.rmse == pytest.approx(np.sqrt(np.mean((answer.values - said.age) ** 2)))
    assert figures.bin_accuracy == np.mean(answer.classes == said.target)
    assert figures.off_by_one_accuracy == np.mean(np.abs(answer.classes - said.target) <= 1)
    assert figures.mae_bins == np.mean(np.abs(answer.classes - said.target))


def test_without_a_named_rule_there_is_no_paper_entry():
    assert sorted(evaluate(by_hand()).decoders) == ["mean", "median", "mode"]


def test_unknown_rule_of_a_paper_is_refused():
    said = random_predictions(meta={"paper_decoder": "argmax"})

    with pytest.raises(ValueError, match=r"a decoder among .* but got 'argmax'"):
        evaluate(said)


def test_constants_stand_beside_the_figures_and_show_a_model_that_is_worse():
    # A published table has a model that a constant beats, and does not show the constant.
    ages = np.array([20.0, 21, 22, 23, 24])
    far_off = np.zeros((5, 46))
    far_off[:, 30] = 1
    result = evaluate(
        Predictions.from_probs(far_off, YEARS, age=ages), bins=BINS, baselines=ConstantBaselines.fit(BINS, age=ages)
    )

    assert result.baselines["median_age_mae"] == pytest.approx(1.2)
    assert result.baselines["median_age"] == 22
    assert result.baselines["majority_bin"] == "21-30"
    assert result.baselines["majority_bin_accuracy"] == 0.8
    assert result.headline.mae.value > result.baselines["median_age_mae"]


def test_constants_of_other_bins_are_refused():
    with pytest.raises(ValueError, match=r"`baselines` on 0-10,11-20,21-30,31\+, but theirs are 0-20,21\+"):
        evaluate(
            random_predictions(),
            bins=BINS,
            baselines=ConstantBaselines.fit(OrdinalScale.parse("0-20,21+"), age=[1]),
        )


def test_error_is_in_bins_where_no_age_is_known():
    known = random_predictions(BINS)
    said = random_predictions(BINS, age=None, target=known.target)
    result = evaluate(said)

    assert result.error_unit == result.headline.mae.unit == "bins"
    assert result.headline.mae.value == result.mae_bins.value
    assert result.test["mae"] == pytest.approx(np.mean(np.abs(median(said.log_probs) - said.target)))
    assert result.test["mae_unit"] == "bins"
    assert list(result.test) == ["n", "bin_accuracy", "off_by_one_accuracy", "mae", "mae_unit"]
    assert result.n_ages == 0
    assert result.decoders["mode"].mae == result.decoders["mode"].mae_bins
    expected = said.probs @ np.arange(4)
    assert result.decoders["mean"].rmse == pytest.approx(np.sqrt(np.mean((expected - said.target) ** 2)), rel=1e-5)


@pytest.mark.parametrize("paper", ["mode", "median", "mean"])
def test_paper_rule_works_in_bins_too(paper):
    known = random_predictions()
    said = random_predictions(age=None, target=known.target, meta={"paper_decoder": paper})

    figures = evaluate(said, bins=BINS, n_resamples=0).decoders["paper"]

    assert figures.decoder == paper
    assert 0 < figures.mae < 2


def test_grades_need_no_ages():
    grades = OrdinalScale.from_labels(["none", "mild", "severe"])
    said = Predictions.from_probs([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]], grades, target=[0, 1])

    assert evaluate(said).test == {
        "n": 2,
        "bin_accuracy": 0.5,
        "off_by_one_accuracy": 1.0,
        "mae": 0.5,
        "mae_unit": "bins",
    }


def test_samples_of_unknown_age_count_in_bins_and_not_in_years():
    full = random_predictions(BINS)
    age = full.age.copy()
    age[::2] = np.nan
    said = random_predictions(BINS, age=age, target=full.target)

    result, of_known, of_all = evaluate(said), evaluate(full.select(np.isfinite(age))), evaluate(full)

    assert result.headline.mae.value == pytest.approx(of_known.headline.mae.value)
    assert result.rest["rmse"] == pytest.approx(of_known.rest["rmse"])
    assert result.headline.bin_accuracy.value == of_all.headline.bin_accuracy.value
    assert result.mae_bins.value == of_all.mae_bins.value
    assert (result.n, result.n_ages) == (200, 100)
    assert "mae_unit" not in result.test


def test_intervals_are_by_subject_where_subjects_are_known():
    alone = random_predictions(rows=60)
    copies = alone.select(np.repeat(np.arange(60), 10))
    same_person = Predictions.from_probs(
        copies.probs, YEARS, age=copies.age, subject=np.repeat(np.arange(60), 10).astype(str)
    )

    by_image, by_subject = evaluate(copies), evaluate(same_person)

    assert by_image.n_subjects is None
    assert (by_subject.n, by_subject.n_subjects) == (600, 60)
    assert width(by_subject.headline.mae) > 2.5 * width(by_image.headline.mae)


def test_collapse_onto_one_class_is_flagged():
    rng = np.random.default_rng(0)
    probs = np.full((100, 4), 0.1)
    probs[:, 1] = 0.7
    collapsed = Predictions.from_probs(probs, BINS, age=rng.integers(0, 45, 100))
    mixed_probs = probs.copy()
    mixed_probs[:10] = 0.1, 0.1, 0.1, 0.7
    mixed = Predictions.from_probs(mixed_probs, BINS, age=collapsed.age)

    assert evaluate(collapsed).rest["collapsed"] is True
    assert math.isnan(evaluate(collapsed).rest["spearman"])
    assert evaluate(mixed).rest["collapsed"] is False
    assert evaluate(mixed).rest["largest_predicted_share"] == 0.9


def test_violation_rate_is_the_share_of_violating_samples_or_unknown():
    violation = np.arange(200) % 4 == 0

    assert evaluate(random_predictions(violation=violation)).rest["violation_rate"] == 0.25
    assert math.isnan(evaluate(random_predictions()).rest["violation_rate"])


def test_point_predictors_have_no_likelihood():
    assert math.isnan(evaluate(random_predictions(meta={"point_predictor": True})).rest["nll"])
    assert evaluate(random_predictions(meta={"point_predictor": False})).rest["nll"] > 0


@pytest.mark.parametrize(
    "said",
    [
        by_hand(),
        by_hand().select([0]),
        random_predictions(OrdinalScale.parse("0-20,21+")),
        random_predictions(OrdinalScale.years(0, 116), meta={"loss": "coral"}),
        random_predictions(OrdinalScale.parse("0-2,4-6,8+"), rows=1),
        Predictions.from_probs([[1, 0], [1, 0]], OrdinalScale.parse("0-9,10+"), age=[20, 30]),
        Predictions.from_probs([[1, 0], [1, 0]], OrdinalScale.parse("0-9,10+"), target=[0, 0]),
    ],
    ids=["by hand", "one sample", "two classes", "117 classes", "one of three", "held impossible", "one class"],
)
@pytest.mark.filterwarnings("error")
def test_result_is_strict_json_on_degenerate_inputs_too(said):
    result = evaluate(said, n_resamples=20, baselines=ConstantBaselines.fit(said.scale, target=[0, 1]))

    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))

    assert data["headline"]["mae"]["value"] == result.headline.mae.value
    assert data["test"] == result.test
    assert OrdinalScale.from_dict(data["scale"]) == said.scale
    assert data["n"] == len(said)


def test_no_resamples_leave_intervals_unknown():
    result = evaluate(by_hand(), n_resamples=0)

    assert math.isnan(result.headline.mae.low)
    assert result.to_dict()["headline"]["mae"]["low"] is None


def test_same_seed_gives_the_same_result():
    one, other, third = (evaluate(random_predictions(), n_resamples=50, seed=seed) for seed in (1, 1, 2))

    assert one.headline == other.headline
    assert one.headline.mae != third.headline.mae


def test_bins_that_cut_a_class_are_refused():
    with pytest.raises(ValueError, match="reaches from"):
        evaluate(random_predictions(BINS), bins=OrdinalScale.parse("0-15,16+"))


def test_predictions_are_left_as_they_were():
    said = random_predictions()
    before = said.log_probs.copy(), said.target.copy(), said.age.copy()

    evaluate(said, bins=BINS, n_resamples=10)

    for array, copy in zip((said.log_probs, said.target, said.age), before, strict=True):
        np.testing.assert_array_equal(array, copy)
