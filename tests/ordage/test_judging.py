"""Judging again: runs, other data, two models, and tables of answers, by the command line that people use."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import ordage as product
from ordage.eval import ConformalIntervals, Predictions
from ordage.judging import judge

OPTIONS = {"model": "ordage_tiny", "img_size": 16, "in_chans": 1, "epochs": 2, "bins": "0-20,21-40,41-60,61+"}


@pytest.fixture(scope="module")
def runs(faces, tmp_path_factory):
    """Two runs on the same split, with different losses."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for loss in ("softmax", "coral"):
        made[loss] = product.fit(
            data=str(faces), loss=loss, name=loss, out=folder, verbosity=0, device="cpu", **OPTIONS
        )
    return made


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """Faces that no run has seen, some of them older than any that was drawn."""
    folder = tmp_path_factory.mktemp("strangers")
    rng = np.random.default_rng(9)
    for row, age in enumerate([5, 15, 35, 55, 116, 117]):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{age}_{row % 2}_0_2017{row:013d}.jpg")
    return folder


def as_json(outcome):
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_the_calibration_stands_with_the_model_and_comes_from_validation(runs):
    run = runs["softmax"]

    stored = json.loads((run.best / "calibration.json").read_text())
    again = ConformalIntervals.fit(run.predictions("val"), coverage=0.9)
    assert stored["intervals"]["threshold"] == again.threshold
    told = run.report["test"]["intervals"]
    assert told["coverage"]["value"] == pytest.approx(again.covers(run.predictions("test")).mean())
    assert told["n_calibration"] == len(run.predictions("val"))
    assert run.report["val"]["intervals"] is None  # it would be judged on what it was fitted on


def test_a_run_is_judged_with_groups_and_intervals(runs, ordage):
    content = as_json(ordage("evaluate", runs["coral"].path, "--json"))

    assert {"gender", "race", "decade"} <= set(content["groups"])
    said = runs["coral"].predictions("test")
    women = said.groups["gender"] == "female"
    [row] = [row for row in content["groups"]["gender"]["rows"] if row["name"] == "female"]
    assert row["n"] == women.sum()
    ages = np.asarray(said.scale.values)[[np.searchsorted(p.cumsum(), 0.5 - 1e-6) for p in said.probs[women]]]
    assert row["mae"]["value"] == pytest.approx(np.abs(ages - said.age[women]).mean())
    assert content["intervals"]["promised"] == 0.9


def test_the_promise_of_the_intervals_can_be_changed(runs, ordage):
    wide = as_json(ordage("evaluate", runs["coral"].path, "--json", "--coverage", "0.95"))["intervals"]
    narrow = as_json(ordage("evaluate", runs["coral"].path, "--json", "--coverage", "0.5"))["intervals"]
    grouped = as_json(ordage("evaluate", runs["coral"].path, "--json", "--interval-by", "gender"))["intervals"]

    assert narrow["mean_width"]["value"] < wide["mean_width"]["value"]
    assert narrow["promised"] == 0.5
    assert grouped["by"] == "gender"
    refused = ordage("evaluate", runs["coral"].path, "--interval-by", "height")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--interval-by" in refused.stderr
    assert "gender" in refused.stderr
    assert ordage("evaluate", runs["coral"].path, "--coverage", "1.5").returncode == 2


def test_two_runs_are_compared_on_the_same_images(runs, ordage):
    told = as_json(ordage("evaluate", runs["coral"].path, "--baseline", runs["softmax"].path, "--json"))
    table = ordage("evaluate", runs["coral"].path, "--baseline", runs["softmax"].path)

    ours, theirs = (runs[loss].report["test"]["test"]["mae"] for loss in ("coral", "softmax"))
    assert told["difference"]["difference"] == pytest.approx(ours - theirs)
    assert told["baseline"]["test"]["mae"] == theirs
    assert told["difference"]["verdict"] in table.stdout.replace("\n", " ")


def test_runs_on_different_images_are_not_compared(runs, faces, tmp_path, ordage):
    other = product.fit(
        data=str(faces), split_seed=5, name="other", out=tmp_path, verbosity=0, device="cpu", **{**OPTIONS, "epochs": 1}
    )

    refused = ordage("evaluate", runs["coral"].path, "--baseline", other.path)

    assert (refused.returncode, refused.stdout) == (3, "")
    assert "cannot be paired" in refused.stderr


