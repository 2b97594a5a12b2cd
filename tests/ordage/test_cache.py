import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ordage.config import RunConfig
from ordage.data.cache import cache_root, open_images
from ordage.data.layouts import read
from ordage.progress import Reporter
from ordage.transforms import ImageSpec

QUIET = Reporter(0)
SPEC = ImageSpec(16, 1)


@pytest.fixture
def folder(faces, tmp_path):
    return shutil.copytree(faces, tmp_path / "faces")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORDAGE_CACHE", str(tmp_path / "cache"))


def manifest_of(folder):
    return read(RunConfig(data=str(folder)))


@pytest.mark.usefixtures("own_cache")
def test_pixels_equal_those_of_decoding_each_file_by_itself(folder):
    manifest = manifest_of(folder)

    store = open_images(manifest, SPEC, QUIET)

    for row in (0, 100, 299):
        with Image.open(manifest.table["path"].iat[row]) as image:
            alone = image.convert("L").resize((16, 16), Image.Resampling.BILINEAR)
        # JPEG's own luminance is taken, which differs from grey made of the decoded colours by rounding and clipping.
        assert np.abs(store.images[row, ..., 0].astype(int) - np.asarray(alone)).mean() < 1


@pytest.mark.usefixtures("own_cache")
def test_a_second_opening_reads_no_image_file(folder):
    first = open_images(manifest_of(folder), SPEC, QUIET)
    accessed = {file: os.stat(file).st_mtime_ns for file in cache_root().glob("*/*")}
    for file in folder.iterdir():  # same size and time of change, but no longer an image
        status = file.stat()
        file.write_bytes(b"x" * status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    second = open_images(manifest_of(folder), SPEC, QUIET)

    np.testing.assert_array_equal(first.images, second.images)
    assert (second.errors == "").all()
    assert accessed == {file: os.stat(file).st_mtime_ns for file in cache_root().glob("*/*")}


@pytest.mark.usefixtures("own_cache")
def test_a_changed_file_and_another_size_are_decoded_anew(folder):
    before = open_images(manifest_of(folder), SPEC, QUIET)
    manifest = manifest_of(folder)
    Image.new("L", (30, 30), 255).save(manifest.table["path"].iat[0])

    after = open_images(manifest, SPEC, QUIET)
    larger = open_images(manifest, ImageSpec(20, 3), QUIET)

    assert after.images[0].min() >= 254
    assert before.images[0].min() < 254
    assert larger.images.shape == (300, 20, 20, 3)


@pytest.mark.usefixtures("own_cache")
def test_identical_files_have_one_digest_and_broken_ones_a_reason(folder):
    paths = sorted(folder.iterdir())
    shutil.copyfile(paths[0], paths[1])
    paths[2].write_bytes(paths[2].read_bytes()[:300])
    paths[3].write_bytes(b"")
    paths[4].write_bytes(b"no image at all")

    store = open_images(manifest_of(folder), SPEC, QUIET)

    assert store.digests[0] == store.digests[1]
    assert len(set(store.digests)) == 299
    assert "truncated" in store.errors[2].lower()
    assert store.errors[3] == "the file is empty"
    assert store.errors[4] == "not an image, or a broken one"
    assert (store.errors[5:] == "").all()


@pytest.mark.usefixtures("own_cache")
def test_two_processes_at_once_end_with_one_whole_entry(folder):
    program = (
        "import sys; from ordage.config import RunConfig; from ordage.data.cache import open_images;"
        "from ordage.data.layouts import read; from ordage.progress import Reporter;"
        "from ordage.transforms import ImageSpec;"
        "print(int(open_images(read(RunConfig(data=sys.argv[1])), ImageSpec(16, 1), Reporter(0)).images.sum()))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]

    sums = {process.communicate(timeout=120)[0].strip() for process in both}

    assert len(sums) == 1
    assert len(list(cache_root().iterdir())) == 1


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = Image.fromarray(np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16))

    pixels = SPEC.decode(encoded(ramp, "PNG"))

    assert pixels[0, 0, 0] == 0
    assert pixels[-1, -1, 0] == 255
    assert 120 < pixels[8, 0, 0] < 136


def test_transparency_becomes_white():
    hidden = Image.new("RGBA", (16, 16), (200, 0, 0, 0))

    assert (ImageSpec(16, 3).decode(encoded(hidden, "PNG")) == 255).all()


def test_exif_rotation_is_honoured():
    half = Image.new("L", (32, 32), 0)
    half.paste(255, (0, 0, 32, 16))  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down

    pixels = SPEC.decode(encoded(half, "JPEG", exif=exif, quality=95))

    assert pixels[:4].max() < 50
    assert pixels[-4:].min() > 200


@pytest.mark.parametrize(("fit", "left"), [("crop", 255), ("pad", 255), ("stretch", 0)])
def test_each_way_to_make_an_image_square(fit, left):
    wide = Image.new("L", (64, 32), 255)
    wide.paste(0, (0, 0, 16, 32))  # the leftmost quarter is black

    pixels = ImageSpec(32, 1, fit=fit).prepare(wide)[..., 0]

    assert pixels.shape == (32, 32)
    assert pixels[16, 10 if fit == "pad" else 1] == left
    assert (pixels[0] == 0).all() == (fit == "pad")
