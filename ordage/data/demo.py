"""The built-in demo set: drawn faces whose looks change with age.

No picture is downloaded and nobody is depicted: every face is painted from numbers. The set has what makes real age
data hard: people who look older or younger than they are, several pictures of one person at different ages, a
skewed age distribution, pose, light and noise.

How a set comes about:

1. :func:`_draw_album` draws who is on which picture at which age.
2. :func:`_draw_people` draws what stays with a person for life, :func:`_draw_shots` what changes with every picture.
3. :class:`_Face` turns age and traits into anchors (where the eyes lie, where the hair begins).
4. One ``_paint_*`` function per feature paints a batch of faces, back to front; :func:`_photograph` adds light, blur
   and noise.

Pixels are computed with ``+ - * /``, ``sqrt`` and rounding alone, which IEEE 754 defines to the last bit, and in one
thread; the same arguments therefore give the same pictures on other machines too, as long as NumPy's random streams
stay as they are.

Lengths on a face are in *face units*: the origin is the centre of the head, ``u`` points right, ``v`` points down,
and an adult head is about 1.0 wide and 1.3 high. Colours are red, green, blue in ``[0, 1]``.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["DemoFaces", "draw"]

# Float32 at run time, which is twice as fast as float64; NumPy's annotations lose the width in mixed arithmetic.
_Array: TypeAlias = NDArray[np.floating[Any]]

MAX_AGE = 95  # years; the oldest age that is drawn
MIN_SIZE = 16  # pixels; below this the eyes are smaller than a pixel

_BATCH_PIXELS = 64 * 48 * 48  # pixels painted at once: a few arrays of this size fit a core's cache

# Cumulative share of people by the age in years on their first picture: many young adults, some babies, a long tail.
_FIRST_AGE = (0, 1, 3, 10, 16, 20, 24, 28, 32, 38, 46, 56, 66, 76, 86, MAX_AGE + 1)
_FIRST_AGE_SHARE = (0, 0.035, 0.08, 0.16, 0.22, 0.30, 0.43, 0.55, 0.63, 0.71, 0.79, 0.87, 0.93, 0.97, 0.99, 1)
# Share of people with 1, 2, ... 6 pictures.
_PICTURES_SHARE = (0.46, 0.24, 0.13, 0.08, 0.05, 0.04)
_GAP = 3.0  # years; the mean time between two pictures of a person, beyond the one year that is always there

# Standard deviation in years of "looks older or younger than they are": a part that is there from birth, and a part
# per year of age, for the person (the same on all pictures) and for the picture (tired, made up, well lit).
_PERSON_OFFSET = (0.8, 0.105)
_PICTURE_OFFSET = (0.6, 0.075)

_SKINS = ((1.00, 0.87, 0.77), (0.95, 0.77, 0.63), (0.85, 0.65, 0.48), (0.66, 0.46, 0.33), (0.42, 0.28, 0.20))
_HAIRS = ((0.86, 0.70, 0.40), (0.62, 0.30, 0.14), (0.48, 0.32, 0.18), (0.27, 0.17, 0.11), (0.10, 0.08, 0.08))
_IRISES = ((0.36, 0.56, 0.74), (0.40, 0.54, 0.38), (0.47, 0.34, 0.16), (0.30, 0.18, 0.10), (0.20, 0.12, 0.08))
_GREY = (0.84, 0.84, 0.83)
_EYE_WHITE = (0.97, 0.96, 0.94)
_INK = (0.08, 0.06, 0.06)
_GLINT = (1.0, 1.0, 1.0)
_LIP = (0.78, 0.30, 0.32)
_BLUSH = (0.92, 0.42, 0.38)
_AGE_SPOT = (0.46, 0.28, 0.16)
_TEETH = (0.95, 0.93, 0.88)


@dataclass(frozen=True, eq=False)
class DemoFaces:
    """A drawn data set; row ``i`` of every array belongs to picture ``i``.

    Attributes:
        images: ``(N, size, size, 3)``, uint8, RGB.
        ages: ``(N,)``, int64, whole years from 0 to 95.
        subjects: ``(N,)``, str, who is on the picture, such as ``"p0123"``.
        gender: ``(N,)``, str, ``"female"`` or ``"male"``.
    """

    images: NDArray[np.uint8]
    ages: NDArray[np.int64]
    subjects: NDArray[np.str_]
    gender: NDArray[np.str_]


def draw(n: int = 6000, size: int = 48, seed: int = 0) -> DemoFaces:
    """Draw ``n`` square pictures of faces.

    Pictures come in random order; a person has one to six of them, each at another age.

    Args:
        n: Number of pictures, at least 1.
        size: Width and height in pixels, at least 16.
        seed: Any non-negative integer; the same arguments give the same bytes.

    Returns:
        Pictures, ages, people and gender.

    Raises:
        ValueError: If ``n``, ``size`` or ``seed`` is too small.

    Example:
        >>> faces = draw(n=4, size=32)
        >>> faces.images.shape
        (4, 32, 32, 3)
    """
    if n < 1:
        raise ValueError(f"Expected `n` to be an integer of at least 1, but got {n}")
    if size < MIN_SIZE:
        raise ValueError(f"Expected `size` to be an integer of at least {MIN_SIZE} pixels, but got {size}")
    if seed < 0:
        raise ValueError(f"Expected `seed` to be an integer of at least 0, but got {seed}")
    # One stream per purpose: a new trait then leaves ages and people as they were.
    for_album, for_people, for_shots, for_noise = np.random.default_rng(seed).spawn(4)
    owner, ages = _draw_album(for_album, n)
    people = _draw_people(for_people, int(owner.max()) + 1)
    shots = _draw_shots(for_shots, n)
    images = np.empty((n, size, size, 3), np.uint8)
    batch = max(1, _BATCH_PIXELS // size**2)
    for start in range(0, n, batch):
        rows = np.arange(start, min(start + batch, n))
        face = _Face.of(people.take(owner[rows]), shots.take(rows), ages[rows])
        canvas = _Canvas.of(face, size)
        _paint(canvas, face)
        images[rows] = _photograph(canvas, face, for_noise)
    male = people.male[owner, 0, 0] > 0
    digits = max(4, len(str(owner.max())))
    subjects = np.array([f"p{number:0{digits}d}" for number in owner])
    return DemoFaces(images, ages, subjects, np.where(male, "male", "female"))


# --------------------------------------------------------------------------------------------------------------------
# Who is on which picture
# --------------------------------------------------------------------------------------------------------------------


def _draw_album(rng: np.random.Generator, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Person number and age in years of each of ``n`` pictures, in random order."""
    # n people are always enough; those beyond the n-th picture are dropped.
    counts = 1 + rng.choice(len(_PICTURES_SHARE), n, p=_PICTURES_SHARE)
    first_ages = np.interp(rng.random(n), _FIRST_AGE_SHARE, _FIRST_AGE).astype(np.int64)
    owner = np.repeat(np.arange(n), counts)[:n]
    gaps = 1 + rng.exponential(_GAP, n).astype(np.int64)
    # Years since the person's first picture: a running sum of the gaps that starts again at 0 with every person.
    elapsed = np.cumsum(gaps)
    first_row = np.searchsorted(owner, np.arange(owner[-1] + 1))
    last_row = np.append(first_row[1:], n) - 1
    since_first = elapsed - elapsed[first_row][owner]
    # Whoever would grow too old is photographed earlier in life; the gaps, and so distinct ages, stay.
    start = np.minimum(first_ages[: len(first_row)], MAX_AGE - since_first[last_row])
    ages = start[owner] + since_first
    order = rng.permutation(n)
    return owner[order], ages[order]


