import math
import os

import numpy as np
import pytest
from PIL import Image

from ordage.config import RunConfig
from ordage.data.layouts import read
from ordage.errors import DataError, UsageError


def options(data, **more):
    return RunConfig.parse({"data": str(data), **more})


def image(path, colour=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (colour, colour, colour)).save(path)


def test_utkface_names_are_read_and_odd_ones_named(tmp_path):
    for row in range(40):
        image(tmp_path / f"{row}_1_2_2017{row:013d}.jpg.chip.jpg")
    image(tmp_path / "39_1_20170116174525125.jpg.chip.jpg")  # lacks the race
    image(tmp_path / "55_0_0_20170116232725357jpg.chip.jpg")  # lacks the dot
    image(tmp_path / "noage.jpg")

    manifest = read(options(tmp_path))

    assert manifest.layout == "utkface"
    assert len(manifest) == 42
    rows = manifest.table.set_index("id")
    assert rows.loc["39_1_20170116174525125.jpg.chip.jpg", ["low", "gender", "race"]].tolist() == [39, "", ""]
    assert rows.loc["55_0_0_20170116232725357jpg.chip.jpg", ["low", "gender", "race"]].tolist() == [55, "male", "White"]
    assert "39_1_20170116174525125.jpg.chip.jpg" in manifest.notes[0]
    assert manifest.rejected.rows == [("noage.jpg", "not named <age>_<gender>_<race>_<stamp>.jpg")]
    assert manifest.groups == ("gender", "race")


def test_utkface_stamps_are_not_taken_for_ages(tmp_path):
    for row in range(20):
        image(tmp_path / f"{row}_1_2_2017{row:013d}.jpg")
    image(tmp_path / "130_1_2_20170116174525125.jpg")

    manifest = read(options(tmp_path))

    assert len(manifest) == 20
    assert manifest.rejected.rows[0][0].startswith("130_")


def test_folders_are_ordered_by_value_not_by_text(tmp_path):
    for age in ("1", "2", "10"):
        image(tmp_path / age / "a.png", int(age))

    manifest = read(options(tmp_path))

    assert manifest.layout == "folders"
    assert sorted(manifest.ages.tolist()) == [1, 2, 10]
    assert manifest.exact


def test_folders_of_parts_give_the_split(tmp_path):
    for part, name in (("train", "Train"), ("val", "valid"), ("test", "test")):
        for label in ("0-10", "11-20", "21+"):
            image(tmp_path / name / label / f"{part}.png")

    manifest = read(options(tmp_path))

    assert manifest.table["part"].value_counts().to_dict() == {"train": 3, "val": 3, "test": 3}
    assert sorted(manifest.table["high"].unique().tolist()) == [10, 20, math.inf]
    assert not manifest.exact


def test_columns_are_found_by_alias_and_paths_under_a_folder_beside_the_table(tmp_path):
    for row in range(5):
        image(tmp_path / "pictures" / f"{row}.png", row)
    table = tmp_path / "labels.csv"
    lines = ["\ufefffile, Age ,gender,person_id"] + [f"{row}.png,{20 + row},f,p{row // 2}" for row in range(5)]
    table.write_text("\n".join(lines), encoding="utf-8")

    manifest = read(options(table))

    assert manifest.layout == "csv"
    assert manifest.ages.tolist() == [20, 21, 22, 23, 24]
    assert all(os.path.exists(path) for path in manifest.table["path"])
    assert manifest.table["subject"].tolist() == ["p0", "p0", "p1", "p1", "p2"]
    assert manifest.groups == ("gender",)


