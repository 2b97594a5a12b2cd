import html
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import ordage as package
from ordage.config import DataConfig
from ordage.data.layouts import read
from ordage.data.near import near_groups
from ordage.errors import DataError, UsageError


@pytest.fixture
def spoiled(faces, tmp_path):
    """Drawn faces with one of each thing that goes wrong, by name."""
    folder = shutil.copytree(faces, tmp_path / "faces")
    names = sorted(file.name for file in folder.iterdir())
    ages = [int(name.split("_")[0]) for name in names]
    first, second, third = (folder / names[row] for row in (0, 100, 200))
    shutil.copyfile(first, folder / f"{ages[0] + 30}_0_0_2030.jpg")  # the same picture, 30 years older
    shutil.copyfile(second, folder / f"{ages[100] + 2}_0_0_2031.jpg")  # and two
    shutil.copyfile(third, folder / f"{ages[200]}_0_0_2032.jpg")  # and the same age
    with Image.open(folder / names[50]) as image:
        image.resize((40, 40)).save(folder / f"{ages[50] + 9}_0_0_2033.jpg", quality=60)  # compressed and scaled anew
    Image.new("RGB", (24, 24), (90, 90, 90)).save(folder / "30_0_0_2034.jpg")  # blank
    noise = np.random.default_rng(0).integers(0, 256, (90, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "31_0_0_2035.jpg")  # elongated
    Image.fromarray(noise[:10, :10]).save(folder / "32_0_0_2036.jpg")  # tiny
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise[:40, :40]).save(folder / "105_0_0_2037.jpg", exif=exif)  # rotated, and very old
    (folder / "33_0_0_2038.jpg").write_bytes(b"no image")
    return folder


def inspected(folder, **options):
    return package.inspect(data=str(folder), img_size=24, verbosity=0, **options)


def test_every_planted_fault_is_found_and_counted(spoiled):
    audit = inspected(spoiled)

    content = audit.to_dict()
    found = {finding.kind: finding for finding in audit.findings}
    assert content["samples"]["usable"] == 308
    assert content["samples"]["first_rejected"] == [
        {"id": "33_0_0_2038.jpg", "reason": "not an image, or a broken one"}
    ]
    assert content["duplicates"] == {"groups": 3, "images": 6, "conflicts": 2, "large_conflicts": 1}
    assert [group.spread for group in audit.identical] == [30, 2, 0]
    assert "30_0_0_2034.jpg" in found["blank"].samples
    assert found["elongated"].samples == ("31_0_0_2035.jpg",)
    assert "32_0_0_2036.jpg" in found["tiny"].samples
    assert found["rotated"].samples == ("105_0_0_2037.jpg",)
    assert found["old"].samples == ("105_0_0_2037.jpg",)
    assert found["label-conflicts"].severity == "problem"
    assert {"32_0_0_2036.jpg", "31_0_0_2035.jpg"} & set(content["unusual"])
    json.dumps(content, allow_nan=False)


def test_near_identical_images_are_found_but_not_those_that_are_identical(spoiled):
    audit = inspected(spoiled)

    ids = [set(group.ids) for group in audit.near]
    assert any("2033.jpg" in name for group in ids for name in group)
    assert not any({"2032"} & {name[-8:-4] for name in group} for group in ids if len(group) == 2)


def test_constants_are_those_that_a_run_prints(ordage, faces):
    audit = inspected(faces, bins="0-30,31-60,61+").to_dict()
    run = ordage("fit", faces, "--img-size", "24", "--bins", "0-30,31-60,61+", "--epochs", "1", "--json", "-q")

    printed = json.loads(run.stdout)["baselines"]
    for name in ("majority_bin", "majority_bin_accuracy", "median_age", "median_age_mae"):
        assert audit["baselines"][name] == pytest.approx(printed[name]) if name != "majority_bin" else printed[name]


def test_a_clean_table_holds_every_picture_once_and_is_read_back(spoiled, tmp_path):
    counts = inspected(spoiled).write_csv(tmp_path / "clean.csv")

    table = pd.read_csv(tmp_path / "clean.csv")
    contents = [(tmp_path / name).read_bytes() for name in table["image"]]
    assert len(set(contents)) == len(table) == counts["written"]
    assert counts == {"written": 303, "rejected": 1, "copies": 1, "conflicts": 4}
    again = read(DataConfig.parse({"data": str(tmp_path / "clean.csv")}))
    assert len(again) == 303
    assert sorted(again.ages) == sorted(table["age"])
    assert again.groups == ("gender", "race")


def test_conflicts_within_the_tolerance_become_their_mean(spoiled, tmp_path):
    audit = inspected(spoiled)

    counts = audit.write_csv(tmp_path / "clean.csv", conflicts="mean", tolerance=2)

    (close,) = (group for group in audit.identical if group.spread == 2)
    table = pd.read_csv(tmp_path / "clean.csv")
    kept = table[[any(name in image for name in close.ids) for image in table["image"]]]
    assert kept["age"].tolist() == [np.mean([float(age) for age in close.ages])]
    assert counts == {"written": 304, "rejected": 1, "copies": 2, "conflicts": 2}


