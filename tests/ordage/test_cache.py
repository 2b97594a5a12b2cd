import json
import os
import shutil
import time

import numpy as np
import pytest

from ordage.config import DataConfig
from ordage.data.cache import cache_root, clear, entries
from ordage.data.layouts import read
from ordage.data.store import open_images
from ordage.errors import UsageError
from ordage.progress import Reporter
from ordage.transforms import ImageSpec


@pytest.fixture
def filled(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("ORDAGE_CACHE", str(tmp_path / "cache"))
    manifest = read(DataConfig(data=str(faces)))
    return [open_images(manifest, ImageSpec(side, 3), Reporter(0)) for side in (16, 20)]


def disk(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.usefixtures("filled")
def test_list_shows_source_settings_and_true_sizes(ordage, faces):
    content = json.loads(ordage("cache", "list", "--json").stdout)
    shown = ordage("cache", "list").stdout

    assert {entry["settings"] for entry in content["entries"]} == {"16x16x3-crop-bilinear", "20x20x3-crop-bilinear"}
    assert all(entry["source"] == str(faces) and entry["images"] == 300 for entry in content["entries"])
    assert sum(entry["bytes"] for entry in content["entries"]) == disk(cache_root() / "images")
    assert "300" in shown


@pytest.mark.usefixtures("filled")
def test_clear_deletes_all_or_what_is_named_or_long_unused(ordage):
    first, second = (entry.path for entry in entries())
    os.utime(second / "meta.json", (time.time() - 10 * 86_400,) * 2)

    unused = json.loads(ordage("cache", "clear", "--unused", "5", "--json").stdout)
    assert [entry["name"] for entry in unused["deleted"]] == [second.name]
    assert first.is_dir()

    named = ordage("cache", "clear", first.name[:30])
    assert "1 entry deleted" in named.stdout
    assert not first.exists()

    assert "0 entries deleted" in ordage("cache", "clear").stdout


@pytest.mark.usefixtures("filled")
def test_a_misspelt_name_deletes_nothing():
    with pytest.raises(UsageError, match="no such entry"):
        clear(["nothing"])

    assert len(entries()) == 2


def test_what_is_open_stays_readable_while_it_is_cleared(filled):
    before = np.array(filled[0].images[:5])

    clear()

    np.testing.assert_array_equal(filled[0].images[:5], before)
    assert not entries()


def test_what_others_put_there_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("ORDAGE_CACHE", str(tmp_path))
    (tmp_path / "images" / "mine").mkdir(parents=True)
    (tmp_path / "images" / "mine" / "precious.txt").write_text("keep")
    (tmp_path / "images" / "half").mkdir()
    (tmp_path / "images" / "half" / "meta.json").write_text("{")

    clear()

    assert (tmp_path / "images" / "mine" / "precious.txt").read_text() == "keep"
    assert not entries()


def test_a_folder_that_cannot_be_written_is_one_line(ordage, faces, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ORDAGE_CACHE", str(tmp_path / "file"))

    result = ordage("inspect", faces, "-q")

    assert result.returncode == 3
    assert "name another by ORDAGE_CACHE" in result.stderr
    shutil.rmtree(tmp_path / "file", ignore_errors=True)
