import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import ordage as package
from ordage.eval import decode


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return package.fit(
        data=str(faces), img_size=24, model="ordage_tiny", device="cpu", epochs=2, verbosity=0, out=out, name="a"
    )


@pytest.fixture(scope="module")
def expected(run, faces):
    """What the run's own test said, by the path of the file."""
    said = run.predictions("test")
    intervals = run.calibration.intervals
    first, last = intervals.of(said)
    frame = pd.DataFrame(
        {
            "path": [str(faces / name) for name in said.ids],
            "age": decode(said, "median").values,
            "low": np.asarray(said.scale.lows)[first],
            "high": np.asarray(said.scale.highs)[last],
        }
    )
    return frame.set_index("path")


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_what_is_said_of_files_is_what_the_test_said(run, expected, ordage):
    result = ordage("predict", run.path, *expected.index)
    rows = rows_of(result.stdout)

    assert result.returncode == 0, result.stderr
    assert [row["path"] for row in rows] == list(expected.index)
    for row in rows:
        told = expected.loc[row["path"]]
        assert [float(row[name]) for name in ("age", "low", "high")] == told.tolist()
        assert row["error"] == ""
        assert row["width"] == row["height"] == "24"


def test_bins_probabilities_and_spread_follow_from_the_distribution(run, expected, ordage):
    frame = pd.read_csv(io.StringIO(ordage("predict", run.path, *expected.index, "--probs").stdout))
    said = run.predictions("test")
    probs = frame[[f"p_{label}" for label in said.scale.labels]].to_numpy()
    ages = np.asarray(said.scale.values)

    flattened = said.probs ** (1 / run.calibration.temperature)
    np.testing.assert_allclose(probs, flattened / flattened.sum(axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    mean = (probs * ages).sum(axis=1)
    np.testing.assert_allclose(frame["spread"], np.sqrt((probs * (ages - mean[:, None]) ** 2).sum(axis=1)), atol=1e-2)
    lows = np.asarray(said.scale.lows)
    for label, share, row in zip(frame["bin"], frame["bin_probability"], probs, strict=True):
        low, _, high = label.rstrip("+").partition("-")
        inside = (lows >= float(low)) & (lows <= float(high or 1e9))
        assert share == pytest.approx(row[inside].sum(), abs=1e-5)


def test_folders_patterns_tables_and_a_list_name_the_same_images(run, faces, tmp_path, ordage, monkeypatch):
    files = sorted(str(file) for file in faces.iterdir())
    table = tmp_path / "some.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("photo",), *((name,) for name in files)])
    whole = rows_of(ordage("predict", run.path, faces).stdout)

    assert [row["path"] for row in whole] == files
    assert rows_of(ordage("predict", run.path, f"{faces}/*.jpg").stdout) == whole
    assert rows_of(ordage("predict", run.path, table).stdout) == whole
    assert rows_of(ordage("predict", run.path, table, "--image-col", "photo", faces).stdout) == whole  # each once
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(files) + "\n"))
    assert rows_of(ordage("predict", run.path, "-").stdout) == whole


def test_arrays_are_read_too(run, faces, tmp_path, ordage):
    files = sorted(faces.iterdir())[:5]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    np.savez(tmp_path / "some.npz", images=pixels, ages=np.arange(5))
    np.save(tmp_path / "some.npy", pixels)
    told = [float(row["age"]) for row in rows_of(ordage("predict", run.path, *files).stdout)]

    for name, first in (("some.npz", "some.npz:images[0]"), ("some.npy", "some.npy[0]")):
        rows = rows_of(ordage("predict", run.path, name).stdout)
        assert rows[0]["path"] == first
        assert [float(row["age"]) for row in rows] == told


def test_the_same_rows_come_as_lines_and_as_parquet(run, faces, tmp_path, ordage):
    frame = pd.read_csv(io.StringIO(ordage("predict", run.path, faces).stdout))
    lines = ordage("predict", run.path, faces, "--format", "jsonl").stdout.splitlines()
    assert ordage("predict", run.path, faces, "--out", "out.parquet").stdout == ""

    assert [json.loads(line)["age"] for line in lines] == frame["age"].tolist()
    assert json.loads(lines[0])["error"] == ""
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "out.parquet")[["path", "age", "low", "high"]], frame[["path", "age", "low", "high"]]
    )


def test_what_cannot_be_read_is_a_row_and_the_exit_code_says_so(run, faces, tmp_path, ordage):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    good = next(faces.iterdir())
    result = ordage("predict", run.path, "broken.jpg", good, "nowhere.jpg")
    rows = rows_of(result.stdout)

    assert result.returncode == 3
    assert [(row["age"] != "", row["error"] != "") for row in rows] == [(False, True), (True, False), (False, True)]
    assert "not an image" in rows[0]["error"]
    assert "2 of 3 images could not be read" in result.stderr
    lines = ordage("predict", run.path, "broken.jpg", good, "--format", "jsonl").stdout.splitlines()
    assert json.loads(lines[0])["age"] is None


