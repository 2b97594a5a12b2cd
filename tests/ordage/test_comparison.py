import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

import ordage
import ordage as package
from ordage.comparison import Comparison
from ordage.errors import DataError, NonFiniteError, UsageError
from ordage.eval import bootstrap_means, metrics
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


@pytest.mark.slow
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


TINY = SMALL | {"epochs": 1}


def cells_of(comparison):
    return sorted((cell.arm.name, cell.seed, cell.fold, cell.config.lr) for cell in comparison.cells)


def test_losses_are_compared_on_every_backbone_with_the_reference_of_that_backbone(arrays, tmp_path):
    options = TINY | {"model": "auto", "models": ("ordage_tiny", "seed_cnn"), "losses": ("coral",), "seeds": (0,)}
    result = ordage.compare(**options, data=str(arrays), out=tmp_path)

    pairs = [(pair["a"], pair["b"]) for pair in result.report["pairs"]]
    assert pairs == [("coral, ordage_tiny", "softmax, ordage_tiny"), ("coral, seed_cnn", "softmax, seed_cnn")]
    for row in result.report["results"]:
        assert row["model"] in row["arm"]
    assert len(result.report["all_pairs"]) == 6


@pytest.fixture(scope="module")
def folded(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("folded")
    return ordage.compare(**TINY | {"losses": ("coral",), "seeds": (0, 1), "folds": 3}, data=str(faces), out=out)


def test_every_fold_is_tested_once_and_all_of_them_are_judged_together(folded):
    result = folded
    tested = [
        set(cell.run.predictions("test").ids) for cell in result.cells if cell.arm.name == "coral" and cell.seed == 0
    ]

    assert len(result.cells) == 12
    assert len(tested) == 3
    assert sum(map(len, tested)) == len(set.union(*tested)) == result.report["test"]["n"] == 300
    errors = {}
    for cell in result.cells:
        said = cell.run.predictions("test")
        ages = np.asarray(said.scale.values)[metrics.median(said.log_probs)]
        errors.setdefault((cell.arm.name, cell.seed), []).extend(np.abs(ages - said.age))
    for row in result.report["losses"]:
        assert row["mae"]["value"] == pytest.approx(np.mean([np.mean(errors[row["arm"], seed]) for seed in (0, 1)]))


def test_figures_by_the_papers_rule_are_of_the_cells_that_the_others_are_of(folded, tmp_path):
    result = Comparison(shutil.copytree(folded.path, tmp_path / "c"))
    own = [cell for cell in result.cells if cell.arm.name == "coral"]
    shutil.rmtree(next(cell.run.path for cell in own if (cell.seed, cell.fold) == (1, 2)))
    whole = [cell.run.report["test"] for cell in own if cell.seed == 0]

    row = next(row for row in result.standings()["losses"] if row["arm"] == "coral")

    assert row["seeds"] == [0]
    for name in ("bin_accuracy", "off_by_one_accuracy", "mae"):
        folds = [report["decoders"]["paper"][name] for report in whole]
        assert row["paper"][name] == pytest.approx(np.average(folds, weights=[report["n"] for report in whole]))


def test_one_fold_of_several_can_be_asked_for(faces, tmp_path):
    result = ordage.compare(**TINY, data=str(faces), losses=("softmax",), seeds=(0,), folds=3, fold=2, out=tmp_path)

    assert cells_of(result) == [("softmax", 0, 2, 0.008)]


@pytest.mark.slow
def test_learning_rates_are_chosen_on_validation_for_each_loss_alike(arrays, tmp_path):
    rates = (1e-5, 4e-3)
    options = TINY | {"losses": ("coral",), "seeds": (0, 1), "lrs": rates, "epochs": 2}
    result = ordage.compare(**options, data=str(arrays), out=tmp_path)
    tried = {(row["arm"], row["lr"]): row["val_mae"] for row in result.report["tuning"]}

    assert set(tried) == {(arm, rate) for arm in ("coral", "softmax") for rate in rates}
    for arm in ("coral", "softmax"):
        best = min(rates, key=lambda rate: tried[arm, rate])
        assert {cell.config.lr for cell in result.cells if cell.arm.name == arm} == {best}
    # The trial that was chosen is the first seed's cell: nothing is trained twice.
    assert len(list((result.path / "cells").iterdir())) == 4 + 2


@pytest.mark.slow
def test_cells_side_by_side_give_what_one_after_another_gives(arrays, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = TINY | {"losses": ("coral",), "seeds": (0, 1), "data": str(arrays)}
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a sum over another number of threads has other last bits
    try:
        alone = ordage.compare(**options, out=tmp_path, name="alone")
        together = ordage.compare(**options, out=tmp_path, name="together", jobs=2)
    finally:
        torch.set_num_threads(threads)

    for key in ("results", "pairs", "measures", "losses"):
        told = [json.loads(json.dumps(each.report[key])) for each in (alone, together)]
        for rows in told if key == "losses" else []:
            for row in rows:
                del row["seconds"], row["images_per_second"]
        assert told[0] == told[1]


@pytest.mark.slow
def test_a_cell_that_fails_in_a_process_of_its_own_is_reported(arrays, tmp_path):
    options = TINY | {"losses": ("coral:no=1",), "seeds": (0,), "data": str(arrays), "out": tmp_path}
    with pytest.raises(UsageError):
        ordage.compare(**options, jobs=2)

    result = ordage.compare(
        **TINY | {"opt": "sgd"},
        losses=("regression", "softmax"),
        seeds=(0,),
        lrs=(1e30, 1e-3),
        jobs=2,
        data=str(arrays),
        out=tmp_path,
    )
    assert {failed["lr"] for failed in result.report["failed"]} == {1e30}
    assert {failed["exit_code"] for failed in result.report["failed"]} == {4}
    assert {row["lr"] for row in result.report["results"]} == {1e-3}


def test_a_loss_of_this_process_alone_is_not_given_to_others(arrays, tmp_path):
    @register("homemade")
    class Homemade(SoftmaxLoss):
        summary, source, paper_decoder = "softmax by another name", "this test", "mode"

    options = TINY | {"losses": ("homemade",), "seeds": (0,), "data": str(arrays), "out": tmp_path}
    try:
        with pytest.raises(UsageError, match="homemade: is registered in this process alone"):
            ordage.compare(**options, jobs=2)
        assert not list(tmp_path.iterdir())
        assert ordage.compare(**options).report["failed"] == []
    finally:
        unregister("homemade")


@pytest.mark.slow
def test_on_a_cpu_cells_are_trained_side_by_side_unasked(arrays, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)  # whatever this machine has
    options = TINY | {"losses": ("softmax",), "seeds": (0, 1), "data": str(arrays), "out": tmp_path, "verbosity": 1}

    ordage.compare(**options, name="unasked")
    assert "2 trainings side by side" in capfd.readouterr().err
    ordage.compare(**options, name="asked", jobs=1)
    assert "side by side" not in capfd.readouterr().err
    ordage.compare(**options | {"epochs": None}, time_limit="2s", name="limited")
    assert "side by side" not in capfd.readouterr().err


@pytest.mark.slow
def test_interrupted_side_by_side_it_goes_on_with_the_same_result(arrays, tmp_path):
    options = {**SMALL, "epochs": 6, "data": str(arrays), "losses": ("coral",), "seeds": (0, 1), "jobs": 2}
    whole = ordage.compare(**options, out=tmp_path, name="whole")
    call = "import sys, json, ordage; ordage.compare(**json.loads(sys.argv[1]), name='part')"
    process = subprocess.Popen(
        [sys.executable, "-c", call, json.dumps(options | {"out": str(tmp_path)})], stderr=subprocess.PIPE, text=True
    )
    states = tmp_path / "part" / "cells"
    while not list(states.glob("*/checkpoints/last/state.pt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=180)
    assert process.returncode != 0
    assert not (tmp_path / "part" / "report.json").exists()

    resumed = ordage.compare(**options, out=tmp_path, name="part", resume=True)

    for key in ("results", "pairs", "measures"):
        assert resumed.report[key] == whole.report[key]


@pytest.mark.slow
def test_the_ladder_changes_one_thing_a_step(faces, tmp_path):
    options = {"device": "cpu", "verbosity": 0, "epochs": 1, "img_size": 24, "seeds": (0,)}
    result = ordage.compare(**options, data=str(faces), ladder=True, out=tmp_path)
    arms = {arm.name: arm for arm in result.design.arms}
    steps = list(arms)

    assert steps[0] == "plain softmax on bins"
    assert [(pair["a"], pair["b"]) for pair in result.report["pairs"]] == [
        (after, before) for before, after in pairwise(steps)
    ]
    first = arms[steps[0]].config
    assert (first.model, first.loss, first.train_on, first.augment, first.in_chans) == (
        "seed_cnn",
        "softmax",
        "bins",
        "none",
        1,
    )
    changed = {
        "+ augmentation": {"augment"},
        "+ ordage_small": {"model"},
        "+ years instead of bins": {"train_on"},
        "+ ordinal loss": {"loss"},
        "+ colour": {"in_chans"},
    }
    for before, after in pairwise(steps):
        one, other = arms[before].config.to_dict(), arms[after].config.to_dict()
        follows = {"opt", "lr", "batch_size", "tta", "precision"}  # what a net or an augmentation brings with it
        assert {name for name in one if one[name] != other[name]} - follows == changed[after]


def test_the_ladder_takes_no_option_that_it_sets(arrays):
    with pytest.raises(UsageError, match="--ladder sets --model itself"):
        ordage.compare(**TINY, data=str(arrays), ladder=True)


def test_the_plan_is_told_without_training(arrays, tmp_path, ordage):
    arguments = ("compare", arrays, "--losses", "coral", "--seeds", "0,1", "--epochs", "3", "--img-size", "24")
    result = ordage(*arguments, "--device", "cpu", "--dry-run", "--json", "-q")
    planned = json.loads(result.stdout)

    assert result.returncode == 0, result.stderr
    assert [(arm["arm"], arm["cells"]) for arm in planned["arms"]] == [("coral", 2), ("softmax", 2)]
    assert planned["cells"] == 4
    assert planned["seconds"] == pytest.approx(sum(2 * arm["seconds_per_cell"] for arm in planned["arms"]))
    assert all(arm["seconds_per_cell"] > 3 * arm["seconds_per_step"] > 0 for arm in planned["arms"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_loss_with_a_spoiled_label_distribution_is_found_worse(arrays, tmp_path):
    @register("spoiled")
    class Spoiled(SoftmaxLoss):
        summary, source, paper_decoder = "learns labels that are half a scale off", "this test", "mode"

        def compute_loss(self, logits, target, **options):
            return super().compute_loss(logits, (target + self.num_classes // 2) % self.num_classes, **options)

    try:
        result = ordage.compare(**SMALL, data=str(arrays), losses=("spoiled",), seeds=(0, 1, 2), out=tmp_path)
    finally:
        unregister("spoiled")
    (pair,) = result.report["pairs"]

    assert pair["significant"]
    assert pair["difference"] > 0
    assert "higher MAE than softmax" in pair["verdict"]


def test_what_it_would_take_to_see_a_difference_is_told(finished):
    for pair in finished.report["pairs"]:
        assert pair["effort"]["text"].endswith(".")
        assert pair["effort"]["n"] == pair["n"]


def test_differences_are_also_told_by_the_other_figures(finished):
    rows = {row["arm"]: row for row in finished.report["losses"]}

    for name in ("bin_accuracy", "off_by_one_accuracy"):
        for pair in finished.report["measures"][name]:
            expected = 100 * (rows[pair["a"]][name]["value"] - rows[pair["b"]][name]["value"])
            assert pair["difference"] == pytest.approx(expected)
    for pair in finished.report["measures"]["paper_mae"]:
        expected = rows[pair["a"]]["paper"]["mae"] - rows[pair["b"]]["paper"]["mae"]
        assert pair["difference"] == pytest.approx(expected)


@pytest.mark.slow
def test_a_report_in_between_does_not_end_a_comparison(arrays, tmp_path, ordage):
    options = TINY | {"losses": ("softmax",), "seeds": (0, 1), "data": str(arrays), "out": tmp_path, "name": "c"}
    package.compare(**options)
    (tmp_path / "c" / "report.json").unlink()
    shutil.rmtree(tmp_path / "c" / "cells" / "softmax-seed1")  # as if it had been interrupted before that

    assert ordage("report", tmp_path / "c").returncode == 0
    resumed = package.compare(**options, resume=True)

    assert [row["seed"] for row in resumed.report["results"]] == [0, 1]


def test_people_of_different_folds_are_different_people(drawn, tmp_path):
    for row, image in enumerate(drawn.images):
        Image.fromarray(image).save(tmp_path / f"{row}.png")
    people = np.arange(300) // 3
    lines = [f"{row}.png,{age},p{person}" for row, (age, person) in enumerate(zip(drawn.ages, people, strict=True))]
    (tmp_path / "faces.csv").write_text("\n".join(["file,age,person", *lines]) + "\n")
    result = package.compare(
        **TINY,
        data=str(tmp_path / "faces.csv"),
        subject_col="person",
        losses=("softmax",),
        seeds=(0,),
        folds=3,
        out=tmp_path / "runs",
    )
    errors, shown = [], []
    for cell in result.cells:
        said = cell.run.predictions("test")
        errors.append(np.abs(np.asarray(said.scale.values)[metrics.median(said.log_probs)] - said.age))
        shown.append(said.subject)
    expected = bootstrap_means({"mae": np.concatenate(errors)}, cluster=np.concatenate(shown))["mae"]

    assert result.report["test"]["n_subjects"] == 100
    (row,) = result.report["losses"]
    assert (row["mae"]["low"], row["mae"]["high"]) == pytest.approx((expected.low, expected.high))


def test_a_rate_that_was_found_is_reported(arrays, tmp_path, ordage):
    result = package.compare(**TINY, data=str(arrays), losses=("softmax",), seeds=(0,), lr="find", out=tmp_path)

    assert 1e-5 < result.report["results"][0]["lr"] < 1
    planned = ordage("compare", arrays, "--losses", "softmax", "--seeds", "0", "--lr", "find", "--dry-run", "-q")
    assert planned.returncode == 0, planned.stderr