@dataclass(frozen=True, eq=False)
class _Traits:
    """Columns of numbers, shaped for painting: scalars ``(N, 1, 1)``, colours ``(3, N, 1, 1)``."""

    def take(self, rows: NDArray[np.int64]) -> Self:
        """The given rows of every column."""
        return replace(self, **{field.name: getattr(self, field.name)[..., rows, :, :] for field in fields(self)})


@dataclass(frozen=True, eq=False)
class _People(_Traits):
    """What stays with a person for life. Without a unit: a factor about 1, or a share in [0, 1]."""

    male: _Array  # 0 or 1
    skin: _Array  # colour
    hair: _Array  # colour before greying
    iris: _Array  # colour
    head_width: _Array
    jaw: _Array  # widening of the head at the chin; negative is pointed
    chin: _Array
    eye_size: _Array
    eye_gap: _Array
    nose_width: _Array
    nose_length: _Array
    mouth_width: _Array
    lips: _Array
    brows: _Array
    ears: _Array
    weight: _Array  # -1 is slim, 1 is heavy
    hair_length: _Array  # 0 is short, 1 reaches the shoulders
    hair_volume: _Array
    hair_line: _Array  # face units, added to the height of the hair line
    parting: _Array  # slope of the hair line
    wrinkling: _Array
    sagging: _Array
    grey_from: _Array  # years of apparent age
    balding: _Array
    beard: _Array
    glasses_from: _Array  # years of apparent age
    spots: _Array  # share of the age spots that this skin develops
    offset: _Array  # standard deviations by which the person looks too old


@dataclass(frozen=True, eq=False)
class _Shots(_Traits):
    """What differs between two pictures of the same person."""

    shift_x: _Array  # face units
    shift_y: _Array  # face units
    scale: _Array
    half_tilt: _Array  # tangent of half the angle by which the head is rotated
    yaw: _Array  # face units by which the features slide sideways
    pitch: _Array  # face units by which the features slide down
    smile: _Array
    gape: _Array
    gaze: _Array  # face units
    eyes_open: _Array
    beard: _Array
    has_glasses: _Array  # 1, or 0 for taken off
    clothes: _Array  # colour
    backdrop_top: _Array  # colour
    backdrop_bottom: _Array  # colour
    light_x: _Array  # brightening from the left to the right edge
    light_y: _Array
    exposure: _Array
    tint: _Array  # factor per channel
    colour: _Array  # 1, or less for a faded picture; 0 is black and white
    blur: _Array
    noise: _Array  # standard deviation, colour units
    offset: _Array  # standard deviations by which the person looks too old on this picture


