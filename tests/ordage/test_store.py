import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from ordage import images, transforms
from ordage.config import RunConfig
from ordage.data.cache import cache_root
from ordage.data.layouts import read
from ordage.data.store import open_images
from ordage.errors import DataError
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


def pixels(store):
    """The images in the order of the manifest."""
    return store.images[store.row]


def images_of(root):
    """The folder of the only entry."""
    (entry,) = (path for path in (root / "images").iterdir() if path.is_dir())
    return entry


@pytest.mark.usefixtures("own_cache")
def test_pixels_equal_those_of_decoding_each_file_by_itself(folder):
    manifest = manifest_of(folder)

    store = open_images(manifest, SPEC, QUIET)

    for row in (0, 100, 299):
        with Image.open(manifest.table["path"].iat[row]) as image:
            alone = image.convert("L").resize((16, 16), Image.Resampling.BILINEAR)
        # JPEG's own luminance is taken, which differs from grey made of the decoded colours by rounding and clipping.
        assert np.abs(pixels(store)[row, ..., 0].astype(int) - np.asarray(alone)).mean() < 1


@pytest.mark.usefixtures("own_cache")
def test_a_second_opening_reads_no_image_file(folder):
    first = open_images(manifest_of(folder), SPEC, QUIET)
    entry = images_of(cache_root())
    built = {file: file.stat().st_mtime_ns for file in entry.glob("*.np*")}
    for file in folder.iterdir():  # same size and time of change, but no longer an image
        status = file.stat()
        file.write_bytes(b"x" * status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    second = open_images(manifest_of(folder), SPEC, QUIET)

    np.testing.assert_array_equal(pixels(first), pixels(second))
    assert (second.errors == "").all()
    assert built == {file: file.stat().st_mtime_ns for file in entry.glob("*.np*")}


@pytest.mark.usefixtures("own_cache")
def test_a_changed_file_and_another_size_are_decoded_anew(folder):
    before = open_images(manifest_of(folder), SPEC, QUIET)
    manifest = manifest_of(folder)
    Image.new("L", (30, 30), 255).save(manifest.table["path"].iat[0])

    after = open_images(manifest, SPEC, QUIET)
    larger = open_images(manifest, ImageSpec(20, 3), QUIET)

    assert pixels(after)[0].min() >= 254
    assert pixels(before)[0].min() < 254
    assert pixels(larger).shape == (300, 20, 20, 3)


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
        "import sys; from ordage.config import RunConfig; from ordage.data.store import open_images;"
        "from ordage.data.layouts import read; from ordage.progress import Reporter;"
        "from ordage.transforms import ImageSpec;"
        "store = open_images(read(RunConfig(data=sys.argv[1])), ImageSpec(16, 1), Reporter(0));"
        "print(int(store.images[store.row].sum()))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]

    sums = {process.communicate(timeout=120)[0].strip() for process in both}

    assert len(sums) == 1
    assert images_of(cache_root()).name.startswith("16x16x1-crop-bilinear-")


@pytest.mark.usefixtures("own_cache")
def test_a_copied_renamed_or_touched_set_is_not_decoded_again(folder, tmp_path, monkeypatch):
    first = open_images(manifest_of(folder), SPEC, QUIET)
    copy = shutil.copytree(folder, tmp_path / "copy")
    for file in copy.iterdir():
        os.utime(file)
    paths = sorted(copy.iterdir())
    paths[0].rename(copy / paths[0].name.replace("_2017", "_2099"))

    def refuse(*_):
        raise AssertionError("an image was decoded again")

    monkeypatch.setattr(ImageSpec, "decode", refuse)
    again = open_images(manifest_of(copy), SPEC, QUIET)

    names = manifest_of(copy).table["id"].str.replace("_2099", "_2017").tolist()
    order = [names.index(name) for name in manifest_of(folder).table["id"]]
    np.testing.assert_array_equal(pixels(again)[order], pixels(first))
    assert len(list((cache_root() / "images").glob("16*"))) == 1


@pytest.mark.usefixtures("own_cache")
def test_of_a_set_that_has_changed_only_the_changed_images_are_decoded(folder, monkeypatch):
    open_images(manifest_of(folder), SPEC, QUIET)
    Image.new("L", (30, 30), 7).save(folder / "33_0_0_2040.jpg")
    sorted(folder.iterdir())[5].unlink()
    decoded = []
    monkeypatch.setattr(
        transforms, "decode", lambda content, **options: decoded.append(content) or images.decode(content, **options)
    )

    manifest = manifest_of(folder)
    store = open_images(manifest, SPEC, QUIET)

    assert len(decoded) == 1
    for row in range(0, 300, 37):
        alone = SPEC.decode((folder / manifest.table["id"].iat[row]).read_bytes())[0]
        np.testing.assert_array_equal(pixels(store)[row], alone)


@pytest.mark.usefixtures("own_cache")
def test_identical_files_are_stored_once(folder):
    paths = sorted(folder.iterdir())
    for copy in paths[1:100]:
        shutil.copyfile(paths[0], copy)

    store = open_images(manifest_of(folder), SPEC, QUIET)

    assert len(store.images) == 201
    assert (pixels(store)[:100] == pixels(store)[0]).all()


@pytest.mark.usefixtures("own_cache")
def test_a_killed_build_leaves_nothing_that_counts_and_is_swept_away(folder):
    program = (
        "import os, signal, sys; from ordage.config import RunConfig; from ordage.data import store;"
        "from ordage.data.layouts import read; from ordage.progress import Reporter;"
        "from ordage.transforms import ImageSpec;"
        "store._thumbs = lambda pixels: os.kill(os.getpid(), signal.SIGKILL);"
        "store.open_images(read(RunConfig(data=sys.argv[1])), ImageSpec(16, 1), Reporter(0))"
    )
    assert subprocess.run([sys.executable, "-c", program, str(folder)], timeout=120).returncode == -9
    (left,) = (cache_root() / "images").glob(".building-*")
    os.utime(left, (time.time() - 100_000,) * 2)  # more than a day ago

    store = open_images(manifest_of(folder), SPEC, QUIET)  # the lock died with its process, or this would wait forever

    assert len(store.images) == 300
    assert not left.exists()


@pytest.mark.usefixtures("own_cache")
def test_a_missing_file_is_rejected_and_the_others_are_read(folder):
    manifest = manifest_of(folder)
    (folder / manifest.table["id"].iat[7]).unlink()

    store = open_images(manifest, SPEC, QUIET)

    assert store.errors[7] == "No such file or directory"
    assert (np.delete(store.errors, 7) == "").all()


@pytest.mark.usefixtures("own_cache")
def test_what_the_files_say_of_themselves_is_kept(folder):
    first = sorted(folder.iterdir())[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("CMYK", (40, 20)).save(first, "JPEG", exif=exif)

    store = open_images(manifest_of(folder), SPEC, QUIET)

    about = store.about[store.row]
    assert (about[0]["width"], about[0]["height"], about[0]["mode"], about[0]["orientation"]) == (20, 40, "CMYK", 6)
    assert (about[1]["width"], about[1]["height"], about[1]["mode"], about[1]["format"]) == (24, 24, "RGB", "JPEG")


@pytest.mark.usefixtures("own_cache")
def test_a_set_larger_than_the_limit_is_decoded_on_demand_to_the_same_pixels(folder, capsys):
    kept = pixels(open_images(manifest_of(folder), SPEC, QUIET))
    shutil.rmtree(cache_root())

    streamed = open_images(manifest_of(folder), SPEC, Reporter(1), limit_gb=1e-5)

    assert "more than the limit (1e-05 GB; --cache-limit): decoded anew in every epoch" in capsys.readouterr().err
    assert not list(cache_root().rglob("images.npy"))
    order = np.random.default_rng(0).permutation(300)
    batches = np.array_split(streamed.row[order], 9)
    found = [batch.numpy() for batch in streamed.images.take(batches)]
    np.testing.assert_array_equal(np.concatenate(found), kept[order])
    again = [batch.numpy() for batch in streamed.images.take(batches[:2])]
    np.testing.assert_array_equal(np.concatenate(again), kept[order][: len(np.concatenate(again))])

    assert isinstance(open_images(manifest_of(folder), SPEC, QUIET).images, np.ndarray)  # without the limit it is kept


@pytest.mark.usefixtures("own_cache")
def test_a_file_that_breaks_while_it_is_streamed_is_named(folder):
    manifest = manifest_of(folder)
    streamed = open_images(manifest, SPEC, QUIET, limit_gb=0)
    broken = folder / manifest.table["id"].iat[3]
    broken.write_bytes(b"")

    with pytest.raises(DataError, match=f"{broken.name}: was readable when the run began, but is not any more"):
        list(streamed.images.take([streamed.row[:8]]))


@pytest.mark.usefixtures("own_cache")
def test_arrays_are_resized_and_converted_like_files(drawn):
    manifest = read(RunConfig())
    grey = open_images(manifest, ImageSpec(20, 1), QUIET)

    for row in (0, 4000):
        alone = Image.fromarray(manifest.images[row]).convert("L").resize((20, 20), Image.Resampling.BILINEAR)
        assert np.abs(grey.images[row, ..., 0].astype(int) - np.asarray(alone, int)).max() <= 1


def test_pixels_whose_channels_come_first_are_put_in_order_once(tmp_path):
    arrays = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "faces.npz", images=arrays, ages=np.arange(40))

    store = open_images(read(RunConfig(data=str(tmp_path / "faces.npz"))), ImageSpec(16, 3), QUIET)

    assert store.images.flags.c_contiguous
    np.testing.assert_array_equal(store.images, arrays.transpose(0, 2, 3, 1))
