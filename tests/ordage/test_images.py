import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from ordage import images
from ordage.transforms import ImageSpec

SPEC = ImageSpec(16, 1)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = Image.fromarray(np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16))

    pixels = SPEC.decode(encoded(ramp, "PNG"))[0]

    assert pixels[0, 0, 0] == 0
    assert pixels[-1, -1, 0] == 255
    assert 120 < pixels[8, 0, 0] < 136


def test_transparency_becomes_white():
    hidden = Image.new("RGBA", (16, 16), (200, 0, 0, 0))

    assert (ImageSpec(16, 3).decode(encoded(hidden, "PNG"))[0] == 255).all()


def test_exif_rotation_is_honoured():
    half = Image.new("L", (32, 32), 0)
    half.paste(255, (0, 0, 32, 16))  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down

    pixels, info = SPEC.decode(encoded(half, "JPEG", exif=exif, quality=95))

    assert pixels[:4].max() < 50
    assert pixels[-4:].min() > 200
    assert info.orientation == 3


@pytest.mark.parametrize(("fit", "left"), [("crop", 255), ("pad", 255), ("stretch", 0)])
def test_each_way_to_make_an_image_square(fit, left):
    wide = Image.new("L", (64, 32), 255)
    wide.paste(0, (0, 0, 16, 32))  # the leftmost quarter is black

    pixels = ImageSpec(32, 1, fit=fit).prepare(wide)[..., 0]

    assert pixels.shape == (32, 32)
    assert pixels[16, 10 if fit == "pad" else 1] == left
    assert (pixels[0] == 0).all() == (fit == "pad")


def photograph(size, mode="RGB", seed=0):
    """Colours that change smoothly, as those of photographs do."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_gives_the_picture_that_pillow_shows(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photograph((48, 30)), "JPEG", exif=exif, quality=95)

    pixels, info = images.decode(content, chans=3, at_least=16)

    with Image.open(io.BytesIO(content)) as image:
        shown = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(pixels, np.asarray(shown.convert("RGB")))
    assert (info.width, info.height) == shown.size


@pytest.mark.parametrize("side", [20, 64, 200, 513])
@pytest.mark.parametrize("chans", [1, 3])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_simplejpeg_gives_the_very_pixels_of_pillow(monkeypatch, side, chans, mode, subsampling):
    assert images.simplejpeg is not None, "the extra `fast` belongs to the tests"
    content = encoded(photograph((side + 3, side), mode), "JPEG", quality=88, subsampling=subsampling)

    fast, _ = images.decode(content, chans=chans, at_least=24)
    monkeypatch.setattr(images, "simplejpeg", None)
    plain, _ = images.decode(content, chans=chans, at_least=24)

    np.testing.assert_array_equal(fast, plain)


def test_a_large_jpeg_is_decoded_at_no_less_than_twice_the_side():
    content = encoded(photograph((1600, 1200)), "JPEG", quality=90)

    pixels, info = images.decode(content, chans=3, at_least=64)

    assert pixels.shape == (150, 200, 3)
    assert (info.width, info.height) == (1600, 1200)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG"), ("P", "GIF"), ("1", "PNG"), ("L", "PNG"), ("LA", "PNG"),
        ("RGBA", "PNG"), ("RGBA", "WEBP"), ("L", "BMP"), ("RGB", "PPM"), ("YCbCr", "JPEG"), ("F", "TIFF"),
        ("I;16", "PNG"), ("I", "TIFF"),
    ],
)  # fmt: skip
def test_every_mode_gives_grey_and_colour_of_the_same_picture(mode, kind):
    grey = photograph((40, 40), "L")
    if mode.startswith("I"):
        stored = Image.fromarray((np.asarray(grey, np.uint32) * 257).astype(np.uint16 if ";" in mode else np.int32))
    elif mode == "F":
        stored = Image.fromarray(np.asarray(grey, np.float32) / 255)
    else:
        stored = grey.convert(mode)
    content = encoded(stored, kind)

    found = {chans: ImageSpec(40, chans).decode(content)[0] for chans in (1, 3)}

    assert found[1].shape == (40, 40, 1)
    assert found[3].shape == (40, 40, 3)
    expected = np.asarray(stored.convert("L") if mode == "1" else grey, int)
    for pixels in found.values():
        assert np.abs(pixels.mean(-1) - expected).mean() < 8


def test_palette_transparency_becomes_white():
    picture = Image.new("P", (16, 16), 0)
    picture.putpalette([200, 0, 0, 0, 0, 200])
    picture.paste(1, (0, 0, 16, 8))

    pixels, _ = ImageSpec(16, 3).decode(encoded(picture, "PNG", transparency=0))

    assert (pixels[12] == 255).all()
    assert pixels[3].tolist() == [[0, 0, 200]] * 16


def test_an_image_of_absurd_size_is_refused_before_it_is_decoded():
    header = encoded(Image.new("1", (8, 8)), "PPM").split(b"\n", 1)[0]
    content = header + b"\n60000 60000\n" + b"\0" * 100

    with pytest.raises(ValueError, match="exceeds limit"):
        SPEC.decode(content)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 7)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_images_of_any_size_become_square(size, fit):
    pixels, info = ImageSpec(16, 3, fit=fit).decode(encoded(photograph(size), "PNG"))

    assert pixels.shape == (16, 16, 3)
    assert (info.width, info.height) == size


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize(("chans", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("side", [17, 64, 150])
def test_resizing_is_that_of_pillow_to_one_level(interpolation, chans, mode, side):
    picture = photograph((90, 90), mode)

    pixels = ImageSpec(side, chans, interpolation=interpolation).prepare(picture)

    expected = np.asarray(picture.resize((side, side), Image.Resampling[interpolation.upper()]), int)
    assert np.abs(pixels.astype(int) - expected.reshape(pixels.shape)).max() <= 1


def test_channels_are_those_of_pillow():
    colour = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    alpha = np.random.default_rng(1).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    white = Image.new("RGBA", (30, 20), "white")

    grey = images.to_channels(colour, 1)
    on_white = images.to_channels(alpha, 3)

    np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.fromarray(colour).convert("L")))
    composed = np.asarray(Image.alpha_composite(white, Image.fromarray(alpha)).convert("RGB"), int)
    assert np.abs(on_white.astype(int) - composed).max() <= 1
    np.testing.assert_array_equal(images.to_channels(grey, 3), np.repeat(grey, 3, axis=-1))