class _Dice:
    """Random columns in the shape that painting needs."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self._rng, self._n = rng, n

    def around(self, mean: float, spread: float) -> _Array:
        """Normal draws, cut at two and a half standard deviations so that no face falls apart."""
        draws = np.clip(self._rng.standard_normal((self._n, 1, 1)), -2.5, 2.5)
        return (mean + spread * draws).astype(np.float32)

    def between(self, low: float, high: float) -> _Array:
        return self._rng.uniform(low, high, (self._n, 1, 1)).astype(np.float32)

    def colour(self, low: float, high: float) -> _Array:
        return self._rng.uniform(low, high, (3, self._n, 1, 1)).astype(np.float32)

    def chance(self, share: float | _Array) -> _Array:
        """1 with the given probability, else 0."""
        return (self.between(0, 1) < share).astype(np.float32)


def _draw_people(rng: np.random.Generator, n: int) -> _People:
    """Traits of ``n`` people."""
    dice = _Dice(rng, n)
    male = dice.chance(0.5)
    darkness = dice.between(0, 1)
    # Dark skin comes with dark hair and dark eyes, light skin with any.
    hair_tone = 1 - dice.between(0, 1) * (1 - darkness)
    iris_tone = 1 - dice.between(0, 1) * (1 - darkness)
    return _People(
        male=male,
        skin=np.clip(_palette(_SKINS, darkness) * (1 + dice.around(0, 0.03)), 0, 1),
        hair=np.clip(_palette(_HAIRS, hair_tone) * (1 + dice.around(0, 0.08)), 0, 1),
        iris=_palette(_IRISES, iris_tone),
        head_width=dice.around(1, 0.035),
        jaw=dice.around(-0.10, 0.045) + 0.10 * male,
        chin=dice.around(1, 0.04) + 0.02 * male,
        eye_size=dice.around(1.02, 0.07) - 0.05 * male,
        eye_gap=dice.around(1, 0.05),
        nose_width=dice.around(0.94, 0.10) + 0.12 * male + 0.10 * darkness,
        nose_length=dice.around(1, 0.05),
        mouth_width=dice.around(1, 0.07),
        lips=dice.around(1.0, 0.13) - 0.15 * male + 0.20 * darkness,
        brows=dice.around(0.8, 0.15) + 0.5 * male,
        ears=dice.around(1, 0.10),
        weight=dice.around(0, 0.45),
        hair_length=np.where(dice.chance(0.10 + 0.72 * (1 - male)) > 0, dice.between(0.55, 1), dice.between(0, 0.1)),
        hair_volume=dice.around(0.9, 0.25) + 0.25 * (1 - male),
        hair_line=dice.around(0, 0.045),
        parting=dice.around(0, 0.13),
        wrinkling=dice.around(1, 0.20),
        sagging=dice.around(1, 0.25),
        grey_from=dice.around(46, 8),
        balding=np.clip(dice.around(0.45, 0.4), 0, 1) * (0.12 + 0.88 * male),
        beard=male * dice.chance(0.35) * dice.between(0.2, 1),
        glasses_from=dice.between(0, 130),
        spots=dice.between(0, 1),
        offset=dice.around(0, 1),
    )


def _draw_shots(rng: np.random.Generator, n: int) -> _Shots:
    """Circumstances of ``n`` pictures."""
    dice = _Dice(rng, n)
    brightness = dice.between(0.2, 0.9)
    backdrop = np.clip(brightness + dice.colour(-0.16, 0.16), 0, 1)
    return _Shots(
        shift_x=dice.around(0, 0.035),
        shift_y=dice.around(0.02, 0.03),
        scale=dice.around(1.06, 0.045),
        half_tilt=dice.around(0, 0.035),
        yaw=dice.around(0, 0.035),
        pitch=dice.around(0, 0.016),
        smile=dice.between(-0.15, 1),
        gape=dice.chance(0.35) * dice.between(0.3, 1),
        gaze=dice.around(0, 0.012),
        eyes_open=dice.around(1, 0.08),
        beard=dice.between(0.5, 1),
        has_glasses=dice.chance(0.85),
        clothes=dice.colour(0.1, 0.9),
        backdrop_top=backdrop,
        backdrop_bottom=np.clip(backdrop * dice.between(0.6, 1.1) + dice.colour(-0.08, 0.08), 0, 1),
        light_x=dice.around(0, 0.13),
        light_y=dice.around(-0.06, 0.07),
        exposure=dice.around(1, 0.08),
        tint=1 + dice.colour(-0.05, 0.05),
        colour=np.where(dice.chance(0.06) > 0, dice.between(0, 0.3), dice.between(0.75, 1.1)),
        blur=dice.between(0, 0.8) * dice.chance(0.6),
        noise=dice.between(0.006, 0.025),
        offset=dice.around(0, 1),
    )


# --------------------------------------------------------------------------------------------------------------------
# From age and traits to anchors
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Face:
    """A batch of faces: how old they look, and the positions that several features share.

    Attributes:
        person: Traits of the person.
        shot: Circumstances of the picture.
        age: Apparent age in years.
        growth: 0 for a newborn, 1 for an adult; fast at first.
        wear: 0 up to the late twenties, 1 at about 85; may exceed 1.
    """

    person: _People
    shot: _Shots
    age: _Array
    growth: _Array
    wear: _Array
    half_width: _Array
    crown: _Array
    chin: _Array
    eye_u: _Array
    eye_v: _Array
    eye_width: _Array
    eye_height: _Array
    nose_v: _Array
    nose_width: _Array
    mouth_v: _Array
    mouth_width: _Array
    hair_v: _Array
    hair_loss: _Array
    hair: _Array
    beard: _Array

    @classmethod
    def of(cls, person: _People, shot: _Shots, ages: NDArray[np.int64]) -> Self:
        """Faces of the given people at the given ages in years."""
        true_age = ages.astype(np.float32).reshape(-1, 1, 1)
        age = true_age + person.offset * (_PERSON_OFFSET[0] + _PERSON_OFFSET[1] * true_age)
        age = np.maximum(age + shot.offset * (_PICTURE_OFFSET[0] + _PICTURE_OFFSET[1] * true_age), 0)
        grown = np.clip(age / 19, 0, 1)
        growth = grown * (1.7 - 0.7 * grown)
        years_worn = np.maximum(age - 24, 0) / 62
        wear = years_worn * (0.5 + 0.5 * years_worn)
        # A baby's features sit low under a large forehead; everything moves up as the jaw grows.
        eye_v = 0.16 - 0.19 * growth + shot.pitch
        nose_v = eye_v + (0.16 + 0.14 * growth + 0.04 * wear) * person.nose_length
        mouth_v = nose_v + 0.135 + 0.045 * growth + 0.01 * wear
        greying = _smooth(age, person.grey_from - 8, person.grey_from + 26)
        # The hair line climbs while a child's hair fills in from above, then recedes with the balding.
        hair_v = -0.36 - 0.04 * growth + person.hair_line - 0.03 * wear
        hair_loss = person.balding * _smooth(age, 22, 70)
        return cls(
            person=person,
            shot=shot,
            age=age,
            growth=growth,
            wear=wear,
            half_width=(0.60 - 0.10 * growth) * person.head_width + 0.012 * person.weight,
            crown=np.full_like(age, -0.64),
            chin=(0.58 + 0.12 * growth) * (1 + (person.chin - 1) * growth),
            eye_u=(0.245 - 0.025 * growth) * person.eye_gap,
            eye_v=eye_v,
            eye_width=(0.155 - 0.045 * growth) * person.eye_size * (1 - 0.10 * np.minimum(wear, 1)),
            eye_height=(0.115 - 0.055 * growth) * person.eye_size * (1 - 0.28 * np.minimum(wear, 1)) * shot.eyes_open,
            nose_v=nose_v,
            nose_width=(0.070 + 0.030 * growth + 0.022 * wear) * (1 + (person.nose_width - 1) * growth),
            mouth_v=mouth_v,
            mouth_width=(0.125 + 0.070 * growth) * person.mouth_width * (1 + 0.12 * shot.smile),
            hair_v=hair_v - 0.34 * hair_loss,
            hair_loss=hair_loss,
            hair=person.hair + greying * (_column(_GREY) - person.hair),
            beard=person.beard * shot.beard * _smooth(age, 15, 24),
        )


# --------------------------------------------------------------------------------------------------------------------
# Painting
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Canvas:
    """A batch of pictures being painted, or the rows of them around one feature.

    Attributes:
        u: Face units, ``(N, rows, size)``; for the outline of the head.
        v: Face units, ``(N, rows, size)``.
        side: Absolute distance from the middle of the face, shifted by the yaw: features come in mirrored pairs.
        head: Distance from the outline of the head, negative inside.
        within: 1 where the feature may paint, 0 outside.
        pixel: Width of a pixel in face units, ``(N, 1, 1)``.
        rgb: Colours, ``(3, N, rows, size)``; painted in place.
    """

    u: _Array
    v: _Array
    side: _Array
    head: _Array
    within: _Array
    pixel: _Array
    rgb: _Array

    @classmethod
    def of(cls, face: _Face, size: int) -> Self:
        """Blank pictures, seen by a camera that shifts, turns and zooms."""
        shot = face.shot
        centres = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1
        x = (centres - shot.shift_x) / shot.scale
        y = (centres[:, None] - shot.shift_y) / shot.scale
        # Sine and cosine from the half angle's tangent need no library function, whose last bit differs by machine.
        cosine = (1 - shot.half_tilt**2) / (1 + shot.half_tilt**2)
        sine = 2 * shot.half_tilt / (1 + shot.half_tilt**2)
        u, v = cosine * x + sine * y, cosine * y - sine * x
        return cls(
            u=u,
            v=v,
            side=np.abs(u - shot.yaw),
            head=_head_distance(u, v, face),
            within=np.ones_like(u),
            pixel=2 / (size * shot.scale),
            rgb=np.empty((3, *u.shape), np.float32),
        )

    def rows(self, top: _Array, bottom: _Array) -> Self:
        """The rows that hold any point from ``top`` to ``bottom``; painting there costs a part of the whole."""
        within = self.inside(np.maximum(top - self.v, self.v - bottom))
        hit = np.flatnonzero(within.any(axis=(0, 2)))
        part = slice(hit[0], hit[-1] + 1) if len(hit) else slice(0)
        return replace(
            self,
            u=self.u[:, part],
            v=self.v[:, part],
            side=self.side[:, part],
            head=self.head[:, part],
            # Which rows are hit depends on all faces of the batch; no picture may depend on its neighbours.
            within=within[:, part],
            rgb=self.rgb[:, :, part],
        )

    def inside(self, distance: _Array) -> _Array:
        """Share of each pixel that a shape covers, from the distance to its outline (negative inside)."""
        return np.clip(0.5 - distance / self.pixel, 0, 1)

    def paint(self, cover: _Array, colour: _Array) -> None:
        """Lay a colour over the picture, with the opacity ``cover``."""
        self.rgb[...] += (cover * self.within) * (colour - self.rgb)


def _paint(canvas: _Canvas, face: _Face) -> None:
    """Paint everything, back to front."""
    _paint_backdrop(canvas, face)
    _paint_shoulders(canvas, face)
    _paint_hair_behind(canvas, face)
    _paint_neck(canvas, face)
    _paint_ears(canvas, face)
    _paint_head(canvas, face)
    _paint_nose(canvas, face)
    _paint_mouth(canvas, face)
    _paint_folds(canvas, face)
    _paint_forehead_lines(canvas, face)
    _paint_eye_surroundings(canvas, face)
    _paint_age_spots(canvas, face)
    _paint_beard(canvas, face)
    _paint_eyes(canvas, face)
    _paint_brows(canvas, face)
    _paint_hair(canvas, face)
    _paint_glasses(canvas, face)


def _paint_backdrop(canvas: _Canvas, face: _Face) -> None:
    top, bottom = face.shot.backdrop_top, face.shot.backdrop_bottom
    canvas.rgb[...] = top + np.clip(0.5 + 0.5 * canvas.v, 0, 1) * (bottom - top)


def _paint_shoulders(canvas: _Canvas, face: _Face) -> None:
    here = canvas.rows(face.chin - 0.05, face.chin + 1)
    width = 0.52 + 0.24 * face.growth + 0.10 * face.person.male * face.growth
    cover = here.inside(_ellipse(here.u, here.v - face.chin - 0.62, width, 0.48))
    here.paint(cover, face.shot.clothes)


def _paint_neck(canvas: _Canvas, face: _Face) -> None:
    here = canvas.rows(face.chin - 0.25, face.chin + 0.3)
    width = 0.20 + 0.05 * face.growth + 0.05 * face.person.male * _smooth(face.age, 12, 20)
    end = _ellipse(here.u, here.v - face.chin - 0.10, width, 0.16)
    tube = np.maximum(np.abs(here.u) - width, here.v - face.chin - 0.10)
    cover = here.inside(np.minimum(end, tube))
    # The chin's shadow, which sets the head off from the neck.
    here.paint(cover, face.person.skin * 0.76)
    cords = _wave(here.u / 0.11) * _smooth(face.wear, 0.35, 1.0) * 0.35
    here.paint(cover * cords, face.person.skin * 0.5)


def _paint_ears(canvas: _Canvas, face: _Face) -> None:
    here = canvas.rows(face.eye_v - 0.15, face.eye_v + 0.4)
    size = face.person.ears * (1 + 0.30 * np.minimum(face.wear, 1))
    # Turning the head hides one ear and shows the other.
    from_edge = np.abs(here.u + face.shot.yaw) - face.half_width
    down = here.v - face.eye_v - 0.09
    here.paint(here.inside(_ellipse(from_edge, down, 0.065 * size, 0.125 * size)), face.person.skin * 0.93)
    here.paint(here.inside(_ellipse(from_edge, down, 0.03 * size, 0.07 * size)) * 0.6, face.person.skin * 0.65)


def _head_distance(u: _Array, v: _Array, face: _Face) -> _Array:
    """Distance from the outline of the head: two half ellipses, widened or narrowed towards the chin."""
    weight, growth = face.person.weight, face.growth
    downwards = np.clip(v / face.chin, 0, 1)
    # A baby's cheeks are round and full; the jaw takes its shape with growth; later the cheeks sink into jowls.
    cheeks = 0.10 * (1 - growth) + 0.04 * weight
    jowls = face.person.sagging * face.wear * (0.13 + 0.05 * weight)
    jaw = face.person.jaw * growth + 0.06
    spread = 1 + downwards * (jaw * downwards + (1 - downwards) * 3 * cheeks + jowls * downwards)
    hollow = 1 - 0.10 * np.minimum(face.wear, 1.2) * _bump((v - 0.18) / 0.20)
    height = np.where(v < 0, -face.crown, face.chin)
    return _ellipse(u / (spread * hollow), v, face.half_width, height)


def _paint_head(canvas: _Canvas, face: _Face) -> None:
    skin = face.person.skin
    # Old skin is paler and greyer.
    pale = skin + 0.22 * np.minimum(face.wear, 1) * (skin.mean(axis=0) * 1.04 - skin)
    cover = canvas.inside(canvas.head)
    canvas.paint(cover, pale)
    # The head is round: it darkens towards its outline.
    rim = np.clip(1 + canvas.head / 0.16, 0, 1)
    canvas.paint(cover * (0.38 * rim * rim), pale * 0.62)
    here = canvas.rows(face.mouth_v - 0.4, face.mouth_v + 0.15)
    rosy = 0.34 - 0.20 * face.growth
    cheek = _bump((here.side - 0.30) / 0.13) * _bump((here.v - face.nose_v - 0.01) / 0.12)
    here.paint(here.inside(here.head) * cheek * rosy, _column(_BLUSH))


def _paint_nose(canvas: _Canvas, face: _Face) -> None:
    here = canvas.rows(face.eye_v - 0.05, face.nose_v + 0.1)
    shadow, light = face.person.skin * 0.55, np.minimum(face.person.skin * 1.14, 1)
    down = here.v - face.nose_v
    along = np.clip((here.v - face.eye_v) / (face.nose_v - face.eye_v), 0, 1)
    bridge = face.nose_width * (0.35 + 0.45 * along)
    within = _smooth(along, 0.0, 0.5) * (down < 0.03) * (0.25 + 0.75 * face.growth)
    here.paint(0.55 * within * _bump(here.side / (0.5 * bridge)), light)
    here.paint(0.40 * within * _bump((here.side - bridge) / 0.028), shadow)
    # Below the tip: the shadow of the nose, its wings, and the nostrils.
    here.paint(0.50 * _bump((down - 0.03) / 0.025) * here.inside(here.side - face.nose_width), shadow)
    here.paint(0.55 * _bump((here.side - face.nose_width) / 0.025) * _bump((down + 0.005) / 0.035), shadow)
    nostril = _ellipse(here.side - 0.5 * face.nose_width, down - 0.022, 0.30 * face.nose_width, 0.020)
    here.paint(0.75 * here.inside(nostril), shadow * 0.45)


def _paint_mouth(canvas: _Canvas, face: _Face) -> None:
    here = canvas.rows(face.mouth_v - 0.16, face.mouth_v + 0.2)
    smile, adult = face.shot.smile, _smooth(face.age, 5, 18)
    across = np.minimum(here.side / face.mouth_width, 1.5)
    arch = np.maximum(1 - across * across, 0)
    beside = here.side - face.mouth_width
    # Height above or below the line between the lips, which a smile bends and age pulls down at the corners.
    line = face.mouth_v + (0.055 * smile - 0.045 * np.minimum(face.wear, 1)) * (arch - 0.5)
    off = here.v - line
    fullness = face.person.lips * (0.7 + 0.3 * adult) * (1 - 0.55 * np.minimum(face.wear, 1.2))
    gape = 0.045 * face.shot.gape * np.maximum(smile, 0)
    lower, upper = (0.062 * fullness + gape) * arch, 0.042 * fullness * arch
    skin = face.person.skin
    redness = 0.60 - 0.25 * np.minimum(face.wear, 1) - 0.15 * face.person.male * face.growth
    colour = skin * 0.85 + redness * (_column(_LIP) * (0.5 + 0.5 * skin) - skin * 0.85)
    here.paint(here.inside(np.maximum(np.maximum(off - lower, -off - upper), beside)), colour)
    opened = here.inside(np.maximum(np.maximum(off - gape * arch, -off), beside)) * (gape > 0.01)
    here.paint(opened, _column(_TEETH))
    here.paint(0.75 * _bump(off / 0.014) * (arch > 0) * (1 - 0.7 * opened), skin * 0.3)
    # The hollow under the lower lip shapes the chin.
    here.paint(0.25 * _bump((off - 0.105) / 0.025) * _bump(across / 0.6), skin * 0.6)
    # Fine upright lines on and above the lips of the old.
    pleats = _wave(here.side / 0.055) * _bump((off + 0.04) / 0.05) * (across < 1.1)
    here.paint(0.5 * pleats * _smooth(face.wear * face.person.wrinkling, 0.45, 1.1), skin * 0.5)


def _paint_folds(canvas: _Canvas, face: _Face) -> None:
    """The folds from the nose to the mouth, and below the mouth's corners."""
    here = canvas.rows(face.nose_v - 0.1, face.chin)
    depth = face.person.wrinkling * face.wear
    crease = face.person.skin * 0.42
    down = here.v - face.nose_v
    reach = face.mouth_v - face.nose_v + 0.02
    progress = down / reach
    fold = face.nose_width + 0.02 + np.clip(progress, 0, 1.1) * (face.mouth_width - face.nose_width + 0.035)
    limits = _smooth(progress, -0.25, 0.25) * (1 - _smooth(progress, 0.85, 1.25))
    # A smile folds the cheek at any age.
    strength = np.clip(0.12 * face.shot.smile * face.growth + 1.15 * depth, 0, 0.9)
    here.paint(strength * limits * _bump((here.side - fold) / 0.026), crease)
    below = here.v - face.mouth_v
    corner = face.mouth_width + 0.03 + 0.15 * below
    strength = np.clip(1.1 * depth - 0.25, 0, 0.8)
    here.paint(strength * _bump((below - 0.09) / 0.08) * _bump((here.side - corner) / 0.024), crease)


