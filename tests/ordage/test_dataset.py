import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import ordage
from ordage.cell import constants_of
from ordage.config import RunConfig
from ordage.data.dataset import prepare
from ordage.data.layouts import read
from ordage.errors import DataError
from ordage.progress import Reporter
from ordage.transforms import ImageSpec


def prepared(data, **options):
    config = RunConfig.parse({"data": str(data), **options})
    return prepare(read(config), ImageSpec(16, 1), config, Reporter(0))


def test_identical_files_are_on_one_side_even_when_their_ages_differ(faces, tmp_path):
    folder = shutil.copytree(faces, tmp_path / "faces")
    originals = sorted(folder.iterdir())
    for row, file in enumerate(originals[:120]):
        shutil.copyfile(file, folder / f"{row % 90}_0_0_2018{row:013d}.jpg.chip.jpg")

    dataset = prepared(folder)

    content = [(folder / name).read_bytes() for name in dataset.manifest.table["id"]]
    sides = pd.Series(dataset.part).groupby(pd.Series(content)).nunique()
    assert (sides == 1).all()
    assert (pd.Series(content).value_counts() == 2).sum() == 120
    assert "120 groups of byte-identical images" in dataset.manifest.notes[-1]


def test_the_same_files_give_the_same_split_wherever_they_lie(faces, tmp_path):
    elsewhere = shutil.copytree(faces, tmp_path / "elsewhere")

    first, second, other = prepared(faces), prepared(elsewhere), prepared(faces, split_seed=1)

    assert (first.part == second.part).all()
    assert (first.part != other.part).any()


def test_people_of_the_demo_set_are_on_one_side():
    dataset = prepared("demo")

    sides = pd.Series(dataset.part).groupby(dataset.subject).nunique()

    assert (sides == 1).all()
    shares = pd.Series(dataset.part).value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.7, abs=0.02)
    assert shares["test"] == pytest.approx(0.2, abs=0.02)


def test_a_given_split_is_kept_but_for_what_leaks_into_its_test_part(arrays, tmp_path):
    content = dict(np.load(arrays))
    content["X_train"][:3] = content["X_test"][:3]
    np.savez(tmp_path / "leak.npz", **content)

    dataset = prepared(tmp_path / "leak.npz")

    ids = dataset.manifest.table["id"]
    assert set(ids[dataset.part == "test"]) == {f"test[{row}]" for row in range(60)}
    assert {row for row, _ in dataset.manifest.rejected.rows} == {f"train[{row}]" for row in range(3)}
    assert (dataset.part == "val").any()  # taken from train, which had none


def test_a_written_split_is_read_back(faces, tmp_path):
    first = prepared(faces, split_seed=5)
    first.write_splits(tmp_path / "splits.csv")

    assert (prepared(faces, splits=str(tmp_path / "splits.csv")).part == first.part).all()


def test_representative_ages_come_from_the_training_part_alone(faces):
    dataset = prepared(faces, bins="0-30,31-60,61+")
    ages = dataset.manifest.ages
    train = dataset.part == "train"

    for low, high, value in ((0, 30, 0), (31, 60, 1), (61, 200, 2)):
        assert dataset.bins.values[value] == pytest.approx(ages[train & (ages >= low) & (ages <= high)].mean())
    assert constants_of(dataset).median_age == np.median(ages[train])


def test_intervals_train_and_are_judged_in_bins(tmp_path):
    for low, high in ((0, 2), (4, 6), (8, 13)):
        folder = tmp_path / "data" / f"({low}, {high})"
        folder.mkdir(parents=True)
        for row in range(15):
            Image.new("L", (16, 16), 15 * low + row).save(folder / f"{row}.png")

    run = ordage.fit(
        data=str(tmp_path / "data"), epochs=2, img_size=16, in_chans=1, verbosity=0, out=tmp_path, name="a"
    )

    assert run.report["data"]["bins"] == "0-2,4-6,8-13"
    assert run.report["test"]["test"]["mae_unit"] == "bins"
    assert json.loads((run.path / "report.json").read_text())["test"]["baselines"]["median_age_mae"] is None


def test_too_few_samples_for_three_parts_is_said(tmp_path):
    for age in (10, 20):
        Image.new("L", (16, 16), age).save(tmp_path / f"{age}_0_0_2017.jpg")

    with pytest.raises(DataError, match="2 samples leave no image for"):
        prepared(tmp_path)
