import csv
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import ordage
from ordage.comparison import Comparison
from ordage.errors import DataError, NonFiniteError, UsageError
from ordage.eval import metrics
from ordage.losses import SoftmaxLoss, register, unregister

SMALL = {"img_size": 24, "in_chans": 1, "model": "ordage_tiny", "device": "cpu", "verbosity": 0, "epochs": 2}


@pytest.fixture(scope="module")
def finished(arrays, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    return ordage.compare(**SMALL, data=str(arrays), losses=("coral", "corn"), seeds=(0, 1), out=out, name="c")


def test_the_reference_runs_unasked_and_every_loss_has_every_seed(finished):
    cells = [(row["loss"], row["seed"]) for row in finished.report["results"]]

    assert sorted(cells) == sorted((loss, seed) for loss in ("coral", "corn", "softmax") for seed in (0, 1))


def test_all_cells_are_judged_on_the_same_images(finished):
    runs = [cell.run for cell in finished.cells]

    assert len({(run.path / "splits.csv").read_bytes() for run in runs}) == 1
    for run in runs:
        assert run.predictions("test").ids.tolist() == runs[0].predictions("test").ids.tolist()


def test_figures_are_means_over_seeds_of_the_cells_own(finished):
    for row in finished.report["losses"]:
        runs = [cell.run for cell in finished.cells if cell.arm.name == row["loss"]]
        errors, correct = [], []
        for run in runs:
            predictions = run.predictions("test")
            ages = np.asarray(predictions.scale.values)[metrics.median(predictions.log_probs)]
            errors.append(np.abs(ages - predictions.age).mean())
            bins = predictions.scale.tens(predictions.scale.highs[-1])
            summed = np.stack(
                [predictions.probs[:, bins.class_of(predictions.scale.lows) == k].sum(1) for k in range(len(bins))]
            )
            correct.append((summed.argmax(0) == bins.class_of(predictions.age)).mean())

        assert row["mae"]["value"] == pytest.approx(np.mean(errors))
        assert row["mae"]["seed_std"] == pytest.approx(np.std(errors, ddof=1))
        assert row["bin_accuracy"]["value"] == pytest.approx(np.mean(correct))


def test_each_loss_gets_a_verdict_against_the_reference(finished):
    pairs = finished.report["pairs"]

    assert [(pair["a"], pair["b"]) for pair in pairs] == [("coral", "softmax"), ("corn", "softmax")]
    losses = {row["loss"]: row["mae"]["value"] for row in finished.report["losses"]}
    for pair in pairs:
        assert pair["difference"] == pytest.approx(losses[pair["a"]] - losses["softmax"])
        assert pair["low"] <= pair["difference"] <= pair["high"]
        assert pair["seeds"] == 2


def test_the_summary_table_repeats_the_report(finished):
    with (finished.path / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert [float(row["mae"]) for row in rows] == [row["test"]["mae"] for row in finished.report["results"]]


def test_a_failed_cell_is_reported_and_done_again_on_resuming(arrays, tmp_path):
    @register("spoiled")
    class Spoiled(SoftmaxLoss):
        summary, source, paper_decoder = "fails when it is trained", "this test", "mode"
        broken = True

        def compute_loss(self, logits, target, **options):
            if self.broken and logits.requires_grad:
                raise RuntimeError("out of luck")
            return super().compute_loss(logits, target, **options)

    options = SMALL | {"data": str(arrays), "losses": ("spoiled", "corn"), "seeds": (0,), "out": tmp_path, "name": "c"}
    try:
        result = ordage.compare(**options)
        assert [row["loss"] for row in result.report["losses"]] == ["corn", "softmax"]
        (failed,) = result.report["failed"]
        assert failed["loss"] == "spoiled"
        assert failed["error"] == "RuntimeError: out of luck"

        Spoiled.broken = False
        again = ordage.compare(**options, resume=True)
        assert [row["loss"] for row in again.report["losses"]] == ["spoiled", "corn", "softmax"]
        assert again.report["failed"] == []
    finally:
        unregister("spoiled")


def test_intervals_hold_the_mean(finished):
    for row in finished.report["losses"]:
        for figure in (row["mae"], row["bin_accuracy"]):
            assert figure["low"] < figure["value"] < figure["high"]


def test_data_that_has_changed_is_not_resumed_on(faces, tmp_path):
    folder = shutil.copytree(faces, tmp_path / "faces")
    options = SMALL | {"data": str(folder), "losses": ("softmax",), "seeds": (0,), "epochs": 1}
    result = ordage.compare(**options, out=tmp_path, name="c")
    (result.path / "report.json").unlink()
    next(folder.iterdir()).unlink()

    with pytest.raises(DataError, match="have changed since"):
        ordage.compare(**options, out=tmp_path, name="c", resume=True)


def test_when_every_cell_fails_it_is_an_error(arrays, tmp_path):
    with pytest.raises(NonFiniteError, match="every cell failed"):
        ordage.compare(
            **SMALL, data=str(arrays), losses=("coral",), seeds=(0,), baseline=False, lr=1e30, opt="sgd", out=tmp_path
        )


def test_what_cannot_be_compared_is_refused_before_anything_runs(arrays, tmp_path):
    for options, message in (
        ({"losses": ("corall",)}, "did you mean 'coral'"),
        ({"losses": ("coral", "coral")}, "different losses"),
        ({"seeds": ()}, "different seeds"),
    ):
        with pytest.raises(UsageError, match=message):
            ordage.compare(**SMALL, data=str(arrays), out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_comparison_goes_on_and_repeats_no_finished_cell(faces, tmp_path):
    options = SMALL | {
        "data": str(faces),
        "losses": ("coral", "softmax"),
        "seeds": (0, 1),
        "epochs": 6,
        "batch_size": 16,
    }
    whole = ordage.compare(**options, out=tmp_path, name="whole")
    command = [sys.executable, "-m", "ordage", "compare", str(faces), "--losses", "coral,softmax", "--seeds", "0,1"]
    command += ["--img-size", "24", "--in-chans", "1", "--model", "ordage_tiny", "--device", "cpu", "--epochs", "6"]
    command += ["--batch-size", "16", "--out", str(tmp_path), "--name", "part"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    cells = tmp_path / "part" / "cells"
    while not list(cells.glob("*/report.json")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    done = {file: file.stat().st_mtime_ns for file in cells.glob("*/report.json")}
    assert 1 <= len(done) < 4

    resumed = ordage.compare(**options, out=tmp_path, name="part", resume=True)

    assert {file: file.stat().st_mtime_ns for file in done} == done
    for key in ("results", "pairs", "verdicts", "baselines"):
        assert resumed.report[key] == whole.report[key]


def test_a_finished_comparison_opens_again_from_its_directory(finished):
    again = Comparison(finished.path)

    assert again.config == finished.config
    assert again.report == finished.report