def test_nothing_that_can_be_read_is_no_crash(run, tmp_path, ordage):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    result = ordage("predict", run.path, "broken.jpg")

    assert result.returncode == 3
    assert [row["error"] != "" for row in rows_of(result.stdout)] == [True]
    assert len(package.load(run.path)([]).to_frame()) == 0


def test_an_open_last_bin_has_no_end(arrays, tmp_path, ordage):
    trained = package.fit(
        data=str(arrays),
        bins="0-17,18+",
        train_on="bins",
        model="ordage_tiny",
        device="cpu",
        epochs=1,
        verbosity=0,
        out=tmp_path,
    )
    np.savez(tmp_path / "some.npz", images=np.load(arrays)["X_test"][:8])
    lines = ordage("predict", trained.path, "some.npz", "--format", "jsonl", "--annotate", "drawn").stdout.splitlines()

    assert {json.loads(line)["high"] for line in lines} <= {17.0, None}
    assert len(lines) == 8


def test_channels_may_come_first(run, faces, tmp_path, ordage):
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted(faces.iterdir())[:5]])
    np.save(tmp_path / "last.npy", pixels)
    np.save(tmp_path / "first.npy", pixels.transpose(0, 3, 1, 2))

    last, first = (rows_of(ordage("predict", run.path, name).stdout) for name in ("last.npy", "first.npy"))
    assert [row["age"] for row in first] == [row["age"] for row in last]


def test_a_file_name_that_is_no_text_is_kept(run, faces, tmp_path, ordage):
    odd = os.fsencode(tmp_path) + b"/\xff.jpg"
    with open(odd, "wb") as file:
        file.write(next(faces.iterdir()).read_bytes())
    result = ordage("predict", run.path, os.fsdecode(odd), "--out", "out.csv")

    assert result.returncode == 0, result.stderr
    assert odd in (tmp_path / "out.csv").read_bytes()


def test_a_file_is_written_whole_or_not_at_all(run, faces, tmp_path, ordage, monkeypatch):
    (tmp_path / "out.csv").write_text("before")

    def fail(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("ordage.predictor.Predictor.of_pixels", fail)
    assert ordage("predict", run.path, faces, "--out", "out.csv").returncode == 130
    assert (tmp_path / "out.csv").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_ages_are_written_on_copies(run, faces, tmp_path, ordage):
    (tmp_path / "a").mkdir()
    for folder in (tmp_path, tmp_path / "a"):  # two that are called alike
        Image.new("RGB", (200, 160), "white").save(folder / "plain.png")
    result = ordage("predict", run.path, "plain.png", "a/plain.png", "--annotate", "drawn")

    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["plain-2.png", "plain.png"]
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "plain.png"))
    assert drawn.shape == (160, 200, 3)
    assert (drawn[:30, :60] == 0).any()  # the text's ground
    assert (drawn[60:] == 255).all()


def test_images_unlike_those_of_training_are_told(run, tmp_path, ordage):
    Image.new("RGB", (1920, 1080)).save(tmp_path / "wide.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")

    assert "are not square, such as 1920x1080" in ordage("predict", run.path, "wide.png").stderr
    assert "are 8 pixels across, those of training were 24" in ordage("predict", run.path, "small.png").stderr


def test_the_last_age_that_is_known_may_stand_for_all_beyond(run, expected, ordage):
    frame = pd.read_csv(io.StringIO(ordage("predict", run.path, *expected.index).stdout))
    scale = run.predictions("test").scale

    reaches = (frame["high"] == scale.highs[-1]) | ((frame["low"] == scale.lows[0]) & (scale.lows[0] > 0))
    assert frame["outside_trained_range"].tolist() == reaches.tolist()


def test_other_views_give_another_answer(run, faces, ordage):
    def told(*options):
        frame = pd.read_csv(io.StringIO(ordage("predict", run.path, faces, "--probs", *options).stdout))
        return frame.filter(like="p_").to_numpy()

    usual = told()
    assert np.abs(told("--tta", "shift") - usual).max() < 1e-6  # as this model is tested
    assert np.abs(told("--tta", "none") - usual).max() > 1e-5


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing/*.jpg",), 3, "no file matches"),
        ((".",), 3, "no images in it"),
        (("x.jpg", "--format", "xml"), 2, "--format xml"),
        (("x.jpg", "--format", "parquet"), 2, "name a file by --out"),
        (("x.jpg", "--out", "no/where.csv"), 2, "there is no folder"),
        (("table.csv", "--image-col", "nme"), 2, "--image-col nme"),
        (("x.jpg", "--device", "gpu"), 2, "--device gpu"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(run, tmp_path, ordage, arguments, code, said):
    (tmp_path / "table.csv").write_text("name\nx.jpg\n")
    result = ordage("predict", run.path, *arguments)

    assert result.returncode == code
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_it_quietly(run, faces):
    command = f"{sys.executable} -m ordage predict {run.path} {faces} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)

    assert done.stdout.startswith("path,age,low,high")
    assert "Traceback" not in done.stderr
