import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ordage.config import RunConfig
from ordage.data.layouts import layouts, read
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


@pytest.mark.parametrize("ending", [".jpg", ".png", ".jpg.chip.png", ".webp", ".chip.bmp"])
def test_utkface_names_are_known_after_a_conversion(ending, tmp_path):
    for row in range(20):
        image(tmp_path / f"{row}_1_2_2017{row:013d}{ending}")

    manifest = read(options(tmp_path))

    assert manifest.layout == "utkface"
    assert sorted(manifest.ages) == list(range(20))
    assert not manifest.notes


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


def table(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    for row in range(6):
        image(path.parent / f"{row}.png", row)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_tables_of_spreadsheets_are_read_in_every_encoding(tmp_path, encoding):
    file = table(tmp_path / "t.csv", "image,age,person\n0.png,30,Zoë\n1.png,31,José\n", encoding)

    manifest = read(options(file))

    assert manifest.table["subject"].tolist() == ["Zoë", "José"]
    assert any("Windows-1252" in note for note in manifest.notes) == (encoding == "cp1252")


def test_semicolons_and_decimal_commas_are_read_as_they_are_meant(tmp_path):
    file = table(tmp_path / "t.csv", "image;age;sex\n0.png;34,5;m\n1.png;7,8;f\n2.png;40;f\n")

    assert read(options(file)).ages.tolist() == [34.5, 7.8, 40]


def test_intervals_in_brackets_keep_their_comma(tmp_path):
    file = table(tmp_path / "t.tsv", "image\tage\n0.png\t(25, 32)\n1.png\t(4, 6)\n")

    manifest = read(options(file))

    assert sorted(zip(manifest.table["low"], manifest.table["high"], strict=True)) == [(4, 6), (25, 32)]


def test_lines_that_do_not_fit_the_header_are_rejected_by_number(tmp_path):
    file = table(tmp_path / "t.csv", 'image,age,note\n0.png,30,"two\nlines"\n1.png,31\n2.png,32,a,b\n\n3.png,33,\n')

    manifest = read(options(file))

    assert manifest.ages.tolist() == [30, 33]
    assert manifest.rejected.rows == [
        ("t.csv line 4", "has 2 fields, the header 3"),
        ("t.csv line 5", "has 4 fields, the header 3"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no header line"),
        ("\n\n", "no header line"),
        ("image,age\n", "has no rows"),
        ("age,age\n1,2\n", "two columns"),
    ],
)
def test_tables_without_content_are_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)

    with pytest.raises(DataError, match=message):
        read(options(tmp_path / "t.csv"))


def test_a_pixel_column_stands_for_image_files(tmp_path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (6, 9, 9))
    lines = ["age,ethnicity,gender,img_name,pixels"]
    lines += [
        f"{20 + row},0,1,{row}.chip.jpg,{' '.join(map(str, pixels.ravel()))}" for row, pixels in enumerate(images)
    ]
    lines += ["50,0,1,x.jpg,1 2 3", "51,0,1,y.jpg," + "300 " * 81, "52,0,1,z.jpg,a b c d"]
    (tmp_path / "age_gender.csv").write_text("\n".join(lines) + "\n")

    manifest = read(options(tmp_path / "age_gender.csv"))

    order = (manifest.ages - 20).astype(int)
    np.testing.assert_array_equal(manifest.images[..., 0], images[order])
    assert [where for where, _ in manifest.rejected.rows] == [f"age_gender.csv line {line}" for line in (8, 9, 10)]
    assert manifest.groups == ("ethnicity", "gender")


def test_another_package_can_add_a_layout(tmp_path, monkeypatch):
    package = tmp_path / "site"
    (package / "mine-1.0.dist-info").mkdir(parents=True)
    (package / "mine-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (package / "mine-1.0.dist-info" / "entry_points.txt").write_text("[ordage.layouts]\nmine = mine_layout:LAYOUT\n")
    (package / "mine_layout.py").write_text(
        "from ordage.data.layouts import Layout, age_row\n"
        "from ordage.data.manifest import Manifest, make_table\n"
        "def recognise(source):\n"
        "    return 'the files end in years' if source.images and 'years' in source.images[0].name else None\n"
        "def read(source, options, reason):\n"
        "    rows = [age_row(f.name, f.stem.removesuffix('years'), path=str(f)) for f in source.images]\n"
        "    return Manifest(make_table(rows), source.name, 'mine', reason)\n"
        "LAYOUT = Layout('mine', recognise, read, 'ages with a word behind')\n"
    )
    image(tmp_path / "data" / "34years.png")
    monkeypatch.syspath_prepend(str(package))
    layouts.cache_clear()
    try:
        manifest = read(options(tmp_path / "data"))
    finally:
        layouts.cache_clear()

    assert (manifest.layout, manifest.reason) == ("mine", "the files end in years")
    assert manifest.ages.tolist() == [34]


def test_every_layout_has_a_line_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")

    assert [name for name in layouts() if f"`{name}`" not in text] == []
