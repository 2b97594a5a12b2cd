"""Small copies of the published sets, with the names, folders and quirks that real copies have."""

import json
import math
from datetime import date

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import ordage as package
from ordage.config import DataConfig
from ordage.data.layouts import read
from ordage.errors import DataError, MissingError


def options(data, **more):
    return DataConfig.parse({"data": str(data), **more})


def image(path, row=0, size=(20, 20), mode="RGB", **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(row).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **more)


def by_id(manifest):
    return manifest.table.set_index("id")


def utkface(folder):
    for row in range(30):
        image(folder / f"{20 + row}_{row % 2}_{row % 5}_2017{row:013d}.jpg.chip.jpg", row)
    image(folder / "39_1_20170116174525125.jpg.chip.jpg", 90)
    image(folder / "24_0_1_20170116220224657 .jpg.chip.jpg", 91)
    image(folder / "55_0_0_20170116232725357jpg.chip.jpg", 92)
    return 33, 0


def afad(folder):
    for row, age in enumerate([18, 19, 20, 40, 41]):
        for gender in ("111", "112"):
            image(folder / str(age) / gender / f"{1000 + row}-{row}.jpg", 2 * row + (gender == "112"))
    (folder / "18" / "111" / "Thumbs.db").write_bytes(b"left by a file manager")
    return 10, 0


def fgnet(folder):
    image(folder / "001A02.JPG", 0)
    image(folder / "001A43a.JPG", 1)
    image(folder / "001a43b.jpg", 2, mode="L")
    image(folder / "078A00.JPG", 3, mode="L")
    image(folder / "082A11.jpg", 4)
    return 5, 0


def agedb(folder):
    image(folder / "0_MariaCallas_35_f.jpg", 0)
    image(folder / "10_Alec_Guinness_78_m.jpg", 1)
    image(folder / "10001_Jean_3_Paul_4_m.jpg", 2)  # a name with a number in it
    image(folder / "16487_GlennClose_101_f.jpg", 3)
    return 4, 0


def morph(folder):
    image(folder / "Album2" / "009055_1M54.JPG", 0)
    image(folder / "Album2" / "009055_2M55.JPG", 1)
    image(folder / "Album2" / "100098_03F47.JPG", 2)
    return 3, 0


def morph_table(folder):
    for row in range(3):
        image(folder / "Images" / f"p{row}.JPG", row)
    (folder / "MORPH_Album2.csv").write_text(
        "id_num,picture_num,dob,doa,race,gender,age,photo\n"
        "009055,0,9/4/1951,10/21/2005,B,M,54,Images\\p0.JPG\n"  # written on Windows
        "9055,1,9/4/1951,3/24/2007,B,M,55,Images\\p1.JPG\n"  # the same person, without the zeros
        "100098,0,1/1/1960,1/1/2007,W,F,47,Images\\p2.JPG\n"
    )
    return 3, 0


def cacd(folder):
    image(folder / "14_Aaron_Johnson_0001.jpg", 0)
    image(folder / "53_Robert_Downey_Jr._0012.jpg", 1)
    image(folder / "25_Zoë_Kravitz_0003.jpg", 2)
    image(folder / "26_Zoe\u0308_Kravitz_0004.jpg", 3)  # the same name, its accent stored apart
    return 4, 0


def cacd_mat(folder):
    image(folder / "CACD2000" / "53_Robert_De_Niro_0001.jpg", 0)
    image(folder / "CACD2000" / "54_Robert_De_Niro_0002.jpg", 1)
    image(folder / "CACD2000" / "25_Zoe\u0308_Kravitz_0003.jpg", 2)
    names = ["53_Robert_De_Niro_0001.jpg", "54_Robert_De_Niro_0002.jpg", "25_Zoë_Kravitz_0003.jpg", "30_Gone_0001.jpg"]
    structure = {
        "name": np.array(names, dtype=object),
        "age": np.array([53, 54, 25, 30]),
        "identity": np.array([7, 7, 8, 9]),
    }
    savemat(folder / "celebrity2000_meta.mat", {"celebrityImageData": structure})
    return 3, 1


