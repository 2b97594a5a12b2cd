"""Broken files by the thousand: whatever is wrong with one is said in a line, and the others are used."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ordage.config import DataConfig
from ordage.data.layouts import read
from ordage.errors import DataError, UsageError

COUNT = 2000
# Numbers that headers, lengths and offsets do not expect.
EXTREMES = [
    number.to_bytes(size, order)
    for size in (1, 2, 4)
    for number in (0, 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
    for order in ("big", "little")
]


def mutated(content, generator, pieces):
    """Return a copy with one to four things done to it that transfers, editors and disks do."""
    content = bytearray(content)

    def place():
        # Half of the time in the header, where each byte means something.
        return int(generator.integers(0, max(1, min(len(content), 64) if generator.random() < 0.5 else len(content))))

    def flip():
        if content:
            content[place()] ^= 1 << int(generator.integers(8))

    def overwrite():
        at, piece = place(), pieces[generator.integers(len(pieces))]
        content[at : at + len(piece)] = piece

    def insert():
        content[place() : 0] = pieces[generator.integers(len(pieces))]

    def cut():
        at = place()
        del content[at : at + int(generator.integers(1, 200))]

    def truncate():
        del content[place() :]

    def zero():
        at, size = place(), int(generator.integers(1, 400))
        content[at : at + size] = bytes(len(content[at : at + size]))

    def double():
        content.extend(content[place() :])

    tricks = (flip, overwrite, insert, cut, truncate, zero, double)
    for _ in range(generator.integers(1, 5)):
        tricks[generator.integers(len(tricks))]()
    return bytes(content)


def pictures():
    """Return small files of every format and kind of pixel that people's folders hold, with their suffix."""
    generator = np.random.default_rng(1)
    colour = Image.fromarray(generator.integers(0, 256, (40, 36, 3), dtype=np.uint8)).resize((72, 80))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [
        ("jpg", "RGB", {"quality": 80}),
        ("jpg", "RGB", {"progressive": True}),
        ("jpg", "L", {}),
        ("jpg", "CMYK", {}),
        ("jpg", "RGB", {"exif": exif}),
        ("png", "RGB", {}),
        ("png", "P", {}),
        ("png", "RGBA", {}),
        ("png", "I;16", {}),
        ("gif", "P", {"save_all": True, "append_images": [colour.convert("P").rotate(90)]}),
        ("webp", "RGB", {}),
        ("bmp", "L", {}),
        ("tiff", "RGB", {"compression": "tiff_lzw"}),
        ("tiff", "F", {}),
        ("ppm", "RGB", {}),
    ]
    for suffix, mode, options in kinds:
        file = io.BytesIO()
        image = colour.convert("I").convert("I;16") if mode == "I;16" else colour.convert(mode)
        image.save(file, {"jpg": "jpeg"}.get(suffix, suffix), **options)
        yield suffix, file.getvalue()


def pillow_reads(content):
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except Exception:
        return False
    return True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Pillow's own, in pillow_reads
def test_of_two_thousand_broken_images_each_is_used_or_listed(tmp_path):
    generator = np.random.default_rng(0)
    files = list(pictures())
    folder = tmp_path / "faces"
    broken = set()
    for row in range(COUNT):
        suffix, content = files[row % len(files)]
        content = mutated(content, generator, [*EXTREMES, b"\xff\xd8", b"\xff\xd9", b"IEND", b"Exif\0\0"])
        file = folder / str(1 + row % 90) / f"{row:04d}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if not pillow_reads(content):
            broken.add(f"{file.parent.name}/{file.name}")

    command = [sys.executable, "-m", "ordage", "inspect", folder, "--img-size", "16", "--json"]
    outcome = subprocess.run(
        [*command, "--rejected", tmp_path / "rejected.csv"], capture_output=True, text=True, timeout=240, check=False
    )

    assert outcome.returncode == 0, outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert "Warning" not in outcome.stderr
    samples = json.loads(outcome.stdout)["samples"]
    rejected = pd.read_csv(tmp_path / "rejected.csv")
    assert samples["usable"] + len(rejected) == COUNT
    assert samples["rejected"] == len(rejected) == rejected["id"].nunique()
    assert rejected["reason"].str.len().min() > 0
    assert 400 < len(broken) < 1600  # both happen often
    assert set(rejected["id"]) == broken