def test_other_data_is_judged_with_a_warning_beyond_the_trained_ages(runs, strangers, ordage):
    told = as_json(ordage("evaluate", runs["coral"].path, "--data", strangers, "--json"))

    assert told["n"] == 6
    assert any("2 of 6 ages lie outside" in note for note in told["notes"])
    ages = product.load(runs["coral"].path)(sorted(strangers.glob("*.jpg"))).age
    true = [int(file.name.split("_")[0]) for file in sorted(strangers.glob("*.jpg"))]
    assert told["test"]["mae"] == pytest.approx(np.abs(ages - true).mean())
    assert told["baselines"]["median_age"] == runs["coral"].report["test"]["baselines"]["median_age"]


def test_images_that_were_trained_on_are_left_out_under_any_name(runs, faces, strangers, tmp_path, ordage):
    mixed = tmp_path / "mixed"
    shutil.copytree(strangers, mixed)
    trained = pd.read_csv(runs["coral"].path / "splits.csv").query("part == 'train'")["id"].iloc[0]
    shutil.copy(faces / trained, mixed / "40_0_0_99.jpg")

    told = as_json(ordage("evaluate", runs["coral"].path, "--data", mixed, "--json"))

    assert told["n"] == 6
    assert any("1 of its images were trained or validated on" in note for note in told["notes"])


def test_the_data_that_a_run_comes_from_leaves_its_test_part(runs, faces, ordage):
    told = as_json(ordage("evaluate", runs["coral"].path, "--data", faces, "--json"))

    assert told["n"] == runs["coral"].report["test"]["n"]
    assert told["test"]["mae"] == pytest.approx(runs["coral"].report["test"]["test"]["mae"])


def test_data_with_intervals_instead_of_ages_is_judged_on_them(runs, strangers, tmp_path, ordage):
    rows = [(file, "0-20" if int(file.name.split("_")[0]) < 21 else "21+") for file in sorted(strangers.glob("*.jpg"))]
    table = tmp_path / "intervals.csv"
    pd.DataFrame(rows, columns=["path", "age"]).to_csv(table, index=False)

    told = as_json(ordage("evaluate", runs["coral"].path, "--data", table, "--json"))

    assert told["scale"]["labels"] == ["0-20", "21+"]
    assert told["error_unit"] == "bins"
    assert told["intervals"] is None
    ages = product.load(runs["coral"].path)([file for file, _ in rows])
    old = np.exp(ages.log_probs)[:, np.asarray(ages.classes.lows) > 20].sum(axis=1) > 0.5
    assert told["test"]["bin_accuracy"] == pytest.approx(np.mean(old == [text == "21+" for _, text in rows]))


def test_figures_are_drawn_where_asked(runs, tmp_path, ordage):
    told = as_json(
        ordage("evaluate", runs["coral"].path, "--baseline", runs["softmax"].path, "--figures", "drawn", "--json")
    )

    names = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "drawn").glob("**/*.png"))
    assert sorted(told["figures"]) == names
    both = {"drawn/cumulative_score.png", "drawn/risk_coverage.png"}
    own = {f"drawn/{loss}/{name}.png" for loss in ("coral", "softmax") for name in ("confusion", "reliability")}
    assert both | own <= set(names)
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)


# -- tables of answers -------------------------------------------------------------------------------------------------


@pytest.fixture
def answers(tmp_path):
    file = tmp_path / "predictions.csv"
    file.write_text(
        "file,age,age_pred,sex,person\n"
        "a.jpg,3,4.5,f,p1\nb.jpg,12,10.75,f,p1\nc.jpg,25,31,m,p2\nd.jpg,47,40.25,m,p3\ne.jpg,33,33,,p4\n"
    )
    return file