def appa_real(folder):
    for part in ("train", "valid", "test"):
        rows = ["file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age"]
        for row in range(3):
            image(folder / part / f"{row:06d}.jpg", row, (50, 60))  # the whole photograph, which nobody wants
            image(folder / part / f"{row:06d}.jpg_face.jpg", hash_of(part) + row)
            rows.append(f"{row:06d}.jpg,36,{5.5 + row},{1.25 + row},{4 + row}")
        (folder / f"gt_avg_{part}.csv").write_text("\n".join(rows) + "\n")
        (folder / f"gt_{part}.csv").write_text("file_name,age,worker_age,worker_gender\n000000.jpg,5,30,male\n")
    return 9, 0


def hash_of(text):
    return sum(map(ord, text)) * 10


def fairface(folder):
    labels = ["0-2", "03-Sep", "Oct-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]
    for part, start in (("train", 0), ("val", 9)):
        rows = ["file,age,gender,race,service_test"]
        for row, label in enumerate(labels, start=1):
            image(folder / part / f"{row}.jpg", start + row)
            rows.append(f"{part}/{row}.jpg,{label},Male,East Asian,True")
        (folder / f"fairface_label_{part}.csv").write_text("\n".join(rows) + "\n")
    return 18, 0


ADIENCE_HEADER = (
    "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\tfiducial_yaw_angle\tfiducial_score"
)


def adience(folder):
    ages = [
        ["(0, 2)", "(4, 6)", "(25, 32)", "None"],
        ["(8, 12)", "(25, 23)", "(38, 43)", "35"],
        ["(15, 20)", "(60, 100)", "57", "32"],
    ]
    for fold, column in enumerate(ages):
        lines = [ADIENCE_HEADER]
        for row, age in enumerate(column):
            user, photo = f"3060125{fold}@N03", f"1039964{row}_67c7d20df9_o.jpg"
            image(folder / "faces" / user / f"coarse_tilt_aligned_face.{row}.{photo}", 10 * fold + row)
            lines.append(f"{user}\t{photo}\t{row}\t{age}\t{'mfu'[row % 3]}\t0\t0\t9\t9\t-115\t30\t17")
        (folder / f"fold_{fold}_data.txt").write_text("\n".join(lines) + "\n")
        (folder / f"fold_frontal_{fold}_data.txt").write_text("\n".join(lines[:2]) + "\n")
    return 9, 3


def matlab_day(year, month, day):
    return date(year, month, day).toordinal() + 366


def imdb_wiki(folder):
    rows = [  # path, born, taken, score, second score, gender
        (
            "17/1_1981-05-05_2009.jpg",
            matlab_day(1981, 5, 5),
            2009,
            4.3,
            math.nan,
            1.0,
        ),  # 28
        ("17/2_1981-10-05_2009.jpg", matlab_day(1981, 10, 5), 2009, 3.1, math.nan, 0.0),  # 27: after July
        ("17/3_1950-01-01_2000.jpg", matlab_day(1950, 1, 1), 2000, -math.inf, math.nan, 1.0),  # no face
        ("17/4_1950-01-01_2000.jpg", matlab_day(1950, 1, 1), 2000, 2.0, 1.5, 1.0),  # two faces
        ("17/5_1000-01-01_2000.jpg", matlab_day(1000, 1, 1), 2000, 2.0, math.nan, 1.0),  # a thousand years old
        ("17/6_0000-00-00_2000.jpg", 5, 2000, 2.0, math.nan, math.nan),  # born in the year 0
        ("17/7_1990-01-01_1980.jpg", matlab_day(1990, 1, 1), 1980, 2.0, math.nan, 1.0),  # photographed before birth
        ("17/8_1960-02-02_2010.jpg", matlab_day(1960, 2, 2), 2010, 2.0, math.nan, math.nan),  # gender unknown
    ]
    for row, record in enumerate(rows):
        image(folder / record[0], row)
    path, born, taken, score, second, gender = (list(column) for column in zip(*rows, strict=True))
    structure = {
        "full_path": np.array(path, dtype=object),
        "dob": np.array(born, np.int32),
        "photo_taken": np.array(taken, np.uint16),
        "face_score": np.array(score),
        "second_face_score": np.array(second),
        "gender": np.array(gender),
        "name": np.array([f"Page {row}" for row in range(len(rows))], dtype=object),
    }
    savemat(folder / "wiki.mat", {"wiki": structure})
    return 3, 5


BUILDERS = {
    "utkface": utkface,
    "afad": afad,
    "fgnet": fgnet,
    "agedb": agedb,
    "morph": morph,
    "morph table": morph_table,
    "cacd": cacd,
    "cacd mat": cacd_mat,
    "appa-real": appa_real,
    "fairface": fairface,
    "adience": adience,
    "imdb-wiki": imdb_wiki,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_each_set_is_recognised_and_inspected_to_the_right_counts(name, tmp_path):
    used, left_out = BUILDERS[name](tmp_path)

    content = package.inspect(data=str(tmp_path), img_size=16, verbosity=0).to_dict()

    assert content["data"]["layout"] == name.split()[0]
    samples = content["samples"]
    assert (samples["usable"], samples["rejected"] + samples["set_aside"]) == (used, left_out)
    assert sum(content["ages"]["histogram"].values()) == used


def test_afad_reads_the_gender_from_its_folders(tmp_path):
    afad(tmp_path)

    rows = by_id(read(options(tmp_path)))

    assert rows.loc["18/111/1000-0.jpg", ["low", "gender"]].tolist() == [18, "male"]
    assert rows.loc["41/112/1004-4.jpg", ["low", "gender"]].tolist() == [41, "female"]


def test_fgnet_reads_subject_and_age_in_any_case(tmp_path):
    fgnet(tmp_path)

    rows = by_id(read(options(tmp_path)))

    assert rows.loc["001a43b.jpg", ["low", "subject"]].tolist() == [43, "001"]
    assert rows.loc["078A00.JPG", ["low", "subject"]].tolist() == [0, "078"]


def test_agedb_names_are_read_from_the_right(tmp_path):
    agedb(tmp_path)

    rows = by_id(read(options(tmp_path)))

    assert rows.loc["10_Alec_Guinness_78_m.jpg", ["low", "subject", "gender"]].tolist() == [78, "Alec Guinness", "male"]
    assert rows.loc["10001_Jean_3_Paul_4_m.jpg", ["low", "subject"]].tolist() == [4, "Jean 3 Paul"]


def test_morph_people_are_one_with_and_without_zeros(tmp_path):
    morph(tmp_path / "names")
    morph_table(tmp_path / "table")

    names, table = (read(options(tmp_path / name)).table for name in ("names", "table"))

    assert sorted(names["subject"]) == ["100098", "9055", "9055"]
    assert sorted(table["subject"]) == ["100098", "9055", "9055"]
    assert sorted(names["low"]) == sorted(table["low"]) == [47, 54, 55]


def test_cacd_people_are_one_however_the_accent_is_stored(tmp_path):
    cacd(tmp_path)

    rows = read(options(tmp_path)).table

    assert rows["subject"].nunique() == 3
    assert "Robert Downey Jr." in set(rows["subject"])


def test_cacd_labels_in_matlab_find_files_whose_accents_are_stored_otherwise(tmp_path):
    cacd_mat(tmp_path)

    manifest = read(options(tmp_path))

    assert by_id(manifest).loc["25_Zoë_Kravitz_0003.jpg", ["low", "subject"]].tolist() == [25, "8"]
    assert manifest.rejected.rows == [("30_Gone_0001.jpg", "no such image")]


def test_appa_real_takes_face_crops_and_the_age_that_is_asked_for(tmp_path):
    appa_real(tmp_path)

    real = read(options(tmp_path))
    apparent = read(options(tmp_path, age_col="apparent_age_avg"))

    assert by_id(real).loc["valid/000002.jpg_face.jpg", ["low", "part"]].tolist() == [6, "val"]
    assert by_id(apparent).loc["valid/000002.jpg_face.jpg", ["low", "age_std"]].tolist() == [7.5, 3.25]
    assert "age_std" not in real.table
    assert "--age-col apparent_age_avg takes the other one" in real.notes[-1]


def test_fairface_intervals_spoiled_by_a_spreadsheet_are_repaired_and_said(tmp_path):
    fairface(tmp_path)

    manifest = read(options(tmp_path))

    intervals = sorted(set(zip(manifest.table["low"], manifest.table["high"], strict=True)))
    assert intervals[:3] == [(0, 2), (3, 9), (10, 19)]
    assert intervals[-1] == (70, math.inf)
    assert manifest.table["part"].value_counts().to_dict() == {"train": 9, "test": 9}
    assert any(note.startswith("4 age intervals that a spreadsheet had") for note in manifest.notes)


def test_adience_keeps_its_groups_its_folds_and_what_it_leaves_out(tmp_path):
    adience(tmp_path)

    manifest = read(options(tmp_path))

    rows = manifest.table
    assert sorted(rows["fold"].value_counts().to_dict().items()) == [(0, 3), (1, 3), (2, 3)]
    assert set(zip(rows["low"], rows["high"], strict=True)) == {
        (0, 2), (4, 6), (8, 13), (15, 20), (25, 32), (38, 43), (60, math.inf),
    }  # fmt: skip
    twenties = rows[rows["low"] == 25]
    assert len(twenties) == 3  # (25, 32), the slip (25, 23), and a bare 32
    assert {reason for _, reason in manifest.rejected.aside} == {
        f"age {age!r} is in none of the eight age groups" for age in ("None", "35", "57")
    }
    assert "3 images without one of the eight age groups are set aside" in manifest.notes[0]
    assert not manifest.rejected.rows  # so that no run asks for --allow-rejected


def test_imdb_wiki_ages_follow_from_matlab_dates(tmp_path):
    imdb_wiki(tmp_path)

    manifest = read(options(tmp_path))

    rows = by_id(manifest)
    assert rows.loc["17/1_1981-05-05_2009.jpg", ["low", "gender"]].tolist() == [28, "male"]
    assert rows.loc["17/2_1981-10-05_2009.jpg", ["low", "gender"]].tolist() == [27, "female"]
    assert rows.loc["17/8_1960-02-02_2010.jpg", ["low", "gender"]].tolist() == [50, ""]
    reasons = dict(manifest.rejected.aside)
    assert reasons["17/3_1950-01-01_2000.jpg"] == "no face was found in it"
    assert reasons["17/4_1950-01-01_2000.jpg"].startswith("it shows a second face")
    assert reasons["17/6_0000-00-00_2000.jpg"] == "its date of birth, 5, is none"
    assert reasons["17/7_1990-01-01_1980.jpg"] == "age -10 by its dates is not between 0 and 100"


def test_matlab_files_that_are_none_are_said(tmp_path):
    imdb_wiki(tmp_path)
    (tmp_path / "wiki.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 200)

    with pytest.raises(DataError, match=r"cannot be read as a MATLAB file|expected the structure"):
        read(options(tmp_path))


def test_a_set_whose_labels_name_missing_images_is_said_once(tmp_path):
    imdb_wiki(tmp_path)
    for file in tmp_path.rglob("*.jpg"):
        file.unlink()

    with pytest.raises(DataError, match=r"no sample can be used; the first: 17/1_.*: No such file or directory"):
        package.inspect(data=str(tmp_path), img_size=16, verbosity=0)


# -- the Hugging Face hub ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub_rows(tmp_path_factory):
    import datasets

    folder = tmp_path_factory.mktemp("hub")
    paths = []
    for row in range(12):
        image(folder / f"{row}.png", row)
        paths.append(str(folder / f"{row}.png"))
    columns = {"image": paths, "age": [20.0 + row for row in range(12)], "gender": ["f", "m"] * 6}
    rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    return rows.map(lambda row: row, keep_in_memory=True)


def embedded(rows):
    """Put the bytes of the images into the table, as parquet files of the hub have them."""
    from datasets.table import embed_table_storage

    return rows.with_format("arrow").map(embed_table_storage, batched=True, keep_in_memory=True).with_format(None)


def test_a_local_folder_of_parquet_with_images_is_read(hub_rows, tmp_path):
    rows = embedded(hub_rows)
    (tmp_path / "data").mkdir()
    rows.select(range(8)).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    rows.select(range(8, 12)).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")

    manifest = read(options(tmp_path))
    content = package.inspect(data=str(tmp_path), img_size=16, verbosity=0).to_dict()

    assert manifest.layout == "hf"
    assert manifest.table["part"].value_counts().to_dict() == {"train": 8, "test": 4}
    assert sorted(manifest.ages.tolist()) == [20.0 + row for row in range(12)]
    assert content["samples"]["usable"] == 12
    assert content["images"]["formats"] == {"PNG": 12}


def test_what_save_to_disk_wrote_is_read(hub_rows, tmp_path):
    hub_rows.save_to_disk(tmp_path / "saved")

    manifest = read(options(tmp_path / "saved"))

    assert manifest.layout == "hf"
    assert manifest.groups == ("gender",)
    assert manifest.contents.read(3)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("names", "classes", "low"),
    [(["0-2", "3-9", "10-19", "20+"], 4, [0, 3, 10, 20]), (["none", "mild", "severe", "worst"], 4, [0, 1, 2, 3])],
)
def test_named_classes_are_intervals_or_grades(hub_rows, tmp_path, names, classes, low):
    import datasets

    labels = hub_rows.remove_columns("age").add_column("label", [row % 4 for row in range(12)])
    labels.cast_column("label", datasets.ClassLabel(names=names)).save_to_disk(tmp_path / "saved")

    manifest = read(options(tmp_path / "saved"))

    assert sorted(manifest.table["low"].unique()) == low
    assert (manifest.scale is None) == (names[0] == "0-2")


def test_a_hub_name_without_a_network_is_one_clear_line(tmp_path, monkeypatch):
    with pytest.raises(MissingError, match="cannot be loaded by datasets"):
        read(options("hf:nobody/nothing"))


def test_a_parquet_table_of_paths_is_read_like_a_csv(tmp_path):
    import pandas as pd

    for row in range(3):
        image(tmp_path / "pictures" / f"{row}.png", row)
    frame = pd.DataFrame({"file": [f"{row}.png" for row in range(3)], "age": [20, 30.5, None]})
    frame.to_parquet(tmp_path / "labels.parquet")

    manifest = read(options(tmp_path / "labels.parquet"))

    assert manifest.layout == "parquet"
    assert manifest.ages.tolist() == [20, 30.5]
    assert manifest.rejected.rows == [("labels.parquet row 2", "no age in ''")]


# -- the benchmark's splits --------------------------------------------------------------------------------------------


def benchmark_file(path, names, folders):
    entries = [
        {"img_path": name, "age": 30, "gender": "F", "id_num": None, "folder": folder, "aligned_bbox": [0] * 8}
        for name, folder in zip(names, folders, strict=True)
    ]
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(
    ("fold", "test", "val"),
    [(0, {8, 9}, {6, 7}), (1, {0, 1}, {8, 9}), (2, {2, 3}, {0, 1}), (3, {3, 4}, {1, 2}), (4, {4, 5}, {2, 3})],
)
def test_the_benchmark_tests_the_folders_that_its_authors_test(tmp_path, fold, test, val):
    import pandas as pd

    from ordage.data.split import read_splits

    names = [f"UTKFace/{row}_0_0_2017.jpg" for row in range(30)]
    file = benchmark_file(tmp_path / "UTKFace.json", names, [row % 10 for row in range(30)])

    part = read_splits(str(file), pd.Series([name.split("/")[1] for name in names]), fold)

    folder = np.arange(30) % 10
    assert set(folder[part == "test"]) == test
    assert set(folder[part == "val"]) == val
    assert (part == "train").sum() == 18
