"""Upright pictures: the eight ways of EXIF and of display matrices, against Pillow's."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from depthtok.errors import CorruptRecord
from depthtok.sources.upright import of_image, of_matrix, swaps_sides, turned, upright

ONE = 65536
MATRICES = {  # where a step right and a step down go, as EXIF's words for each say
    1: (ONE, 0, 0, ONE),
    2: (-ONE, 0, 0, ONE),
    3: (-ONE, 0, 0, -ONE),
    4: (ONE, 0, 0, -ONE),
    5: (0, ONE, ONE, 0),
    6: (0, ONE, -ONE, 0),
    7: (0, -ONE, -ONE, 0),
    8: (0, -ONE, ONE, 0),
}


def marked(height=6, width=10):
    """No two corners alike, and no two rows."""
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def encoded(pixels, way, kind):
    exif = Image.Exif()
    exif[0x0112] = way
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("way", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_images_come_out_as_pillow_turns_them(way, kind):
    data = encoded(np.kron(marked(), np.ones((16, 16, 1), np.uint8)), way, kind)
    assert of_image(data) == way
    with Image.open(io.BytesIO(data)) as picture:
        wanted = np.asarray(ImageOps.exif_transpose(picture)).astype(int)
    with Image.open(io.BytesIO(upright(data, way))) as picture:
        pixels = np.asarray(picture).astype(int)
    assert pixels.shape == wanted.shape
    assert (pixels.shape[:2] == (160, 96)) == swaps_sides(way)
    assert (
        np.abs(pixels - wanted).max() == 0 if kind == "PNG" else np.abs(pixels - wanted).mean() < 4
    )


@pytest.mark.parametrize("way", range(1, 9))
def test_a_display_matrix_moves_every_pixel_where_it_says(way):
    a, b, c, d = MATRICES[way]
    assert of_matrix([a, b, 0, c, d, 0, 7 * ONE, 0, 1 << 30]) == way
    pixels = marked()
    turned_pixels = turned(pixels, way)
    corners = np.array([[a * x + c * y, b * x + d * y] for x in (0, 9) for y in (0, 5)]) // ONE
    left, top = corners.min(axis=0)
    for x, y in ((0, 0), (9, 0), (4, 2), (3, 5)):
        right, down = (a * x + c * y) // ONE - left, (b * x + d * y) // ONE - top
        assert (turned_pixels[down, right] == pixels[y, x]).all()
    assert turned_pixels.flags.c_contiguous


def test_what_is_no_quarter_turn_is_refused():
    half = int(ONE * 0.7071)
    with pytest.raises(CorruptRecord, match="odd angle"):
        of_matrix([half, half, 0, -half, half, 0, 0, 0, 1 << 30])
    assert of_matrix([ONE, 9, 0, -9, ONE, 0, 0, 0, 1 << 30]) == 1


def test_images_that_say_nothing_valid_are_as_stored():
    plain = io.BytesIO()
    Image.fromarray(marked()).save(plain, "PNG")
    assert of_image(plain.getvalue()) == 1
    assert of_image(encoded(marked(), 9, "PNG")) == 1
    assert of_image(b"Exif\0\0 no image at all") == 1
    broken = encoded(marked(), 6, "JPEG")
    at = broken.index(b"Exif\0\0") + 6
    assert of_image(broken[:at] + b"\xff" * 12 + broken[at + 12 :]) == 1