def _paint_forehead_lines(canvas: _Canvas, face: _Face) -> None:
    brow = face.eye_v - 0.13
    here = canvas.rows(brow - 0.45, brow + 0.12)
    strength = np.clip(face.person.wrinkling * face.wear * 1.15 - 0.04, 0, 0.85)
    crease = face.person.skin * 0.45
    above = brow - here.v + 0.25 * here.side * here.side
    # Sharp lines on a soft triangle wave; the third power leaves them thin.
    lines = _wave(above / 0.088)
    extent = here.inside(here.head) * _smooth(above, 0.01, 0.06) * (1 - _smooth(above, 0.27, 0.36))
    here.paint(strength * lines * lines * lines * extent * _bump(here.side / 0.45), crease)
    # Frown lines between the brows.
    frown = _bump((here.side - 0.04) / 0.016) * _bump((here.v - brow - 0.02) / 0.05)
    here.paint(np.clip(1.2 * strength - 0.12, 0, 0.8) * frown, crease)


def _paint_eye_surroundings(canvas: _Canvas, face: _Face) -> None:
    """Eye sockets, the bags under the eyes and the crow's feet beside them."""
    here = canvas.rows(face.eye_v - 0.16, face.eye_v + 0.26)
    crease = face.person.skin * 0.45
    out, down = here.side - face.eye_u, here.v - face.eye_v
    socket = _bump(out / 0.16) * _bump((down + 0.02) / 0.11)
    here.paint((0.06 + 0.10 * face.growth + 0.22 * np.minimum(face.wear, 1)) * socket, face.person.skin * 0.55)
    bag = down - face.eye_height - 0.035 - 0.025 * face.wear + 2.2 * out * out
    strength = np.clip(0.06 * face.growth + 0.95 * face.wear * face.person.sagging, 0, 0.8)
    here.paint(strength * _bump(bag / 0.022) * _bump(out / 0.15), crease)
    # A fan of lines that opens outwards from the corner of the eye.
    beyond = out - 0.8 * face.eye_width
    fan = _wave(0.5 + down / (np.maximum(beyond, 0.01) * 0.75 + 0.05))
    extent = _bump((beyond - 0.085) / 0.06) * (np.abs(down) < 0.11) * here.inside(here.head + 0.03)
    strength = np.clip(face.person.wrinkling * face.wear * (1.15 + 0.3 * face.shot.smile) - 0.03, 0, 0.85)
    here.paint(strength * fan * fan * extent, crease)


