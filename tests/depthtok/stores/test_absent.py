"""Cameras that episodes do not have: what is a suspect, and what is one flat colour."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from depthtok.sources.pixels import PixelFormat
from depthtok.stores.absent import Looks, blank, largest_flat, suspect

RNG = np.random.default_rng(0)
COLOURS = ((0, 0, 0), (255, 255, 255), (200, 13, 90), (0, 0, 255))


def flat(height, width, colour=(0, 0, 0)):
    return np.full((height, width, 3), colour, np.uint8)


def textured(height, width, step=0, contrast=60):
    """A still scene, slightly shaken: blurred noise, as little of it as real pictures have."""
    noise = Image.fromarray(RNG.integers(0, contrast, (height // 8, width // 8, 3), np.uint8))
    image = np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)).copy()
    image[:4, :4] = step
    return image + np.uint8(60)


def pil(image, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def encodings(image):
    yield pil(image, "JPEG", quality=95)
    yield pil(image, "JPEG", quality=100, subsampling=0)
    yield pil(image, "JPEG", quality=30, progressive=True)
    yield pil(image, "PNG")
    yield pil(image, "PNG", compress_level=1)
    for sampling in ("444", "422", "420"):
        yield simplejpeg.encode_jpeg(image, 95, "RGB", sampling)


def columns(frames):
    import google_crc32c

    lengths = np.array([len(data) for data in frames], np.uint32)
    return lengths, np.array([google_crc32c.value(data) for data in frames], np.uint32)


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (180, 320), (256, 256), (480, 640), (33, 71)])
def test_every_flat_picture_is_within_the_bound_and_no_scene_is(size):
    for colour in COLOURS:
        assert max(map(len, encodings(flat(*size, colour)))) <= largest_flat(*size)
    scene = textured(*size, contrast=120)
    assert len(pil(scene, "JPEG", quality=95)) > largest_flat(*size)
    assert len(pil(scene, "PNG")) > largest_flat(*size)


def test_ordinary_frames_are_no_suspects_and_need_no_decoding():
    frames = [pil(textured(128, 128, step), "JPEG", quality=90) for step in range(6)]
    assert not suspect(*columns(frames), (128, 128, 3))
    assert not suspect(*columns([]), (128, 128, 3))


def test_equal_frames_are_suspects_whatever_their_size():
    assert suspect(*columns([pil(textured(128, 128), "PNG")] * 5), (128, 128, 3))
    assert suspect(*columns([pil(flat(90, 90), "PNG")] * 5), (None, None, 3))


def test_small_frames_are_suspects_though_they_differ():
    frames = [pil(flat(64, 64, (n, n, n)), "JPEG", quality=95) for n in range(4)]
    assert suspect(*columns(frames), (64, 64, 3))
    assert not suspect(*columns(frames), (None, None, 3))
    assert not suspect(*columns([*frames, pil(textured(64, 64), "PNG")]), (64, 64, 3))


JPEG = PixelFormat("jpeg", "uint8", (64, 64, 3))


@pytest.mark.parametrize("colour", COLOURS)
def test_one_colour_throughout_is_blank(colour):
    assert blank([pil(flat(64, 64, colour), "JPEG")] * 3, JPEG)


def test_a_still_scene_and_a_camera_that_is_dark_for_a_while_are_not_blank():
    assert not blank([pil(textured(64, 64), "PNG")] * 5, JPEG)
    dark = [pil(flat(64, 64), "PNG")] * 29
    for start in range(0, 30, 7):
        frames = [*dark[:start], pil(textured(64, 64), "PNG"), *dark[start:]]
        assert not blank(frames, JPEG), start


def test_colours_that_change_are_a_picture():
    assert not blank([pil(flat(64, 64, (n, n, n)), "PNG") for n in (0, 4, 9)], JPEG)
    assert blank([pil(flat(64, 64, (n, n, n)), "PNG") for n in (0, 4, 8)], JPEG)


def test_what_cannot_be_decoded_is_not_blank():
    assert not blank([b"no picture"] * 3, JPEG)


def test_looks_count_frames_and_span_all_of_them():
    looks = Looks()
    looks.add(np.stack([flat(8, 8)] * 3))
    looks.add(np.stack([flat(8, 8, (8, 0, 0))]))
    assert (looks.frames, looks.textured) == (4, False)
    late = flat(8, 8)
    late[7, 7, 2] = 9
    looks.add(np.stack([flat(8, 8), late]))
    assert (looks.frames, looks.textured) == (6, True)
    looks.add(np.empty((0, 8, 8, 3), np.uint8))
    looks.add(np.stack([flat(8, 8)]))
    assert (looks.frames, looks.textured) == (7, True)
