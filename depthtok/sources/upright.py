"""Turns pictures upright, as their EXIF orientation or a video's display matrix says.

The eight ways are numbered as in EXIF: 1 as stored, 2 mirrored, 3 turned by 180 degrees, 4 upside
down, 5 transposed, 6 to be turned clockwise, 7 transposed and turned by 180, 8 counterclockwise.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from depthtok.disk.bounds import too_large
from depthtok.errors import CorruptRecord
from depthtok.sources.pixels import JPEG_QUALITY, PixelFormat, size_of

STORED = 1
_ORIENTATION = 0x0112  # EXIF's tag
_MARKS = (b"Exif\0\0", b"eXIf", b"Raw profile type exif")  # before EXIF in JPEG, PNG, old PNG
_PNG = b"\x89PNG"
_WAYS = {  # transposed, rows reversed, columns reversed: in this order
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_BROKEN_EXIF = (
    CorruptRecord,
    OSError,
    ValueError,
    SyntaxError,
    struct.error,
    KeyError,
    TypeError,
    EOFError,
)


def turned(frame: UInt8[np.ndarray, "H W C"], way: int) -> UInt8[np.ndarray, "h w C"]:
    """A frame turned the `way` it is to be seen, contiguous."""
    transposed, rows, columns = _WAYS[way]
    if transposed:
        frame = frame.transpose(1, 0, 2)
    return np.ascontiguousarray(frame[:: -1 if rows else 1, :: -1 if columns else 1])


def swaps_sides(way: int) -> bool:
    """Whether this way exchanges height and width."""
    return _WAYS[way][0]


def of_matrix(matrix: Sequence[int]) -> int:
    """The way that a video's display matrix turns its frames. Of its nine numbers the first two are
    where a step to the right goes (right, down), the fourth and fifth where a step down goes.

    Raises `CorruptRecord` unless it is one of the eight.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    largest = max(map(abs, (a, b, c, d)))
    a, b, c, d = (0 if abs(n) * 64 < largest else (1 if n > 0 else -1) for n in (a, b, c, d))
    if a and d and not b and not c:
        way = (False, d < 0, a < 0)
    elif b and c and not a and not d:
        way = (True, b < 0, c < 0)
    else:
        raise CorruptRecord(
            f"its display matrix {list(matrix)} turns frames by an odd angle",
            remedy="write it again with its frames turned: ffmpeg -i IN OUT",
        )
    return next(number for number, transform in _WAYS.items() if transform == way)


def of_image(data: bytes) -> int:
    """The way of an encoded image: its EXIF orientation; `STORED` if it says nothing valid."""
    if not any(mark in data for mark in _MARKS[: 1 if data[:4] != _PNG else 3]):
        return STORED
    try:
        if too_large(*size_of(data)):
            return STORED
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as picture:
            way = picture.getexif().get(_ORIENTATION, STORED)
    except _BROKEN_EXIF:
        return STORED
    return way if way in _WAYS else STORED


def upright(data: bytes, way: int) -> bytes:
    """An encoded image, turned: a PNG without loss, a JPEG encoded anew. Raises `CorruptRecord`."""
    frame = turned(PixelFormat("jpeg", "uint8", (None, None, 3)).decode(data), way)
    if data[:4] != _PNG:
        return simplejpeg.encode_jpeg(frame, JPEG_QUALITY)
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "png")
    return buffer.getvalue()