def _paint_age_spots(canvas: _Canvas, face: _Face) -> None:
    strength = 0.55 * face.person.spots * _smooth(face.age, 50, 85)
    # Where the spots lie follows from traits that are the person's own, so they stay in place from picture to picture.
    first, second = face.person.hair_line / 0.045, face.person.parting / 0.13
    for u, v in ((-0.26 + 0.06 * first, 0.12 + 0.05 * second), (0.30 + 0.05 * second, 0.02 + 0.05 * first)):
        here = canvas.rows(v - 0.08, v + 0.08)
        here.paint(strength * _bump((here.u - u) / 0.04) * _bump((here.v - v) / 0.04), _column(_AGE_SPOT))


def _paint_beard(canvas: _Canvas, face: _Face) -> None:
    here = canvas.rows(face.nose_v - 0.1, face.chin + 0.1)
    stubble = 0.16 * face.person.male * _smooth(face.age, 14, 22)
    around_mouth = _ellipse(here.side, here.v - face.mouth_v, 0.85 * face.mouth_width, 0.055)
    # The beard follows the jaw: its upper edge climbs from the mouth towards the ears.
    edge = face.nose_v + 0.05 - 0.9 * np.maximum(here.side - 0.24, 0) + 0.10 * np.minimum(here.side / 0.2, 1)
    covered = np.minimum(_smooth(here.v, edge - 0.03, edge + 0.05), here.inside(here.head - 0.02 * face.beard))
    covered = covered * (1 - here.inside(around_mouth))
    here.paint(covered * np.maximum(stubble, 0.9 * face.beard), face.hair * 0.92)


