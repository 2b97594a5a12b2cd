import math

import numpy as np
import pytest

import ordage
from ordage.errors import NonFiniteError, UsageError
from ordage.lr_finder import has_diverged, smooth, suggest_lr

SMALL = {"img_size": 24, "in_chans": 1, "model": "ordage_tiny", "device": "cpu", "verbosity": 0, "epochs": 1}


def test_losses_are_smoothed_as_adam_smooths_its_moments():
    losses = [3.0, 1.0, 4.0, 1.0, 5.0]

    expected = []
    for step in range(1, 6):
        weights = [0.9 ** (step - 1 - place) for place in range(step)]
        expected.append(float(np.average(losses[:step], weights=weights)))

    np.testing.assert_allclose(smooth(losses), expected)


def test_the_rate_lies_a_tenth_below_that_of_the_lowest_loss():
    rates = np.geomspace(1e-5, 1, 100)
    losses = 2 + np.abs(np.log10(rates) + 1)  # lowest at 0.1, and smoothing comes a little late

    assert 0.01 <= suggest_lr(rates.tolist(), losses.tolist()) <= 0.03


def test_losses_that_are_not_finite_end_the_search():
    assert has_diverged([2.0, 1.0, math.nan])
    assert has_diverged([2.0, 1.0, 40.0])
    assert not has_diverged([2.0, 1.0, 4.0])  # one unlucky batch
    assert suggest_lr([0.1, 0.2, 0.4], [2.0, 1.0, math.inf]) == pytest.approx(0.02)
    with pytest.raises(NonFiniteError, match=r"the loss is nan at a rate of 0\.1"):
        suggest_lr([0.1], [math.nan])


@pytest.mark.slow
def test_a_found_rate_is_saved_and_gone_on_with(arrays, tmp_path):
    options = {**SMALL, "data": str(arrays), "out": tmp_path, "name": "run"}
    run = ordage.fit(**options, lr="find")
    rate = run.config.lr

    assert 1e-5 < rate < 1
    again = ordage.fit(**{**options, "name": "again"}, lr="find")
    assert again.config.lr == rate
    by_hand = ordage.fit(**{**options, "name": "by_hand"}, lr=rate)
    # the search leaves no trace in the model
    assert [row["train_loss"] for row in by_hand.metrics] == [row["train_loss"] for row in run.metrics]
    (run.path / "report.json").unlink()
    assert ordage.fit(**options, lr="find", resume=True).config.lr == rate


def test_what_is_neither_a_number_nor_find_is_said(arrays):
    with pytest.raises(UsageError, match="lr to be a number or 'find', but got 'fnid'"):
        ordage.fit(**SMALL, data=str(arrays), lr="fnid")