def test_a_column_that_only_sounds_like_a_split_is_left_alone(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("image,age,set\na.png,30,holiday\n", encoding="utf-8")

    assert "part" not in read(options(tmp_path / "t.csv")).table


def test_unknown_people_are_each_their_own(tmp_path):
    for row in range(4):
        image(tmp_path / f"{row}.png")
    (tmp_path / "t.csv").write_text("image,age,subject\n0.png,30,ann\n1.png,31,\n2.png,32,\n3.png,33,ann\n")
    (tmp_path / "blank").mkdir()
    (tmp_path / "blank/t.csv").write_text("image,age,subject\n0.png,30,\n")

    known = read(options(tmp_path / "t.csv")).table["subject"]

    assert known.nunique() == 3
    assert "subject" not in read(options(tmp_path / "blank/t.csv")).table


def test_linked_folders_are_read_once(tmp_path):
    for age in ("20", "30"):
        image(tmp_path / "g" / age / "a.png", int(age))
    (tmp_path / "f").mkdir()
    image(tmp_path / "f" / "10" / "a.png")
    for age in ("20", "30"):
        (tmp_path / "f" / age).symlink_to(tmp_path / "g" / age)
    (tmp_path / "f" / "10" / "again").symlink_to(tmp_path / "f")

    assert sorted(read(options(tmp_path / "f", layout="folders")).ages.tolist()) == [10, 20, 30]


def test_rows_without_an_age_are_rejected_by_line(tmp_path):
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    table = tmp_path / "labels.csv"
    table.write_text("image,age\na.png,30\nb.png,unknown\n,12\na.png,31\n", encoding="utf-8")

    manifest = read(options(table))

    assert manifest.ages.tolist() == [30]
    assert manifest.rejected.rows == [
        ("labels.csv line 3", "no age in 'unknown'"),
        ("labels.csv line 4", "no image"),
        ("labels.csv line 5", "the same image as line 2"),
    ]


def test_a_table_without_an_age_column_names_its_columns_and_the_flag(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("image,height\na.png,30\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"no column with the ages; it has image, height; name it by --age-col"):
        read(options(table))


def test_a_misspelt_column_gets_a_suggestion(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("image,height\na.png,30\n", encoding="utf-8")

    with pytest.raises(UsageError, match=r"--age-col heigth: .* did you mean 'height'\?"):
        read(options(table, age_col="heigth"))


@pytest.mark.parametrize("scale", [1, 255])
def test_float_arrays_in_either_range_become_the_same_pixels(tmp_path, scale):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    pixels[0, 0, 0] = 255
    np.savez(tmp_path / "a.npz", X=pixels / 255 * scale, y=np.linspace(20, 60, 30))

    manifest = read(options(tmp_path / "a.npz"))

    np.testing.assert_array_equal(manifest.images, pixels[..., None])


def test_train_and_test_arrays_keep_their_split(arrays):
    manifest = read(options(arrays))

    assert manifest.table["part"].value_counts().to_dict() == {"train": 240, "test": 60}
    assert manifest.images.shape == (300, 24, 24, 1)
    assert manifest.table["id"].iat[240] == "test[0]"


def test_one_hot_targets_are_classes(tmp_path):
    target = np.array([0, 2, 1, 2, 0])
    np.savez(tmp_path / "a.npz", X=np.zeros((5, 8, 8), np.uint8), y=np.eye(4)[target])

    manifest = read(options(tmp_path / "a.npz"))

    assert len(manifest.scale) == 4  # the class that nobody is in is still a class
    assert manifest.table["low"].tolist() == target.tolist()
    assert not manifest.exact


def test_few_consecutive_integers_are_classes_and_others_ages(tmp_path):
    images = np.zeros((40, 8, 8), np.uint8)
    np.savez(tmp_path / "classes.npz", X=images, y=np.arange(40) % 10)
    np.savez(tmp_path / "ages.npz", X=images, y=np.arange(40) % 10 + 20)

    assert read(options(tmp_path / "classes.npz")).scale is not None
    assert read(options(tmp_path / "ages.npz")).exact


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((3, 8, 8)), "y": np.zeros(4)}, r"X has the shape \(3, 8, 8\), but y \(4,\)"),
        ({"X": np.zeros((3, 8)), "y": np.zeros(3)}, r"expected X to be \(N, H, W\)"),
        ({"X": np.full((3, 8, 8), -1.0), "y": np.zeros(3)}, r"it spans -1 to -1"),
        ({"X": np.zeros((3, 8, 8))}, "X stands alone"),
        ({"Q": np.zeros((3, 8, 8))}, "expected arrays X and y"),
        ({"X": np.zeros((3, 8, 8)), "y": np.zeros((3, 5))}, "one-hot"),
        ({"X": np.zeros((3, 8, 8)), "y": np.array(["a", "b", "c"])}, "numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_their_shapes(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)

    with pytest.raises(DataError, match=message):
        read(options(tmp_path / "a.npz"))


def test_pickled_arrays_are_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([{}], dtype=object), y=np.zeros(1))

    with pytest.raises(DataError, match="cannot be read as NumPy arrays"):
        read(options(tmp_path / "a.npz"))


def test_the_demo_set_needs_no_path():
    manifest = read(RunConfig())

    assert manifest.layout == "demo"
    assert manifest.images.shape == (6000, 48, 48, 3)
    assert "subject" in manifest.table


def test_a_path_that_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        read(options(tmp_path / "nowhere"))


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(DataError, match="the folder is empty"):
        read(options(tmp_path))


def test_a_misspelt_layout_gets_a_suggestion(tmp_path):
    with pytest.raises(UsageError, match=r"did you mean 'utkface'\?"):
        read(options(tmp_path, layout="utkfaces"))