def _paint_eyes(canvas: _Canvas, face: _Face) -> None:
    here = canvas.rows(face.eye_v - 0.18, face.eye_v + 0.18)
    width, height = face.eye_width, face.eye_height
    out = here.side - face.eye_u
    # The outer corner hangs with age.
    down = here.v - face.eye_v - 0.16 * np.minimum(face.wear, 1) * out
    lash = 0.014 + 0.010 * (1 - face.person.male) * face.growth
    here.paint(0.85 * here.inside(_ellipse(out, down + lash, width * 1.06, height)), _column(_INK))
    opening = here.inside(_ellipse(out, down, width, height))
    yellowed = _column(_EYE_WHITE) * (1 - 0.08 * np.minimum(face.wear, 1))
    here.paint(opening, yellowed)
    # The eyeball hardly grows, so a child's iris fills more of the eye. Both eyes look the same way.
    ahead = here.u - face.shot.yaw - face.shot.gaze
    aside = np.abs(ahead) - face.eye_u
    iris = 0.082 - 0.027 * face.growth
    from_centre = np.sqrt(aside * aside + down * down)
    here.paint(opening * here.inside(from_centre - iris), face.person.iris)
    here.paint(opening * here.inside(from_centre - 0.48 * iris), _column(_INK))
    glint = np.sqrt((aside - 0.02) ** 2 + (down + 0.022) ** 2)
    here.paint(0.9 * opening * here.inside(glint - 0.016), _column(_GLINT))
    # A heavy upper lid covers the eye from above in old age.
    lid = here.inside(_ellipse(out, down + height + 0.02, width * 1.15, 0.5 * height + 0.01))
    here.paint(lid * _smooth(face.wear * face.person.sagging, 0.25, 1.0) * 0.85, face.person.skin * 0.78)


