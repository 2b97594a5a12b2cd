import dataclasses

import numpy as np
import pytest

import ordage
from ordage.cell import prepare_run
from ordage.config import RunConfig
from ordage.data.layouts import read
from ordage.diagnosis import Evidence, diagnose
from ordage.eval import ConstantBaselines, Predictions, evaluate
from ordage.progress import Reporter


def names(findings):
    return [finding["name"] for finding in findings]


def fit(data, out, **options):
    small = {"img_size": 24, "in_chans": 1, "model": "ordage_tiny", "device": "cpu", "verbosity": 0}
    return ordage.fit(data=str(data), out=out, name="a", **{**small, **options})


def test_a_model_that_cannot_move_learned_nothing_and_says_one_thing(faces, tmp_path):
    found = fit(faces, tmp_path, epochs=1, lr=0.0).report["diagnosis"]

    assert found[0]["name"] == "collapsed"
    assert "another --lr (it was 0)" in found[0]["advice"]
    assert "nothing learned" not in names(found)


@pytest.mark.slow
def test_ages_that_have_nothing_to_do_with_the_images_are_learned_by_heart(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (900, 24, 24), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=images, ages=random.integers(1, 90, 900))

    run = fit(tmp_path / "noise.npz", tmp_path, epochs=25, augment="none", ema=0.9, loss="softmax", batch_size=32)

    found = run.report["diagnosis"]
    # Of 25 epochs one may be a little better than a constant on 90 images, by chance.
    val = run.report["val"]
    assert val["headline"]["mae"]["value"] > 0.9 * val["baselines"]["median_age_mae"]
    assert "overfitting" in names(found)
    [overfitting] = [finding for finding in found if finding["name"] == "overfitting"]
    assert f"{run.report['fitted']['mae']:.2f} on images that it was trained on" in overfitting["evidence"]
    assert f"{float(run.metrics[-1]['val_mae']):.2f} after 25" in overfitting["evidence"]
    assert overfitting["advice"].startswith("--augment light")
    assert "--members 3" in overfitting["advice"]
    assert {"members": 3} in [tried["options"] for tried in overfitting["tries"]]


def test_what_the_options_throw_away_is_said(faces, tmp_path):
    found = fit(faces, tmp_path, epochs=1, img_size=12, train_on="bins").report["diagnosis"]

    said = {finding["name"]: finding for finding in found}
    assert said["ages hidden in bins"]["advice"] == "it without --train-on bins"
    assert said["detail thrown away"]["advice"] == "--img-size 24"
    assert said["colour thrown away"]["advice"] == "--in-chans 3"


@pytest.fixture
def evidence(faces, tmp_path, monkeypatch):
    """A run in which all is well: right most of the time, and a little better on what it was trained on."""
    monkeypatch.setenv("ORDAGE_CACHE", str(tmp_path))
    asked = RunConfig(data=str(faces), img_size=24, model="ordage_tiny", device="cpu")
    prepared, config = prepare_run(asked, read(asked), ["softmax"], Reporter(0))
    dataset = prepared.dataset

    def judged(part, error):
        ages = dataset.manifest.ages[dataset.index(part)]
        away = ages + np.where(np.arange(len(ages)) % 2, error, -error)
        log_probs = -np.abs(np.asarray(dataset.classes.values) - away[:, None])
        said = Predictions.from_probs(
            np.exp(log_probs) / np.exp(log_probs).sum(1, keepdims=True), dataset.classes, age=ages
        )
        constants = ConstantBaselines.fit(dataset.bins, age=dataset.manifest.ages[dataset.index("train")])
        return evaluate(said, bins=dataset.bins, baselines=constants, n_resamples=0)

    rows = [{"train_loss": 4 - epoch / 10, "val_mae": 9 - epoch / 5, "waiting_share": 0.0} for epoch in range(20)]
    return judged, Evidence(config, False, dataset, rows, judged("train", 4), judged("val", 5))


def test_what_can_be_tried_by_options_alone_is_named_as_options(faces, tmp_path):
    found = fit(faces, tmp_path, epochs=1, img_size=12, train_on="bins").report["diagnosis"]
    tries = {finding["name"]: [tried["options"] for tried in finding["tries"]] for finding in found}

    assert tries["ages hidden in bins"] == [{"train_on": "years"}]
    assert tries["detail thrown away"] == [{"img_size": 24}]
    assert tries["colour thrown away"] == [{"in_chans": 3}]
    for options in [option for tried in tries.values() for option in tried]:
        RunConfig.parse(options)


def test_a_run_in_order_has_no_finding(evidence):
    assert diagnose(evidence[1]) == []


def test_training_that_came_apart_is_seen_in_its_loss(evidence):
    rows = [{**row, "train_loss": 1 + epoch / 10} for epoch, row in enumerate(evidence[1].rows)]

    [found] = diagnose(dataclasses.replace(evidence[1], rows=rows))

    assert found["name"] == "diverged"
    assert found["evidence"] == "the training loss went from 1 up to 2.9"


def test_what_fits_others_as_well_as_its_own_may_train_longer(evidence):
    judged, seen = evidence

    [found] = diagnose(dataclasses.replace(seen, fitted=judged("train", 5)))

    assert found["name"] == "underfitting"
    assert found["advice"].startswith("--epochs 40")


def test_an_earlier_epoch_that_was_better_is_named(evidence):
    judged, seen = evidence
    rows = [{**row, "val_mae": 9 + abs(epoch - 6)} for epoch, row in enumerate(seen.rows)]

    [found] = diagnose(dataclasses.replace(seen, rows=rows, fitted=judged("train", 2)))

    assert "validation MAE 9.00 after epoch 7, 22.00 after 20" in found["evidence"]
    assert "--epochs 7" in found["advice"]


def test_bins_that_all_errors_come_from_are_worth_a_hint(evidence):
    _, seen = evidence
    val = dataclasses.replace(seen.val, rest={**seen.val.rest, "amae": 20.0})

    assert names(diagnose(dataclasses.replace(seen, val=val))) == ["rare ages neglected"]
    weighted = dataclasses.replace(seen.config, class_weights="effective")
    assert diagnose(dataclasses.replace(seen, val=val, config=weighted)) == []


def test_a_few_large_images_deserve_a_backbone_that_knows_others(evidence):
    _, seen = evidence
    large = dataclasses.replace(seen.config, img_size=64)

    assert names(diagnose(dataclasses.replace(seen, config=large))) == ["from scratch"]
    assert diagnose(dataclasses.replace(seen, config=large, pretrained=True)) == []


def test_a_model_that_stood_still_for_want_of_images_is_told(evidence):
    rows = [{**row, "waiting_share": 0.4} for row in evidence[1].rows]

    [found] = diagnose(dataclasses.replace(evidence[1], rows=rows))

    assert found["name"] == "waiting for images"
    assert "40% of the time" in found["evidence"]
