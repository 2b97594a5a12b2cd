import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ordage
from ordage.cell import constants_of
from ordage.config import RunConfig
from ordage.data.dataset import prepare
from ordage.data.layouts import read
from ordage.errors import DataError, UsageError
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

    with pytest.raises(DataError, match=r"2 samples \(different images: 2\) leave no image for"):
        prepared(tmp_path)


def test_many_samples_that_must_stay_together_are_counted_as_what_they_are(tmp_path):
    ages, blank = np.arange(100) % 50, np.zeros((100, 16, 16), np.uint8)
    np.savez(tmp_path / "blank.npz", X=blank, y=ages)
    for age in range(50):
        Image.new("L", (16, 16), age).save(tmp_path / f"{age}.png")
    people = pd.DataFrame({"path": [f"{age}.png" for age in range(50)], "age": range(50), "person": "ann"})
    people.to_csv(tmp_path / "labels.csv", index=False)

    with pytest.raises(DataError, match=r"100 samples \(different images: 1\) leave no image for val and test"):
        prepared(tmp_path / "blank.npz")
    with pytest.raises(DataError, match=r"50 samples \(people: 1\) leave no image for val and test"):
        prepared(tmp_path / "labels.csv", subject_col="person")


def test_folds_rotate_through_the_same_deal(faces):
    parts = [prepared(faces, folds=4, fold=fold) for fold in range(4)]

    tested = np.sum([dataset.part == "test" for dataset in parts], axis=0)
    assert (tested == 1).all()
    assert (parts[1].part[parts[0].part == "test"] == "val").all()
    assert (prepared(faces, folds=4, fold=0, split_seed=1).part != parts[0].part).any()


def test_official_folds_are_taken_without_being_asked_for(faces, tmp_path):
    names = sorted(file.name for file in faces.iterdir())
    lines = ["image,age,fold"] + [f"{name},{name.split('_')[0]},{row % 5}" for row, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")

    dataset = prepared(tmp_path / "t.csv", image_root=str(faces), fold=2)

    fold = dataset.manifest.table["fold"].to_numpy()
    assert set(fold[dataset.part == "test"]) == {2}
    assert set(fold[dataset.part == "val"]) == {1}
    assert "official folds 0 to 4: fold 2 is tested" in " ".join(dataset.manifest.notes)


def test_near_identical_images_are_kept_on_one_side_when_asked(faces, tmp_path):
    folder = shutil.copytree(faces, tmp_path / "faces")
    pairs = {}
    for row, file in enumerate(sorted(folder.iterdir())[:80]):
        with Image.open(file) as picture:
            again = folder / f"{row}_0_0_2018{row:013d}.jpg.chip.jpg"
            picture.resize((40, 40), Image.Resampling.BICUBIC).save(again, quality=95)
        pairs[file.name] = again.name

    def split_pairs(dataset):
        side = dict(zip(dataset.manifest.table["id"], dataset.part, strict=True))
        return sum(side[first] != side[second] for first, second in pairs.items())

    assert split_pairs(prepared(folder)) > 10
    assert split_pairs(prepared(folder, near_duplicates=True)) == 0


def test_a_fold_without_folds_and_folds_with_splits_are_refused(faces, tmp_path):
    prepared(faces).write_splits(tmp_path / "splits.csv")

    with pytest.raises(UsageError, match="make some by --folds"):
        prepared(faces, fold=1)
    with pytest.raises(UsageError, match="exclude each other"):
        prepared(faces, folds=5, splits=str(tmp_path / "splits.csv"))


def test_training_on_a_set_too_large_to_keep_gives_the_same_weights(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("ORDAGE_CACHE", str(tmp_path / "cache"))
    options = {"data": str(faces), "epochs": 2, "img_size": 16, "in_chans": 1, "verbosity": 0, "out": tmp_path}

    streamed = ordage.fit(**options, name="streamed", cache_limit=0)
    kept = ordage.fit(**options, name="kept")

    assert list((tmp_path / "cache").rglob("images.npy"))
    first, second = (load_file(run.best / "model.safetensors") for run in (streamed, kept))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert streamed.report["test"] == kept.report["test"]
    # What lies in memory is never waited for.
    assert all(float(row["waiting_share"]) == 0 for row in kept.metrics)