def test_intervals_and_given_parts_survive_cleaning(tmp_path):
    lines = ["image,age,split,person"]
    for row in range(9):
        Image.fromarray(np.random.default_rng(row).integers(0, 256, (20, 20), dtype=np.uint8)).save(
            tmp_path / f"{row}.png"
        )
        lines.append(f"{row}.png,{('0-9', '10-19', '20+')[row % 3]},{('train', 'val', 'test')[row // 3]},p{row}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")

    (tmp_path / "clean").mkdir()

    inspected(tmp_path / "labels.csv").write_csv(tmp_path / "clean" / "a.csv")

    before, after = (
        read(DataConfig.parse({"data": str(tmp_path / name)})).table for name in ("labels.csv", "clean/a.csv")
    )
    for column in ("low", "high", "part", "subject"):
        assert before[column].tolist() == after[column].tolist()


def test_arrays_have_no_files_that_a_table_could_name(arrays, tmp_path):
    with pytest.raises(UsageError, match="holds no image files"):
        inspected(arrays).write_csv(tmp_path / "clean.csv")


def test_leaks_of_a_given_split_are_problems(tmp_path):
    lines = ["image,age,split,person"]
    for row in range(30):
        pixels = np.random.default_rng(row % 28).integers(0, 256, (20, 20), dtype=np.uint8)  # 28 and 29 repeat 0 and 1
        Image.fromarray(pixels).save(tmp_path / f"{row:02d}.png")
        part = "train" if row < 20 else "val" if row < 25 else "test"
        lines.append(f"{row:02d}.png,{20 + row},{part},p{row % 27}")  # 27 to 29 are the people 0 to 2
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")

    audit = inspected(tmp_path / "labels.csv")

    found = {finding.kind: finding for finding in audit.findings}
    assert audit.sections["split"]["given_leaks"] == {"images": 2, "subjects": 3}
    assert found["image-leaks"].severity == found["subject-leaks"].severity == "problem"


def test_two_samples_cannot_be_split_and_are_inspected_all_the_same(tmp_path):
    for age in (10, 20):
        Image.new("L", (30, 30), age).save(tmp_path / f"{age}_0_0_2017.jpg")

    audit = inspected(tmp_path)

    assert audit.findings[0].kind in ("no-split", "blank")
    assert audit.to_dict()["samples"]["usable"] == 2


def test_the_page_escapes_what_comes_from_the_data_and_needs_no_network(spoiled, ordage):
    name = "40_0_0_<img src=x onerror=alert(1)>.jpg"
    shutil.copyfile(next(spoiled.glob("*_2030.jpg")), spoiled / name)

    result = ordage("inspect", spoiled, "--img-size", "24", "--html", "page.html", "-q")

    page = (spoiled.parent / "page.html").read_text()
    assert result.returncode == 0
    assert name not in page
    assert html.escape(name) in page
    assert not re.search(r"<[^>]*(?:src|href)=[\"']?(?!data:)[^\"'>]", page)
    assert page.count("data:image/jpeg;base64,") >= 2


def test_the_command_prints_findings_with_what_to_do(spoiled, ordage):
    shown = ordage("inspect", spoiled, "--img-size", "24", "--write", "clean.csv", "-q")
    as_json = json.loads(ordage("inspect", spoiled, "--img-size", "24", "--json", "-q").stdout)

    assert shown.returncode == 0
    assert "problem: 2 groups of byte-identical images carry different ages" in shown.stdout
    assert "clean.csv: 303 samples" in shown.stdout
    assert as_json["duplicates"]["conflicts"] == 2
    assert as_json["findings"][0]["severity"] == "problem"


def test_a_page_or_table_that_cannot_be_written_is_one_line(faces, ordage):
    for flag in ("--html", "--write"):
        result = ordage("inspect", faces, "--img-size", "24", flag, "no/such/folder/file", "-q")

        assert result.returncode == 2
        assert result.stderr == f"ordage: error: {flag} no/such/folder/file: there is no folder no/such/folder\n"


def test_nothing_that_can_be_read_is_said(tmp_path):
    for age in (10, 20):
        (tmp_path / f"{age}_0_0_2017.jpg").write_bytes(b"nothing")

    with pytest.raises(DataError, match=r"no sample can be used; the first: 10_0_0_2017.jpg: not an image"):
        inspected(tmp_path)


# -- near-identical images ---------------------------------------------------------------------------------------------


def smooth(count, seed=0):
    """Pictures that share nothing but that they are smooth."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 4, 4), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC)) for image in coarse])


def test_every_pair_that_correlates_enough_is_found():
    generator = np.random.default_rng(1)
    thumbs = smooth(300)
    again = np.clip(thumbs[:80] + generator.normal(0, 6, (80, 16, 16)), 0, 255).astype(np.uint8)
    both = np.concatenate([thumbs, again])

    groups = near_groups(both)

    correlation = np.corrcoef(both.reshape(380, -1).astype(float))
    for first, second in zip(*np.nonzero(np.triu(correlation >= 0.981, 1)), strict=True):
        assert groups[first] == groups[second]
    for first, second in zip(*np.nonzero(np.triu(correlation < 0.9, 1)), strict=True):
        assert groups[first] != groups[second]
    assert (groups[:80] == groups[300:]).mean() > 0.9


def test_blank_images_are_not_taken_for_each_other():
    assert len(set(near_groups(np.full((5, 16, 16), 90, np.uint8)))) == 5
    assert near_groups(np.zeros((1, 16, 16), np.uint8)).tolist() == [0]


def test_brightness_and_contrast_do_not_hide_a_copy():
    thumbs = smooth(50).astype(float)
    changed = np.clip(thumbs[:10] * 0.7 + 40, 0, 255)

    groups = near_groups(np.concatenate([thumbs, changed]).astype(np.uint8))

    assert (groups[:10] == groups[50:]).all()
