import io

import numpy as np
from PIL import Image

from ordage.transforms import ImageSpec


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
