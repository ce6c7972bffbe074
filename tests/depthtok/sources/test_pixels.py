"""Pixels: bytes in, [H, W, C] or `CorruptRecord` out, and nothing else."""

import contextlib
import io
import json
import warnings
import zlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from depthtok.errors import CorruptRecord, SourceError
from depthtok.sources.example import encode_varints
from depthtok.sources.features import Feature
from depthtok.sources.pixels import PixelFormat, encode_image, from_raw

rng = np.random.default_rng(0)
RGB = rng.integers(0, 256, (16, 24, 3), np.uint8)
MILLIMETRES = rng.integers(0, 1 << 16, (16, 24, 1), np.uint16)
METRES = rng.random((16, 24, 1), np.float32)
JPEG = simplejpeg.encode_jpeg(RGB, 95, "RGB", "420")


def _png(array: np.ndarray) -> bytes:
    return encode_image(array, Feature("steps/x", "image", array.dtype.name, array.shape, "png"))


CASES = {
    "jpeg": (PixelFormat("jpeg", "uint8", (16, 24, 3)), JPEG),
    "jpeg grey": (PixelFormat("jpeg", "uint8", (None, None, 1)), JPEG),
    "png": (PixelFormat("png", "uint8", (16, 24, 3)), _png(RGB)),
    "png grey": (PixelFormat("png", "uint8", (16, None, 1)), _png(RGB[..., :1])),
    "png u16": (PixelFormat("png", "uint16", (16, 24, 1)), _png(MILLIMETRES)),
    "png f32": (PixelFormat("png", "float32", (16, 24, 1)), _png(METRES)),
    "raw": (PixelFormat("raw", "float32", (16, 24, 1)), METRES.tobytes()),
    "raw open": (PixelFormat("raw", "uint16", (None, 24, 1)), MILLIMETRES.tobytes()),
    "zlib": (PixelFormat("zlib", "uint16", (16, 24, 1)), zlib.compress(MILLIMETRES.tobytes())),
    "varint": (PixelFormat("varint", "uint16", (16, 24, 1)), encode_varints(MILLIMETRES)),
}
every_case = pytest.mark.parametrize(("layout", "data"), CASES.values(), ids=CASES)


@every_case
def test_decodes_to_its_shape_and_dtype(layout, data):
    frame = layout.decode(data)
    assert frame.dtype == layout.dtype
    assert frame.shape == (16, 24, layout.shape[2])
    want = {"uint16": MILLIMETRES, "float32": METRES}.get(layout.dtype, RGB)
    if not data.startswith(b"\xff\xd8"):
        assert np.array_equal(frame, want[..., : layout.shape[2]])


@every_case
def test_survives_json(layout, data):
    assert PixelFormat.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@every_case
def test_cuts_are_corrupt(layout, data):
    for length in {0, 1, 7, 20, 40, len(data) // 2, len(data) - 40}:  # before the last pixel
        if layout.encoding == "raw" and length % (48 if None in layout.shape else 1 << 30) == 0:
            continue  # whole rows where the height is open
        with pytest.raises(CorruptRecord):
            layout.decode(data[:length])


@every_case
def test_another_shape_is_corrupt(layout, data):
    wrong = PixelFormat(layout.encoding, layout.dtype, (16, 25, layout.shape[2]))
    with pytest.raises(CorruptRecord):
        wrong.decode(data)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(CASES)), st.data())
def test_flips_and_garbage_raise_nothing_else(case, data):
    layout, good = CASES[case]
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= data.draw(st.integers(1, 255))
    garbage = data.draw(st.binary(max_size=50))
    for attempt in (bytes(bad), good[:20] + garbage, good[:2] + garbage, garbage):
        with contextlib.suppress(CorruptRecord):
            layout.decode(attempt)


