import dataclasses
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import ordage
from ordage.errors import DataError
from ordage.eval import Calibration, OrdinalScale, Predictions, metrics
from ordage.predictor import Ages


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return ordage.fit(
        data=str(faces), img_size=24, model="ordage_tiny", device="cpu", epochs=2, verbosity=0, out=out, name="a"
    )


def test_a_loaded_run_says_of_the_test_files_what_the_run_said(run, faces):
    saved = run.predictions("test")

    said = ordage.load(run.path)([faces / name for name in saved.ids])

    np.testing.assert_allclose(said.log_probs, saved.log_probs, atol=1e-5)
    np.testing.assert_array_equal(said.age, metrics.decode(saved, "median").values)


def test_an_image_and_its_mirror_image_have_one_answer_where_training_mirrored_them(run, faces, tmp_path):
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted(faces.iterdir())[:8]])
    options = {"data": str(faces), "img_size": 24, "model": "ordage_tiny", "device": "cpu", "epochs": 1, "verbosity": 0}
    one_sided = ordage.fit(**options, augment="none", out=tmp_path, name="a")

    def said(run, pixels):
        return ordage.load(run.path)(np.ascontiguousarray(pixels)).log_probs

    np.testing.assert_allclose(said(run, pixels), said(run, pixels[:, :, ::-1]), atol=1e-5)
    assert np.abs(said(one_sided, pixels) - said(one_sided, pixels[:, :, ::-1])).max() > 1e-4
    assert (run.config.tta, one_sided.config.tta) == ("shift", "none")


def test_paths_images_and_arrays_are_prepared_alike(run, faces):
    file = sorted(faces.iterdir())[0]
    predictor = ordage.load(run.path)
    with Image.open(file) as image:
        pixels = np.asarray(image)
        by_image = predictor(image)

    by_path, by_array, by_batch = predictor(str(file)), predictor(pixels), predictor(np.stack([pixels, pixels]))

    assert len(by_path) == 1
    assert len(by_batch) == 2
    by_tensor = predictor(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
    assert len(by_tensor) == 1
    for other in (by_image, by_array, by_batch, by_tensor):
        np.testing.assert_allclose(other.log_probs[0], by_path.log_probs[0], atol=1e-5)


def test_the_table_names_age_bin_and_probability(run, faces):
    table = ordage.load(run.path)(sorted(faces.iterdir())[:7]).to_frame()

    told = ["age", "low", "high", "bin", "bin_probability", "spread", "outside_trained_range"]
    assert table.columns.tolist() == told
    assert len(table) == 7
    assert table["bin_probability"].between(0, 1).all()


def test_what_is_no_image_is_refused_by_name(run, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"nothing")

    with pytest.raises(DataError, match=r"x\.jpg: not an image"):
        ordage.load(run.path)(tmp_path / "x.jpg")
    with pytest.raises(DataError, match="expected a uint8 image"):
        ordage.load(run.path)(np.zeros((8, 8), np.float32))


def test_several_threads_get_the_answers_that_one_gets(run, faces):
    predict = ordage.load(run.path)
    files = sorted(faces.iterdir())[:24]
    alone = [predict(file).age[0] for file in files]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda file: predict(file).age[0], files))

    assert together == alone


def test_a_pickle_in_place_of_the_weights_is_refused_and_never_run(run, tmp_path, ordage):
    ran = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return open, (str(ran), "w")

    folder = shutil.copytree(run.best, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(pickle.dumps(Malicious()))
    result = ordage("predict", folder, "some.jpg")

    assert result.returncode == 3
    assert "the model cannot be read" in result.stderr
    assert not ran.exists()


def test_without_a_calibration_there_is_no_interval(run, faces, tmp_path):
    folder = shutil.copytree(run.best, tmp_path / "model")
    (folder / "calibration.json").unlink()
    table = ordage.load(folder)(sorted(faces.iterdir())[:3]).to_frame()

    assert table[["low", "high"]].isna().all(axis=None)
    assert table["age"].notna().all()


def test_the_bin_is_the_most_probable_by_the_probabilities_that_are_shown():
    """At the temperature that the model was given, which can make another bin the most probable."""
    rng = np.random.default_rng(0)
    classes, bins = OrdinalScale.years(0, 39), OrdinalScale.parse("0-4,5-19,20+")
    log_probs = np.log(rng.dirichlet(np.full(40, 0.05), 500) + 1e-12).astype(np.float32)
    learned = Calibration.fit(Predictions.from_probs(np.exp(log_probs), classes, target=rng.integers(40, size=500)))
    ages = {
        temperature: Ages(log_probs, classes, bins, dataclasses.replace(learned, temperature=temperature))
        for temperature in (None, 3.0)
    }

    for each in ages.values():
        np.testing.assert_array_equal(each.bin, np.asarray(bins.labels)[each.bin_probs.argmax(axis=1)])
        np.testing.assert_array_equal(each.bin_probability, each.bin_probs.max(axis=1))
    assert (ages[None].bin != ages[3.0].bin).any()
    np.testing.assert_array_equal(ages[None].age, ages[3.0].age)