def _paint_brows(canvas: _Canvas, face: _Face) -> None:
    height = face.eye_v - face.eye_height - 0.065 - 0.015 * face.growth + 0.02 * face.wear
    here = canvas.rows(height - 0.1, height + 0.1)
    out = here.side - face.eye_u - 0.01
    thickness = 0.008 + 0.016 * face.person.brows * (0.3 + 0.7 * face.growth) + 0.006 * face.wear
    off = np.abs(here.v - height - 1.6 * out * out + 0.04 * out) - thickness
    cover = here.inside(np.maximum(off, np.abs(out) - 0.135))
    # A baby's brows are barely there.
    here.paint(cover * (0.30 + 0.60 * _smooth(face.age, 0, 14)), face.hair * 0.82)


def _paint_hair_behind(canvas: _Canvas, face: _Face) -> None:
    """The part of long hair that hangs down behind the head."""
    length = face.person.hair_length * _smooth(face.age, 1, 8) * (1 - 0.45 * _smooth(face.age, 45, 80))
    end = face.eye_v + 0.05 + 0.75 * length
    width = face.half_width + 0.03 + 0.13 * length
    # A box with round corners, wider towards the ends.
    top, radius = face.crown + 0.02, 0.22
    middle, half_height = (top + end) / 2, (end - top) / 2
    right = np.maximum(np.abs(canvas.u) - width - 0.10 * (canvas.v - 0.2) + radius, 0)
    down = np.maximum(np.abs(canvas.v - middle) - half_height + radius, 0)
    shape = np.sqrt(right * right + down * down) - radius
    canvas.paint(canvas.inside(shape) * (length > 0.15), face.hair * 0.80)


