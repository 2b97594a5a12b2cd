import json
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ordage as package
from ordage import losses
from ordage.eval import Calibration, OrdinalScale, Predictions
from ordage.export_formats import FORMATS
from ordage.model import OrdinalModel
from ordage.predictor import Predictor
from ordage.transforms import ImageSpec

# Answers of an exported file, by a process in which what is named cannot be imported.
WITHOUT = """
import json, sys
for name in {blocked}:
    sys.modules[name] = None
import numpy as np
images = np.load("images.npy")
{load}
np.savez("answers.npz", **dict(zip(("age", "low", "high", "bins", "classes"), map(np.asarray, found))))
"""
LOAD = {
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession({file!r})
found = session.run(None, {{"images": images}})
print(json.dumps(session.get_modelmeta().custom_metadata_map))
""",
    "torch": """
import torch
about = {{"made_by": "", "classes": "", "bins": "", "images": ""}}
found = torch.export.load({file!r}, extra_files=about).module()(torch.from_numpy(images))
print(json.dumps(about))
""",
}
BLOCKED = {"onnx": ["torch", "ordage", "timm"], "torch": ["ordage", "timm", "onnxruntime"]}


def answers_elsewhere(kind, file, images, folder):
    np.save(folder / "images.npy", images)
    code = WITHOUT.format(blocked=BLOCKED[kind], load=LOAD[kind].format(file=file))
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "answers.npz") as found:
        return dict(found), json.loads(done.stdout)


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return package.fit(
        data=str(faces), img_size=24, model="ordage_tiny", loss="coral", device="cpu", epochs=2, verbosity=0, out=out
    )


def assert_alike(found, said, atol=1e-4):
    low, high = said.interval
    np.testing.assert_allclose(found["classes"], said.probs, atol=atol)
    np.testing.assert_allclose(found["bins"], said.bin_probs, atol=atol)
    np.testing.assert_array_equal(found["age"], said.age.astype(np.float32))
    np.testing.assert_array_equal(found["low"], low.astype(np.float32))
    np.testing.assert_array_equal(found["high"], high.astype(np.float32))


@pytest.fixture(scope="module", params=["onnx", "torch"])
def exported(request, run, tmp_path_factory):
    """The kind of a file, the file, and what was told of it."""
    folder = tmp_path_factory.mktemp("model")
    command = [sys.executable, "-m", "ordage", "export", str(run.path), "--format", request.param, "--json"]
    done = subprocess.run([*command, "--out", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing of the exporters' own workings
    told = json.loads(done.stdout)
    return request.param, told["file"], told["verified"]


@pytest.mark.slow
def test_the_file_says_what_the_model_says_where_there_is_no_ordage(run, exported, drawn, tmp_path):
    kind, file, verified = exported
    found, about = answers_elsewhere(kind, file, drawn.images[:64], tmp_path)

    assert_alike(found, package.load(run.path)(drawn.images[:64]))
    assert verified["largest"] <= 1e-4
    assert about["made_by"].startswith("ordage ")
    assert json.loads(about["bins"]) == list(package.load(run.path).bins.labels)


@pytest.mark.parametrize("shape", [(1, 24, 24), (3, 60, 60), (5, 31, 50), (2, 90, 40)])
def test_images_of_any_shape_are_resized_as_in_training(run, exported, tmp_path, shape):
    kind, file, _ = exported
    generator = np.random.default_rng(0)
    smooth = generator.integers(0, 256, (shape[0], 6, 6, 3), np.uint8)
    images = np.stack([np.asarray(Image.fromarray(each).resize(shape[:0:-1])) for each in smooth])
    found, _ = answers_elsewhere(kind, file, images, tmp_path)
    said = package.load(run.path)(images)

    # One pixel in some hundreds is rounded the other way by a grey level.
    np.testing.assert_allclose(found["classes"], said.probs, atol=0.002)
    assert np.abs(found["age"] - said.age).max() <= 1


class _Flat(nn.Module):
    """A backbone that is quick to export."""

    def __init__(self, features):
        super().__init__()
        self.linear = nn.Linear(8 * 8, features)

    def forward(self, images):
        return 5 * torch.tanh(self.linear(images.mean(1).flatten(1)))


@dataclass
class _Loaded:
    model: Any
    criterion: Any
    spec: Any
    classes: Any
    bins: Any
    calibration: Any
    name: str = "flat"
    loss: str = "some"
    trained_on: Any = None


def shaded(count, chans, seed):
    """Noise, each image brighter than the one before, so that answers differ."""
    noise = np.random.default_rng(seed).integers(0, 60, (count, 8, 8, chans))
    return (noise + np.linspace(0, 195, count)[:, None, None, None]).astype(np.uint8)


def predictor_of(name, *, classes, bins, fit="crop", interpolation="bilinear", chans=1, calibrated=True):
    torch.manual_seed(0)
    criterion = losses.create(name, len(classes), classes.values)
    head = criterion.make_head(16, prior=torch.full((len(classes),), 1 / len(classes)))
    spec = ImageSpec(8, chans, fit, interpolation, mean=(0.5,) * chans, std=(0.25,) * chans)
    model = OrdinalModel(_Flat(16), head, spec).eval()
    predictor = Predictor(_Loaded(model, criterion, spec, classes, bins, None), "cpu")
    if calibrated:
        images = shaded(80, chans, seed=1)
        said = predictor.of_pixels(images)
        below = said.probs.cumsum(axis=1)
        target = (below[:, :-1] < np.random.default_rng(2).random((80, 1)) * below[:, -1:]).sum(axis=1)
        meta = {"point_predictor": name in ("regression",)}
        predictions = Predictions.from_probs(np.exp(said.log_probs), classes, target=target, meta=meta)
        predictor.calibration = Calibration.fit(predictions)
    return predictor


@pytest.mark.parametrize("name", losses.available())
def test_every_loss_can_be_exported(name, tmp_path):
    predictor = predictor_of(name, classes=OrdinalScale.years(0, 40), bins=OrdinalScale.parse("0-10,11-20,21+"))
    FORMATS["onnx"].write(predictor, tmp_path / "model.onnx")
    images = shaded(32, 1, seed=3)
    found = FORMATS["onnx"].open(tmp_path / "model.onnx")(images)

    names = ("age", "low", "high", "bins", "classes")
    assert_alike(dict(zip(names, found, strict=True)), predictor.of_pixels(images))
    assert len(np.unique(found[0])) > 3


@pytest.mark.parametrize(("fit", "interpolation"), [("pad", "bilinear"), ("crop", "lanczos"), ("stretch", "bicubic")])
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_what_a_file_cannot_resize_it_asks_for_as_it_is(tmp_path, kind, fit, interpolation):
    classes = OrdinalScale.years(0, 20)
    predictor = predictor_of("softmax", classes=classes, bins=classes, fit=fit, interpolation=interpolation, chans=3)
    file = tmp_path / f"model.{FORMATS[kind].suffix}"
    FORMATS[kind].write(predictor, file)
    answer = FORMATS[kind].open(file)
    images = shaded(5, 3, seed=3)

    np.testing.assert_allclose(answer(images)[-1], predictor.of_pixels(images).probs, atol=1e-5)
    wider = np.repeat(images, 2, axis=2)
    if fit == "stretch":
        np.testing.assert_allclose(answer(wider)[-1], predictor(wider).probs, atol=0.02)
    else:
        with pytest.raises(Exception, match=r"8|dimension|shape"):
            answer(wider)


def test_without_a_calibration_there_is_no_interval(tmp_path):
    classes = OrdinalScale.parse("0-10,11-20,21+")
    predictor = predictor_of("corn", classes=classes, bins=classes, calibrated=False)
    FORMATS["onnx"].write(predictor, tmp_path / "model.onnx")
    age, low, high, *_ = FORMATS["onnx"].open(tmp_path / "model.onnx")(np.zeros((1, 8, 8, 1), np.uint8))

    assert np.isfinite(age).all()
    assert np.isnan(low).all()
    assert np.isnan(high).all()


@pytest.mark.slow
def test_the_folder_holds_the_model_and_a_card_that_tells_what_was_measured(run, faces, ordage):
    result = ordage("export", run.path)
    folder = run.path / "export"
    card = (folder / "README.md").read_text(encoding="utf-8")
    figures = run.report["test"]["test"]

    assert result.returncode == 0, result.stderr
    assert {file.name for file in folder.iterdir()} == {
        "model.onnx", "model.json", "model.safetensors", "calibration.json", "README.md",
    }  # fmt: skip
    assert card.startswith("---\nlibrary_name: ordage\n")
    assert f"{100 * figures['bin_accuracy']:.1f}" in card
    assert f"{figures['mae']:.2f}" in card
    for part, count in run.report["data"]["parts"].items():
        assert f"{count:,} for {part}" in card
    assert str(faces.parent) not in card  # nobody else's business
    for needed in ("coral", "Intended use", "onnxruntime", "ordage.load", "Seed 0"):
        assert needed in card
    np.testing.assert_array_equal(
        package.load(folder)(sorted(faces.iterdir())[:9]).log_probs,
        package.load(run.path)(sorted(faces.iterdir())[:9]).log_probs,
    )


@pytest.mark.slow
def test_an_exported_folder_can_be_exported_and_used_again(run, faces, ordage, tmp_path):
    ordage("export", run.path, "--out", "first")
    result = ordage("export", "first", "--format", "torch", "--out", "second", "--tta", "none")

    assert result.returncode == 0, result.stderr
    assert (tmp_path / "second" / "model.pt2").is_file()
    assert "Figures on the test part" not in (tmp_path / "second" / "README.md").read_text(encoding="utf-8")
    image = str(min(faces.iterdir()))
    assert ordage("predict", "second", image).stdout == ordage("predict", run.path, image, "--tta", "none").stdout


def test_views_of_ones_own_travel_and_the_card_says_that_they_were_not_judged(run, faces, ordage, tmp_path):
    assert package.load(run.path).model.tta == "shift"
    result = ordage("export", run.path, "--format", "torch", "--tta", "none", "--out", "plain")
    card = (tmp_path / "plain" / "README.md").read_text(encoding="utf-8")

    assert result.returncode == 0, result.stderr
    assert package.load(tmp_path / "plain").model.tta == "none"
    assert "of the views `shift`; the model in this folder answers by `none`" in card
    image = str(min(faces.iterdir()))
    assert ordage("predict", "plain", image).stdout == ordage("predict", run.path, image, "--tta", "none").stdout


@pytest.mark.slow
def test_a_file_of_other_views_goes_when_the_model_beside_it_changes(run, ordage, tmp_path):
    ordage("export", run.path, "--format", "torch", "--out", "model")
    ordage("export", run.path, "--format", "onnx", "--out", "model")
    both = {file.suffix for file in (tmp_path / "model").glob("model.*")}
    ordage("export", run.path, "--format", "onnx", "--tta", "none", "--out", "model")

    assert both == {".pt2", ".onnx", ".json", ".safetensors"}
    assert {file.suffix for file in (tmp_path / "model").glob("model.*")} == {".onnx", ".json", ".safetensors"}


def test_a_run_keeps_the_views_that_it_was_judged_by(run, ordage):
    before = (run.best / "model.json").read_bytes()
    result = ordage("export", run.path, "--out", run.best, "--tta", "none")

    assert result.returncode == 2
    assert "judged by shift" in result.stderr
    assert (run.best / "model.json").read_bytes() == before


def test_a_backbone_that_the_exporter_cannot_follow_is_told(run, ordage, tmp_path, monkeypatch):
    from ordage.nets import FaceNet

    plain = FaceNet.forward_features

    def by_numbers(self, x):  # of what the images hold, which no program knows before
        return plain(self, x) if float(x.sum()) > 0 else plain(self, -x)

    monkeypatch.setattr(FaceNet, "forward_features", by_numbers)
    result = ordage("export", run.path, "--format", "torch", "--out", "none")

    assert result.returncode == 2
    assert "ordage_tiny cannot be written so" in result.stderr
    assert "try --format onnx" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list((tmp_path / "none").iterdir())


def test_a_file_that_resizes_otherwise_is_not_kept(run, ordage, tmp_path, monkeypatch):
    from ordage import answers

    def wrong(images, size, **_):  # the brighter the larger; images of that size stay as they are
        return nn.functional.interpolate(images, size, mode="nearest") * (images.shape[-1] / size[-1]) ** 9

    functions = SimpleNamespace(interpolate=wrong, log_softmax=nn.functional.log_softmax)
    monkeypatch.setattr(answers, "F", functions)  # the file's alone
    result = ordage("export", run.path, "--format", "torch", "--out", "wrong")

    assert result.returncode == 3
    assert "where it resizes, answers differ" in result.stderr
    assert not list((tmp_path / "wrong").iterdir())


@pytest.mark.slow
def test_nothing_of_another_model_is_left_in_the_folder(run, arrays, ordage, tmp_path):
    other = package.fit(data=str(arrays), model="ordage_tiny", device="cpu", epochs=1, verbosity=0, out=tmp_path)
    (other.best / "calibration.json").unlink()
    ordage("export", run.path, "--format", "torch", "--out", "model")
    result = ordage("export", other.path, "--out", "model")

    assert result.returncode == 0, result.stderr
    assert {file.name for file in (tmp_path / "model").iterdir()} == {
        "model.onnx", "model.json", "model.safetensors", "README.md",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 3, "nowhere: no model.json"),
        (["RUN", "--format", "tflite"], 2, "expected one of onnx, torch"),
        (["RUN", "--out", __file__], 2, "is a file; name a folder"),
        (["RUN", "--tta", "all"], 2, "'none', 'flip', 'shift'"),
        (["hf:somebody/something"], 2, "--out"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_line(run, ordage, arguments, code, said):
    result = ordage("export", *(str(run.path) if each == "RUN" else each for each in arguments))

    assert result.returncode == code
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_does_not_answer_as_the_model_is_not_kept(run, ordage, tmp_path, monkeypatch):
    """As when an exporter computes something else: here the file that it writes is of other weights."""
    from ordage import exporting

    wanted = FORMATS["torch"]

    def of_other_weights(predictor, path):
        head = predictor.model.head
        before = {name: value.clone() for name, value in head.state_dict().items()}
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(1)
        wanted.write(predictor, path)
        head.load_state_dict(before)

    monkeypatch.setitem(exporting.FORMATS, "torch", type(wanted)("pt2", wanted.check, of_other_weights, wanted.open))
    result = ordage("export", run.path, "--format", "torch", "--out", "wrong")

    assert result.returncode == 3
    assert "differ from the model's" in result.stderr
    assert not list((tmp_path / "wrong").iterdir())


@pytest.mark.slow
def test_what_is_missing_is_named(run):
    code = "import sys; sys.modules['onnxscript'] = None; from ordage.cli import main; main()"
    command = [sys.executable, "-c", code, "export", str(run.path), "--out", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 5
    assert "onnxscript" in done.stderr
    assert "ordage[export]" in done.stderr
    assert done.stderr.count("\n") == 1