def test_answers_of_any_program_are_judged_as_they_stand(answers, ordage):
    told = as_json(ordage("evaluate", answers, "--true", "age", "--pred", "age_pred", "--json"))

    errors = np.array([1.5, 1.25, 6, 6.75, 0])
    assert told["test"] == {"n": 5, "bin_accuracy": 0.6, "off_by_one_accuracy": 1.0, "mae": errors.mean()}
    assert told["rest"]["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert told["rest"]["cs@5"] == pytest.approx(0.6)
    assert told["rest"]["nll"] is None  # a point has no likelihood
    assert told["baselines"]["median_age"] == 25
    assert "training images" not in told["groups"]
    assert any("very samples" in note for note in told["notes"])


def test_answers_have_groups_people_and_bins_where_named(answers, ordage):
    names = ("--true", "age", "--pred", "age_pred", "--group-col", "sex", "--subject-col", "person", "--id-col", "file")
    told = as_json(ordage("evaluate", answers, *names, "--bins", "0-17,18+", "--json"))

    assert told["n_subjects"] == 4
    assert told["scale"]["labels"] == ["0-17", "18+"]
    assert {row["name"]: row["n"] for row in told["groups"]["sex"]["rows"]} == {"f": 2, "m": 2}


def test_two_tables_of_answers_are_compared(answers, tmp_path, ordage):
    better = tmp_path / "better.csv"
    frame = pd.read_csv(answers)
    frame["age_pred"] = frame["age"]
    frame.to_csv(better, index=False)

    told = as_json(ordage("evaluate", better, "--baseline", answers, "--true", "age", "--pred", "age_pred", "--json"))

    assert told["difference"]["difference"] == pytest.approx(-3.1)
    assert told["difference"]["verdict"].startswith(("better has a lower MAE", "No significant difference"))


def test_markdown_is_printed_where_asked(answers, ordage):
    said = ordage("evaluate", answers, "--true", "age", "--pred", "age_pred", "--markdown").stdout

    assert "| predictions | 60.0 [" in said
    assert "| --- | ---: |" in said


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ((), 2, ["--true", "--pred"]),
        (("--true", "age", "--pred", "guess"), 2, ["--pred guess", "age_pred"]),
        (("--true", "age", "--pred", "sex"), 3, ["line 2", "sex", "'f'"]),
        (("--true", "age", "--pred", "age_pred", "--layout", "csv"), 2, ["--layout", "is a table"]),
        (("--true", "age", "--pred", "age_pred", "--bins", "0-5,3-9"), 2, ["--bins"]),
    ],
)
def test_what_is_wrong_with_a_table_is_said_in_one_line(answers, ordage, more, code, words):
    refused = ordage("evaluate", answers, *more)

    assert (refused.returncode, refused.stdout) == (code, "")
    assert refused.stderr.count("\n") == 1
    assert all(word in refused.stderr for word in words), refused.stderr


def test_options_that_mean_nothing_for_a_run_are_refused(runs, ordage):
    for more in (("--age-col", "age"), ("--true", "age"), ("--part", "train")):
        refused = ordage("evaluate", runs["coral"].path, *more)
        assert refused.returncode == 2, more
        assert more[0] in refused.stderr or more[1] in refused.stderr
    missing = ordage("evaluate", runs["coral"].path.parent / "nothing")
    assert missing.returncode == 3
    assert "no such file or folder" in missing.stderr


def test_standard_deviations_of_guesses_give_the_epsilon_error(tmp_path, faces):
    table = tmp_path / "apparent.csv"
    files = sorted(faces.iterdir())[:200]
    ages = [int(file.name.split("_")[0]) for file in files]
    pd.DataFrame({"path": files, "age": ages, "age_std": 4.0}).to_csv(table, index=False)
    run = product.fit(data=str(table), name="a", out=tmp_path, verbosity=0, device="cpu", **{**OPTIONS, "epochs": 1})

    said = Predictions.load(run.path / "predictions_test.npz")
    judged = judge(run.path, {}).evaluation
    assert said.age_std.tolist() == [4.0] * len(said)
    values = np.asarray(said.scale.values)[[np.searchsorted(p.cumsum(), 0.5 - 1e-6) for p in said.probs]]
    assert judged.rest["epsilon_error"] == pytest.approx(np.mean(1 - np.exp(-((values - said.age) ** 2) / 32)))