def lines(generator):
    """Return the records of a small table as people write them, all of them right."""
    ages = ["34", "7", "62.5", "(25, 32)", "60+", "0-2", "18"]
    for row in range(12):
        part = ("train", "val", "test")[row % 3]
        yield [f"img/{row:03d}.png", str(generator.choice(ages)), f"person {row // 2}", part]


ODD_FIELDS = (
    *("", " ", "\t", "nan", "NULL", "-1", "1e400", "1e-400", "inf", "121", "٣٤", "34 years", "34,5", "30–39", "39-30"),
    *("(a, b)", "03-Sep", "Oct-19", "=1+1", "9" * 400, "1_0", "0x10", "True", "[1, 2]", "{}", "%s", "$(id)", "train"),
    *("a" * 5000, "../" * 400, "/dev/null", "/", ".", "img", "img/000.png", "\x00", "\x1a", "é", "\u202e", "🙂", "'"),
)
MARKS = (b'"', b'""', b",", b";", b"\n", b"\r", b"\r\n\r\n", b"\xff\xfe", b"\xef\xbb\xbf")


def attempt(file, **options):
    """Return the manifest, or None, and why there is none; any other error fails the test."""
    try:
        return read(DataConfig(data=str(file), **options)), ""
    except (DataError, UsageError) as error:
        return None, str(error)


@pytest.fixture
def images(tmp_path):
    (tmp_path / "img").mkdir()
    for row in range(12):
        Image.new("L", (8, 8), 20 * row).save(tmp_path / "img" / f"{row:03d}.png")
    return tmp_path


@pytest.mark.slow
def test_odd_fields_cost_their_line_and_no_other(images):
    generator = np.random.default_rng(0)
    file = images / "labels.csv"
    used = 0
    for _ in range(COUNT // 2):
        records = list(lines(generator))
        touched = set()
        for _ in range(generator.integers(1, 6)):
            row, column = int(generator.integers(12)), int(generator.integers(4))
            records[row][column] = str(generator.choice(ODD_FIELDS))
            touched.add(row)
        frame = pd.DataFrame(records, columns=["image", "age", "person", "split"])
        file.write_bytes(frame.to_csv(index=False).encode())

        manifest, reason = attempt(file, subject_col="person")

        if manifest is None:
            assert str(file) in reason
            continue
        assert len(manifest) + len(manifest.rejected) == 12
        assert all(reason for _, reason in manifest.rejected.rows)
        # A line is lost by what stands in it, or because another one has come to name the same image.
        whole = {records[row][0] for row in set(range(12)) - touched}
        assert whole <= set(manifest.table["id"]) | {records[row][0] for row in touched}
        used += len(manifest)
    assert used > 0.7 * 12 * COUNT // 2


@pytest.mark.slow
def test_of_broken_tables_each_is_read_or_refused_in_a_line(images):
    generator = np.random.default_rng(0)
    file = images / "labels.csv"
    pieces = [*(piece.encode() for piece in ODD_FIELDS), *MARKS]
    readable = 0
    for _ in range(COUNT // 2):
        records = [["image", "age", "person", "split"], *lines(generator)]
        content = "\n".join(",".join(f'"{field}"' if "," in field else field for field in record) for record in records)
        file.write_bytes(mutated(content.encode(), generator, pieces))

        manifest, reason = attempt(file)

        if manifest is None:
            assert reason
            continue
        readable += 1
        assert all(reason for _, reason in manifest.rejected.rows)
        assert manifest.table["low"].between(0, 120).all()
    assert readable > COUNT // 8


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes and devices in folders")
def test_what_is_no_file_is_listed_and_never_waited_for(images):
    os.mkfifo(images / "pipe.png")
    names = ["/dev/zero", "pipe.png", "img", "gone.png", "a" * 5000 + ".png", "img/000.png", "img/001.png"]
    pd.DataFrame({"image": names, "age": range(20, 27)}).to_csv(images / "labels.csv", index=False)

    command = [sys.executable, "-m", "ordage", "inspect", images / "labels.csv", "--json"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert outcome.returncode == 0, outcome.stderr
    samples = json.loads(outcome.stdout)["samples"]
    assert {row["id"] for row in samples["first_rejected"]} == set(names[:5])
    assert samples["usable"] == 2