@pytest.mark.parametrize("open_shape", [True, False])
def test_bombs_do_not_go_off(open_shape):
    shape = (None, 24, 1) if open_shape else (16, 24, 1)
    bomb = zlib.compress(bytes(1 << 20)) if not open_shape else _zlib_bomb(1 << 29)
    with pytest.raises(CorruptRecord, match="more than"):
        PixelFormat("zlib", "uint8", shape).decode(bomb)
    huge = bytearray(_png(RGB))
    huge[16:24] = (60000).to_bytes(4, "big") * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CorruptRecord, match="60000 x 60000 px"):
            PixelFormat("png", "uint8", (None, None, 3)).decode(bytes(huge))


def _zlib_bomb(size: int) -> bytes:
    stream = zlib.compressobj(1)
    block = bytes(1 << 22)
    return b"".join(stream.compress(block) for _ in range(size >> 22)) + stream.flush()


def test_the_declaration_may_say_the_other_codec():
    as_png = PixelFormat("png", "uint8", (16, 24, 3)).decode(JPEG)
    assert np.array_equal(as_png, PixelFormat("jpeg", "uint8", (16, 24, 3)).decode(JPEG))


@pytest.mark.parametrize(
    ("dtype", "channels", "data"),
    [
        ("uint8", 1, _png(RGB)),  # colours are not mixed to grey
        ("uint8", 1, _png(MILLIMETRES)),
        ("uint16", 1, _png(RGB)),
        ("uint16", 3, _png(MILLIMETRES)),
        ("float32", 1, _png(MILLIMETRES)),
        ("uint8", 4, JPEG),
        ("uint8", None, _png(RGB)),
        ("uint8", 5, _png(RGB)),
        ("uint16", 1, JPEG),
        ("uint8", 3, b"GIF89a not read"),
    ],
)
def test_images_of_another_kind_are_refused(dtype, channels, data):
    with pytest.raises(CorruptRecord):
        PixelFormat("png", dtype, (16, 24, channels)).decode(data)


def test_palettes_with_transparency():
    picture = Image.fromarray(RGB).quantize(16)
    buffer = io.BytesIO()
    picture.save(buffer, "png", transparency=bytes(range(16)))
    frame = PixelFormat("png", "uint8", (16, 24, 3)).decode(buffer.getvalue())
    assert np.array_equal(frame, np.asarray(picture.convert("RGB")))


def test_formats_of_features():
    def of(kind, dtype, shape, encoding):
        return PixelFormat.of(Feature("steps/x", kind, dtype, shape, encoding))

    assert of("image", "uint8", (4, 5, 3), "jpeg") == PixelFormat("jpeg", "uint8", (4, 5, 3))
    assert of("image", "uint8", (4, 5, 3), "") == PixelFormat("png", "uint8", (4, 5, 3))
    assert of("tensor", "float32", (4, 5), "none") == PixelFormat("raw", "float32", (4, 5, 1))
    assert of("tensor", "float64", (4, 5), "none") == PixelFormat("raw", "float32", (4, 5, 1))
    assert of("tensor", "float64", (4, 5), "bytes") == PixelFormat("raw", "float64", (4, 5, 1))
    assert of("tensor", "int32", (4, 5, 1), "none") == PixelFormat("varint", "int32", (4, 5, 1))
    assert of("tensor", "uint16", (4, 5), "zlib") == PixelFormat("zlib", "uint16", (4, 5, 1))
    for kind, shape in (("tensor", (8,)), ("scalar", ()), ("text", ()), ("other", (4, 5))):
        with pytest.raises(SourceError, match="is not an image"):
            of(kind, "float32", shape, "none")


def test_what_is_no_format():
    for data in (
        {},
        {"encoding": "gif", "dtype": "uint8", "shape": [1, 1, 1]},
        {"encoding": "raw"},
    ):
        with pytest.raises(SourceError):
            PixelFormat.from_json(data)


def test_raw_numbers():
    assert from_raw(b"\x80\x3f\x00\xc0", "bfloat16").tolist() == [1.0, -2.0]
    assert from_raw(b"\x00\x01\x02", "bool").tolist() == [False, True, True]
    assert from_raw(b"\xff\xff\xff\xff", "uint32").tolist() == [4294967295]
