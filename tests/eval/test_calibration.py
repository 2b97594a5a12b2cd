import math

import numpy as np
import pytest
import scipy.special
import sklearn.calibration

from ordage.eval import (
    Calibration,
    OrdinalScale,
    Predictions,
    apply_temperature,
    brier,
    exceedance_reliability,
    expected_calibration_error,
    fit_temperature,
    reliability,
)


def log_softmax(logits):
    return logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)


def drawn(rows, num_classes, seed=0, sharpness=2.0):
    """Logits, and classes drawn from exactly the distributions that they mean."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=sharpness, size=(rows, num_classes))
    probs = scipy.special.softmax(logits, axis=1)
    return logits, (probs.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1).clip(max=num_classes - 1)


CASES = {
    "random": (log_softmax(drawn(400, 10)[0]), drawn(400, 10)[1]),
    "two classes": (log_softmax(drawn(50, 2)[0]), drawn(50, 2)[1]),
    "many classes": (log_softmax(drawn(60, 117)[0]), drawn(60, 117)[1]),
    "one sample": (log_softmax(drawn(1, 5)[0]), drawn(1, 5)[1]),
    "one true class": (log_softmax(drawn(40, 5)[0]), np.full(40, 2)),
    "saturated": (log_softmax(drawn(100, 8, sharpness=300)[0]), drawn(100, 8)[1]),
    "certain and wrong": (np.where(np.eye(3) > 0, 0.0, -np.inf), np.array([1, 2, 0])),
    "float32": (log_softmax(drawn(200, 20)[0]).astype(np.float32), drawn(200, 20)[1]),
}
each_case = pytest.mark.parametrize(("log_probs", "target"), CASES.values(), ids=CASES)


@each_case
def test_brier_is_the_sum_of_squared_differences(log_probs, target):
    probs = np.exp(log_probs.astype(np.float64))
    expected = np.mean(
        [sum((p - (k == y)) ** 2 for k, p in enumerate(row)) for row, y in zip(probs.tolist(), target, strict=True)]
    )

    assert brier(log_probs, target) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@each_case
def test_calibration_error_is_that_of_its_definition(log_probs, target):
    probs = np.exp(log_probs.astype(np.float64))
    said, right = probs.max(axis=1), probs.argmax(axis=1) == target
    expected = 0.0
    for k in range(15):
        inside = (said > k / 15) & (said <= (k + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(said[inside].mean() - right[inside].mean())

    assert expected_calibration_error(log_probs, target) == pytest.approx(expected, abs=1e-6)


@each_case
def test_adaptive_calibration_error_has_bins_of_equal_count(log_probs, target):
    probs = np.exp(log_probs.astype(np.float64)).clip(max=1)
    said, right = probs.max(axis=1), probs.argmax(axis=1) == target
    order = np.argsort(said, kind="stable")
    number = np.arange(len(said)) * 15 // len(said)
    bins = [order[number == k] for k in range(15) if (number == k).any()]
    expected = sum(len(rows) / len(said) * abs(said[rows].mean() - right[rows].mean()) for rows in bins)

    assert max(map(len, bins)) - min(map(len, bins)) <= 1
    assert expected_calibration_error(log_probs, target, adaptive=True) == pytest.approx(expected, abs=1e-6)


def test_reliability_is_scikit_learns():
    rng = np.random.default_rng(0)
    said = rng.random(1000)
    true = rng.random(1000) < said**2
    observed, predicted = sklearn.calibration.calibration_curve(true, said, n_bins=12)

    found = reliability(said, true, n_bins=12)

    np.testing.assert_allclose(found.observed, observed)
    np.testing.assert_allclose(found.predicted, predicted)
    assert found.count.sum() == 1000


@each_case
def test_exceedance_reliability_looks_at_every_threshold(log_probs, target):
    probs = np.exp(log_probs.astype(np.float64))
    pairs = [
        (min(max(1 - row[: k + 1].sum(), 0), 1), y > k)
        for row, y in zip(probs, target, strict=True)
        for k in range(probs.shape[1] - 1)
    ]
    said, true = np.array(pairs).T

    found = exceedance_reliability(log_probs, target, n_bins=1)

    assert found.count.tolist() == [len(pairs)]
    assert found.predicted[0] == pytest.approx(said.mean(), abs=1e-6)
    assert found.observed[0] == pytest.approx(true.mean())


def test_distributions_that_mean_what_they_say_have_little_error():
    logits, target = drawn(20_000, 10)
    said = log_softmax(logits)

    assert expected_calibration_error(said, target) < 0.015
    assert exceedance_reliability(said, target).error < 0.005
    assert expected_calibration_error(apply_temperature(said, 0.4), target) > 0.1
    assert exceedance_reliability(apply_temperature(said, 0.4), target).error > 0.02


@pytest.mark.parametrize("planted", [0.3, 1.0, 2.5, 8.0])
def test_planted_temperature_is_found(planted):
    logits, target = drawn(20_000, 8)

    found = fit_temperature(log_softmax(logits * planted), target)

    assert found == pytest.approx(planted, rel=0.05)


def test_fitted_temperature_is_the_best_of_a_grid():
    logits, target = drawn(300, 6)
    log_probs = log_softmax(logits * 1.7)

    def loss(temperature):
        return -log_softmax(log_probs / temperature)[np.arange(300), target].mean()

    best = min(np.geomspace(0.05, 20, 4000), key=loss)

    assert loss(fit_temperature(log_probs, target)) <= loss(best) + 1e-7


def test_impossible_classes_do_not_decide_the_temperature():
    logits, target = drawn(2000, 4)
    log_probs = log_softmax(logits * 2)
    impossible = np.array([[0.0, -np.inf, -np.inf, -np.inf]] * 50)

    found = fit_temperature(np.concatenate([log_probs, impossible]), np.concatenate([target, np.ones(50, int)]))

    assert found == pytest.approx(fit_temperature(log_probs, target))
    assert fit_temperature(impossible, np.ones(50, int)) == 1.0


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 20.0])
def test_temperature_divides_logits(temperature):
    logits = drawn(50, 7, sharpness=40)[0]

    found = apply_temperature(log_softmax(logits), temperature)

    np.testing.assert_allclose(found, log_softmax(logits / temperature), atol=1e-9)


def test_temperature_keeps_impossible_classes_impossible():
    found = apply_temperature(np.array([[np.log(0.5), np.log(0.5), -np.inf]]), 3.0)

    np.testing.assert_allclose(np.exp(found), [[0.5, 0.5, 0.0]])


@pytest.mark.parametrize("temperature", [0, -1, math.nan])
def test_temperature_is_above_zero(temperature):
    with pytest.raises(ValueError, match="`temperature` above 0"):
        apply_temperature(np.log([[0.5, 0.5]]), temperature)


@pytest.mark.parametrize("meta", [{}, {"point_predictor": True}])
def test_calibration_survives_json(meta):
    logits, target = drawn(100, 5)
    groups = {"site": np.array(["north", "south"] * 50)}
    said = Predictions.from_probs(
        scipy.special.softmax(logits, axis=1), OrdinalScale.years(0, 4), target=target, meta=meta, groups=groups
    )
    calibration = Calibration.fit(said, coverage=0.8, by="site")

    assert Calibration.from_dict(calibration.to_dict()) == calibration
    assert (calibration.temperature is None) == bool(meta)
    with pytest.raises(ValueError, match=r"\['intervals'\] are missing"):
        Calibration.from_dict({"temperature": 1.0})


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        reliability([0.5, 1.5], [True, False])
    with pytest.raises(ValueError, match=r"`came_true` of shape \(2,\)"):
        reliability([0.5, 0.5], [True])
