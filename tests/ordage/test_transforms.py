import io

import numpy as np
import torch
from PIL import Image

from ordage.transforms import DRAWS, ImageSpec, flip_and_shift, rotate_and_scale


def images(count=64, size=12, chans=3):
    return torch.randint(
        0, 256, (count, size, size, chans), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def draws(count, seed=0):
    return torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(seed))


def test_each_image_is_one_of_all_flips_and_shifts_of_its_own():
    pixels = images(count=40, size=12)
    index = torch.arange(39, -1, -1)

    batch = flip_and_shift(pixels, index, draws(40, seed=1), shift=0.08)

    used = set()
    for row, image in enumerate(batch):
        source = pixels[index[row]].permute(2, 0, 1)
        found = [
            (flip, dy, dx)
            for flip in (False, True)
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if torch.equal(image, moved(source, flip, dy, dx))
        ]
        assert found, row
        used.add(found[0])
    assert len(used) > 10  # drawn for each image, not for the batch


def moved(image, flip, dy, dx):
    """The same by a plain loop over pixels."""
    _, height, width = image.shape
    out = torch.empty_like(image)
    for y in range(height):
        for x in range(width):
            from_x = width - 1 - x if flip else x
            out[:, y, x] = image[:, min(max(y + dy, 0), height - 1), min(max(from_x + dx, 0), width - 1)]
    return out


def test_without_shift_half_of_the_images_are_flipped():
    pixels = images(count=2000, size=8, chans=1)

    batch = flip_and_shift(pixels, torch.arange(2000), draws(2000), shift=0.0)

    same = (batch == pixels.permute(0, 3, 1, 2)).flatten(1).all(1)
    flipped = (batch == pixels.permute(0, 3, 1, 2).flip(3)).flatten(1).all(1)
    assert bool((same | flipped).all())
    assert 900 < int(flipped.sum()) < 1100


def test_no_strength_leaves_an_image_as_it_is_or_mirrored():
    pixels = images()

    batch = rotate_and_scale(
        pixels,
        torch.arange(64),
        draws(64),
        degrees=0,
        scale=0,
        shift=0,
        brightness=0,
        contrast=0,
    )

    plain = pixels.permute(0, 3, 1, 2).float()
    difference = torch.minimum((batch - plain).abs().amax((1, 2, 3)), (batch - plain.flip(3)).abs().amax((1, 2, 3)))
    assert difference.max() < 0.01


def test_rotation_differs_from_image_to_image_and_stays_in_range():
    pixels = images()[:1].expand(64, -1, -1, -1)

    batch = rotate_and_scale(pixels, torch.arange(64), draws(64))

    assert batch.min() >= 0
    assert batch.max() <= 255
    assert len({tuple(image.flatten().tolist()) for image in batch}) == 64


def test_images_decoded_together_are_those_decoded_alone():
    generator = np.random.default_rng(0)
    files = []
    for row in range(40):  # two shapes, and large ones, and broken ones between them
        side = (30, 41, 800)[row % 3 if row < 12 else row % 2]
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (side, side + 4, 3), dtype=np.uint8)).save(file, "JPEG")
        files.append(b"broken" if row % 7 == 5 else file.getvalue())
    spec = ImageSpec(16, 3)
    out = np.full((40, 16, 16, 3), 9, np.uint8)

    found = spec.decode_into(out, range(1, 40), files.__getitem__)

    assert list(found) == list(range(1, 40))
    assert (out[0] == 9).all()
    for row in range(1, 40):
        if row % 7 == 5:
            assert found[row] == "not an image, or a broken one"
            assert (out[row] == 9).all()
        else:
            pixels, info = spec.decode(files[row])
            assert found[row] == info
            np.testing.assert_array_equal(out[row], pixels)
