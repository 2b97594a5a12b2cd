"""The demo set: the same everywhere, honest about people, and with real ordinal structure in its pixels."""

import hashlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from ordage.data import demo
from ordage.data.demo import MAX_AGE, DemoFaces, draw


@pytest.fixture(scope="module")
def faces() -> DemoFaces:
    """The set that users get by default."""
    return draw()


def digest(faces: DemoFaces) -> str:
    """One number for all bytes of a set."""
    columns = (faces.images, faces.ages, faces.subjects, faces.gender)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()


def test_another_process_draws_the_same_bytes() -> None:
    code = (
        "import hashlib; from ordage.data.demo import draw; f = draw(150, 24, 7);"
        "print(hashlib.sha256(b''.join(c.tobytes() for c in (f.images, f.ages, f.subjects, f.gender))).hexdigest())"
    )

    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert other.stdout.strip() == digest(draw(150, 24, 7))


def test_drawing_leaves_the_global_random_state_alone() -> None:
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)

    draw(5, 16)

    assert np.random.random() == expected


def test_pictures_do_not_depend_on_those_painted_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    together = draw(60, 32)
    monkeypatch.setattr(demo, "_BATCH_PIXELS", 7 * 32 * 32)

    apart = draw(60, 32)

    np.testing.assert_array_equal(together.images, apart.images)


def test_another_seed_draws_other_people() -> None:
    first, second = draw(50, 16, seed=0), draw(50, 16, seed=1)

    assert not np.array_equal(first.ages, second.ages)
    assert not np.array_equal(first.images, second.images)


@pytest.mark.parametrize("size", [16, 33, 96])
@pytest.mark.parametrize("n", [1, 2, 41])
def test_shapes_and_types_follow_the_arguments(n: int, size: int) -> None:
    faces = draw(n, size)

    assert faces.images.shape == (n, size, size, 3)
    assert faces.images.dtype == np.uint8
    assert faces.ages.shape == faces.subjects.shape == faces.gender.shape == (n,)
    assert faces.ages.dtype == np.int64
    assert faces.subjects.dtype.kind == faces.gender.dtype.kind == "U"


def test_size_changes_the_resolution_but_not_the_people() -> None:
    small, large = draw(40, 24), draw(40, 48)

    np.testing.assert_array_equal(small.ages, large.ages)
    np.testing.assert_array_equal(small.subjects, large.subjects)
    # The average over 2 x 2 pixels of the large picture shows what the small one shows, up to noise and blur.
    halved = large.images.reshape(40, 24, 2, 24, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small.images).mean() < 8
    assert np.abs(halved - small.images[::-1]).mean() > 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "`n` to be an integer of at least 1, but got 0"),
        ({"n": -3}, "`n` to be an integer of at least 1, but got -3"),
        ({"size": 15}, "`size` to be an integer of at least 16 pixels, but got 15"),
        ({"seed": -1}, "`seed` to be an integer of at least 0, but got -1"),
    ],
)
def test_an_argument_that_is_too_small_is_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(**arguments)


def test_people_have_one_to_six_pictures_and_most_have_one(faces: DemoFaces) -> None:
    _, pictures = np.unique(faces.subjects, return_counts=True)

    share = np.bincount(pictures, minlength=7) / len(pictures)

    assert set(pictures) == {1, 2, 3, 4, 5, 6}
    assert share[1] > share[2] > share[3] > share[4]
    assert 0.4 < share[1] < 0.6


def test_people_keep_their_gender_and_are_never_twice_the_same_age(faces: DemoFaces) -> None:
    people = len(np.unique(faces.subjects))
    pairs = {*zip(faces.subjects, faces.gender, strict=True)}
    moments = {*zip(faces.subjects, faces.ages, strict=True)}

    assert len(pairs) == people
    assert len(moments) == len(faces.ages)
    assert set(faces.gender) == {"female", "male"}
    assert 0.4 < np.mean(faces.gender == "male") < 0.6