def _paint_hair(canvas: _Canvas, face: _Face) -> None:
    person = face.person
    here = canvas.rows(face.crown - 0.3, face.eye_v + 0.45)
    loss = face.hair_loss
    filled = _smooth(face.age, -0.8, 4)
    volume = (0.025 + 0.070 * person.hair_volume * filled) * (1 - 0.35 * np.minimum(face.wear, 1)) * (1 - 0.85 * loss)
    across = np.minimum(np.abs(here.u) / face.half_width, 1.2)
    squared = across * across
    # Hair grows above this line: high on the forehead, down to the ears at the sides, deep corners where it recedes.
    sides = 0.42 + 0.15 * person.hair_length * filled
    line = face.hair_v + sides * squared * squared * squared + person.parting * here.u * filled * (1 - loss)
    # The corners stop short of the outline: the backdrop would show between the hair and a head without volume.
    line = line - 0.22 * loss * _bump((across - 0.55) / 0.25) * _smooth(-here.head, 0, 0.08)
    # Receding hair lies flat at its edge; it would stand off the head like a halo.
    volume = volume * (1 - np.minimum(1.5 * loss, 1) * (1 - _smooth(line - here.v, 0, 0.16)))
    cap = np.maximum(here.head - volume, here.v - line)
    # Short hair ends at the ears.
    cap = np.maximum(cap, here.v - face.eye_v - 0.08 - 0.30 * person.hair_length * filled)
    # Thin hair lets the scalp through, but not the backdrop, which would draw a bright rim around the head.
    thin = 1 - (1 - 0.35 * loss) * (1 - 0.18 * np.minimum(face.wear, 1))
    density = (0.18 + 0.82 * filled) * (1 - thin * here.inside(here.head + 0.02))
    cover = here.inside(cap) * density
    strands = 0.88 + 0.18 * _wave((here.u * (1 + 0.6 * here.v) + 0.1 * person.parting) / 0.105)
    here.paint(cover, face.hair * strands)


def _paint_glasses(canvas: _Canvas, face: _Face) -> None:
    # Everyone has an age from which they wear glasses; for many it is never reached.
    worn = (face.age > np.maximum(face.person.glasses_from, 4)) * face.shot.has_glasses
    here = canvas.rows(face.eye_v - 0.2, face.eye_v + 0.25)
    out, down = here.side - face.eye_u, here.v - face.eye_v - 0.015
    rim = np.abs(_ellipse(out, down, 0.175, 0.135)) - 0.013
    bridge = np.maximum(np.abs(down + 0.03) - 0.012, here.side - face.eye_u + 0.17)
    temple = np.maximum(np.abs(down + 0.05) - 0.012, np.maximum(0.17 - out, np.abs(here.u) - face.half_width))
    frame = here.inside(np.minimum(np.minimum(rim, bridge), temple))
    here.paint(0.85 * worn * frame, _column(_INK) + 0.25 * face.shot.clothes)


def _photograph(canvas: _Canvas, face: _Face, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Light, lens and sensor: from painted colours to ``(N, size, size, 3)`` bytes."""
    shot, rgb = face.shot, canvas.rgb
    rgb *= shot.exposure * (1 + shot.light_x * canvas.u + shot.light_y * canvas.v)
    rgb *= shot.tint
    grey = rgb.mean(axis=0)
    rgb = grey + shot.colour * (rgb - grey)
    for axis in (2, 3):
        blurred = 0.5 * rgb + 0.25 * (_moved(rgb, axis, 1) + _moved(rgb, axis, -1))
        rgb += shot.blur * (blurred - rgb)
    pictures = np.moveaxis(rgb, 0, -1)
    pictures = pictures + shot.noise[..., None] * rng.standard_normal(pictures.shape, np.float32)
    levels: NDArray[np.uint8] = (np.clip(pictures, 0, 1) * 255 + 0.5).astype(np.uint8)
    return levels


# --------------------------------------------------------------------------------------------------------------------
# Shapes and curves
# --------------------------------------------------------------------------------------------------------------------


def _ellipse(u: _Array, v: _Array, half_width: _Array | float, half_height: _Array | float) -> _Array:
    """Distance from the outline of an ellipse at the origin, negative inside; exact for a circle."""
    across, down = u / half_width, v / half_height
    # Of two plain floats, NumPy makes a float64 that would widen the whole picture.
    scale = np.minimum(half_width, half_height, dtype=np.float32)
    distance: _Array = (np.sqrt(across * across + down * down) - 1) * scale
    return distance


def _smooth(x: _Array, low: _Array | float, high: _Array | float) -> _Array:
    """0 up to ``low``, 1 from ``high`` on, without a kink between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    curve: _Array = t * t * (3 - 2 * t)
    return curve


def _bump(x: _Array) -> _Array:
    """1 at 0, a quarter at -1 and 1; a bell curve without an exponential."""
    falloff = 1 + x * x
    curve: _Array = 1 / (falloff * falloff)
    return curve


def _wave(x: _Array) -> _Array:
    """Triangle wave of period 1: 1 at whole numbers, 0 halfway between."""
    return np.abs(2 * (x - np.floor(x)) - 1)


def _moved(rgb: _Array, axis: int, step: int) -> _Array:
    """The pictures moved by one pixel, the edge repeated."""
    size = rgb.shape[axis]
    return np.take(rgb, np.clip(np.arange(size) + step, 0, size - 1), axis)


def _column(colour: tuple[float, float, float]) -> _Array:
    """A colour in the shape that painting needs, the same for every face."""
    return np.array(colour, np.float32).reshape(3, 1, 1, 1)


def _palette(colours: tuple[tuple[float, float, float], ...], position: _Array) -> _Array:
    """Colours between the given ones; ``position`` 0 is the first, 1 the last."""
    stops = np.linspace(0, 1, len(colours))
    channels = [np.interp(position, stops, channel) for channel in zip(*colours, strict=True)]
    return np.stack(channels).astype(np.float32)
