import numpy as np
import pytest
import torch

from ordage.augmentation import AUGMENTATIONS, DRAWS, erase, flip_and_shift, rotate_and_scale, tone


def images(count=64, size=12, chans=3):
    return torch.randint(
        0, 256, (count, size, size, chans), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def draws(count, numbers, seed=0):
    return torch.rand(count, numbers, generator=torch.Generator().manual_seed(seed))


def test_each_image_is_one_of_all_flips_and_shifts_of_its_own():
    pixels = images(count=40, size=12)
    index = torch.arange(39, -1, -1)

    batch = flip_and_shift(pixels, index, draws(40, 3, seed=1), shift=0.08)

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

    batch = flip_and_shift(pixels, torch.arange(2000), draws(2000, 3), shift=0.0)

    same = (batch == pixels.permute(0, 3, 1, 2)).flatten(1).all(1)
    flipped = (batch == pixels.permute(0, 3, 1, 2).flip(3)).flatten(1).all(1)
    assert bool((same | flipped).all())
    assert 900 < int(flipped.sum()) < 1100


def test_no_strength_leaves_an_image_as_it_is_or_mirrored():
    pixels = images()

    batch = rotate_and_scale(
        pixels,
        torch.arange(64),
        draws(64, 6),
        degrees=0,
        scale=0,
        shift=0,
    )

    plain = pixels.permute(0, 3, 1, 2).float()
    difference = torch.minimum((batch - plain).abs().amax((1, 2, 3)), (batch - plain.flip(3)).abs().amax((1, 2, 3)))
    assert difference.max() < 0.01


def test_rotation_differs_from_image_to_image_and_stays_in_range():
    pixels = images()[:1].expand(64, -1, -1, -1)

    batch = rotate_and_scale(pixels, torch.arange(64), draws(64, 6) * torch.tensor([1, 1, 1, 1, 1, 0.49]))

    assert batch.min() >= 0
    assert batch.max() <= 255
    assert len({tuple(image.flatten().tolist()) for image in batch}) == 64


def test_half_of_the_images_keep_their_pixels_moved_by_a_whole_number():
    pixels = images(count=400, size=12)

    batch = rotate_and_scale(pixels, torch.arange(400), draws(400, 6, seed=2), shift=0.08)

    kept = 0
    for image, source in zip(batch, pixels.permute(0, 3, 1, 2), strict=True):
        candidates = [moved(source, flip, dy, dx) for flip in (False, True) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        kept += any((image - candidate.float()).abs().max() < 0.05 for candidate in candidates)
    assert 160 < kept < 240


def test_a_turned_image_is_turned_by_the_angle_that_was_drawn():
    """A bright spot ends where a rotation by hand puts it."""
    size, degrees = 41, 90.0
    pixels = torch.zeros(1, size, size, 1, dtype=torch.uint8)
    pixels[0, 20, 30] = 255  # ten to the right of the middle
    numbers = torch.tensor([[2 / 3, 0.5, 0.9, 0.5, 0.5, 0.1]])  # a third of 90 degrees, no zoom, no flip, no move

    (image,) = rotate_and_scale(pixels, torch.tensor([0]), numbers, degrees=degrees)[:, 0]

    row, column = divmod(int(image.argmax()), size)
    angle = np.deg2rad(30)
    assert abs(column - (20 + 10 * np.cos(angle))) <= 1
    assert abs(abs(row - 20) - 10 * np.sin(angle)) <= 1


def test_tone_is_that_of_a_plain_loop():
    pixels = images(count=16, size=6).permute(0, 3, 1, 2)
    numbers = draws(16, 2, seed=3)

    changed = tone(pixels, numbers, brightness=0.3, contrast=0.5)

    for row, image in enumerate(pixels.double()):
        offset = 255 * 0.3 * (2 * numbers[row, 0].item() - 1)
        gain = 1 + 0.5 * (2 * numbers[row, 1].item() - 1)
        expected = ((image - image.mean()) * gain + image.mean() + offset).clamp(0, 255)
        torch.testing.assert_close(changed[row].double(), expected, atol=1e-3, rtol=0)
    assert changed.min() == 0  # both ends are reached, and not passed
    assert changed.max() == 255


def test_no_strength_leaves_the_tone():
    pixels = images(count=8).permute(0, 3, 1, 2)

    torch.testing.assert_close(tone(pixels, draws(8, 2), brightness=0, contrast=0), pixels.float(), atol=1e-3, rtol=0)


def test_so_many_images_get_one_grey_square_of_the_sizes_asked_for():
    size, count = 40, 2000
    pixels = torch.zeros(count, 3, size, size)

    erased = erase(pixels.clone(), draws(count, 4, seed=5), chance=0.4, least=0.2, most=0.5)

    assert set(erased.unique().tolist()) == {0.0, 127.5}
    covered = erased[:, 0] > 0
    assert torch.equal(covered, erased[:, 1] > 0)  # every channel alike
    sides = []
    for image in covered.numpy():
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        if len(rows):
            assert image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # one whole rectangle
            inside = rows[0] > 0 and rows[-1] < size - 1 and columns[0] > 0 and columns[-1] < size - 1
            if inside:
                assert abs(len(rows) - len(columns)) <= 1
                sides.append(len(rows))
    assert 0.36 < covered.flatten(1).any(1).float().mean() < 0.44
    assert min(sides) + 1 >= 8
    assert max(sides) <= 20 + 1
    assert 12 < np.mean(sides) < 15  # the middle of the sizes; large squares lie inside less often


def test_no_chance_paints_nothing():
    pixels = images(count=50).permute(0, 3, 1, 2).float()

    assert torch.equal(erase(pixels.clone(), draws(50, 4), chance=0.0), pixels)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_image_is_changed_alike_in_whichever_piece_of_a_batch(name):
    pixels, index, numbers = images(count=30, size=16), torch.arange(29, 9, -1), draws(20, DRAWS, seed=2)

    whole = AUGMENTATIONS[name](pixels, index, numbers)

    pieces = [AUGMENTATIONS[name](pixels, *piece) for piece in zip(index.split(7), numbers.split(7), strict=True)]
    assert whole.shape == (20, 3, 16, 16)
    torch.testing.assert_close(torch.cat(pieces), whole, atol=1e-3, rtol=0)
    assert torch.equal(whole, pixels[index].permute(0, 3, 1, 2)) == (name == "none")