def test_pictures_of_a_person_resemble_each_other(faces: DemoFaces) -> None:
    # Skin and hair are a person's own, so the mean colour of the cheeks is closer within a person than across.
    cheeks = faces.images[:, 24:32, 16:32].mean(axis=(1, 2))
    order = np.argsort(faces.subjects, kind="stable")
    same = faces.subjects[order][1:] == faces.subjects[order][:-1]
    distance = np.abs(np.diff(cheeks[order], axis=0)).mean(axis=1)

    assert distance[same].mean() < 0.7 * distance[~same].mean()


def test_ages_are_skewed_towards_young_adults_with_a_tail(faces: DemoFaces) -> None:
    count = np.bincount(faces.ages, minlength=MAX_AGE + 1)

    assert faces.ages.min() == 0
    assert 86 < faces.ages.max() <= MAX_AGE
    assert count[:86].min() > 0
    assert 20 <= count.argmax() <= 35
    assert faces.ages.mean() > np.median(faces.ages) + 2


def test_no_pictures_are_blank_or_alike(faces: DemoFaces) -> None:
    contrast = faces.images.reshape(len(faces.images), -1).std(axis=1)

    assert contrast.min() > 8
    assert len(np.unique(faces.images[:, ::6, ::6].reshape(len(faces.images), -1), axis=0)) == len(faces.images)


def unseen_people(faces: DemoFaces) -> NDArray[np.bool_]:
    """Three people in ten, with all of their pictures."""
    return np.array([subject[-1] in "789" for subject in faces.subjects])


def grey_pixels(faces: DemoFaces) -> NDArray[np.floating[Any]]:
    """Luminance at half resolution, without the mean and the scale that lighting sets."""
    grey = faces.images.mean(axis=-1).reshape(-1, 24, 2, 24, 2).mean(axis=(2, 4)).reshape(len(faces.ages), -1)
    scaled: NDArray[np.floating[Any]] = (grey - grey.mean(axis=1, keepdims=True)) / grey.std(axis=1, keepdims=True)
    return scaled


def linear_guess(faces: DemoFaces, features: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Ages of the unseen people as a linear model of the others predicts them."""
    unseen = unseen_people(faces)
    model = Ridge(alpha=100.0).fit(features[~unseen], faces.ages[~unseen])
    guess: NDArray[np.floating[Any]] = model.predict(features[unseen])
    return guess


def mean_error(faces: DemoFaces, guess: NDArray[np.floating[Any]] | float) -> float:
    """Mean absolute error in years on the unseen people."""
    return float(np.abs(guess - faces.ages[unseen_people(faces)]).mean())


def test_pixels_tell_age_but_not_exactly(faces: DemoFaces) -> None:
    constant = mean_error(faces, float(np.median(faces.ages[~unseen_people(faces)])))
    linear = mean_error(faces, linear_guess(faces, grey_pixels(faces)))

    assert 14 < constant < 18
    assert 2.5 < linear < 0.75 * constant


def test_mean_colour_alone_tells_little(faces: DemoFaces) -> None:
    # The age is in the face, not in a leak such as brightness, backdrop or noise.
    colour = faces.images.reshape(len(faces.ages), -1, 3)
    features = np.concatenate([colour.mean(axis=1), colour.std(axis=1)], axis=1)

    constant = mean_error(faces, float(np.median(faces.ages[~unseen_people(faces)])))

    assert mean_error(faces, linear_guess(faces, features)) > 0.85 * constant


def test_unseen_people_are_ordered_by_age_from_group_to_group(faces: DemoFaces) -> None:
    guess = linear_guess(faces, grey_pixels(faces))
    group = np.digitize(faces.ages[unseen_people(faces)], [4, 9, 15, 22, 30, 40, 52, 66])

    means = [guess[group == number].mean() for number in range(9)]

    assert (np.diff(means) > 0).all(), means
