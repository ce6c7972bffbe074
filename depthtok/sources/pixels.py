"""Decoding the bytes of a frame, bit-identical to tensorflow-datasets; and encoding.

For JPEG this needs the fast DCT, TensorFlow's default, whose rounding differs from the accurate one
by up to nine levels. A float32 Image is stored as an RGBA PNG whose four channels are the bytes of
the float. Every failure is a `CorruptRecord`; sizes are checked before memory is allocated, as a
protection against PNG and zlib bombs (`depthtok/disk/bounds.py` has the limits).
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image

from depthtok.disk.bounds import too_large
from depthtok.errors import CorruptRecord, SourceError
from depthtok.sources.example import decode_varints
from depthtok.sources.features import Feature, values_in

ENCODINGS = ("jpeg", "png", "raw", "varint", "zlib")
Shape = tuple[int | None, ...]

JPEG_QUALITY = 95  # as in tensorflow-datasets
SMALLER = "make smaller copies of these pictures, or leave the episode out"

_LARGEST_TENSOR = 1 << 28  # bytes after decompression, if a dimension is undefined
_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_SPACES = {1: "GRAY", 3: "RGB"}
_PNG_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette is RGB


@dataclass(frozen=True)
class PixelFormat:
    """How to decode the bytes of one frame. Saved in stores as JSON.

    `shape` is (H, W, C); H or W may be None if frames differ in size. "jpeg" and "png" also decode
    each other, because tensorflow-datasets goes by the bytes rather than the declaration. Raises
    `SourceError` for another encoding, or a shape of other than three sizes.
    """

    encoding: str  # one of ENCODINGS
    dtype: str
    shape: Shape

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS or len(self.shape) != 3:
            raise SourceError(f"no pixel format has encoding {self.encoding!r}, shape {self.shape}")

    @classmethod
    def of(cls, feature: Feature) -> PixelFormat:
        """The format of an image feature, or of a tensor [H, W] or [H, W, C].

        A float list is float32 whatever the feature's dtype, which loses no information. Raises
        `SourceError` for features that are not images.
        """
        shape = feature.shape if len(feature.shape) == 3 else (*feature.shape, 1)
        if feature.kind not in ("image", "tensor") or len(shape) != 3:
            raise SourceError(
                f"{feature.path} ({feature.kind}, shape {feature.shape}) is not an image",
                remedy="name a feature that is an Image, or a Tensor of shape [H, W] or [H, W, C]",
            )
        if feature.kind == "image":
            return cls(feature.encoding or "png", feature.dtype, shape)
        if feature.encoding != "none":
            return cls("zlib" if feature.encoding == "zlib" else "raw", feature.dtype, shape)
        if "float" in feature.dtype:
            return cls("raw", "float32", shape)
        return cls("varint", feature.dtype, shape)

    def decode(self, data: bytes) -> np.ndarray:
        """[H, W, C] in `dtype` (bfloat16 as float32). Raises `CorruptRecord`."""
        if self.encoding in ("jpeg", "png"):
            return decode_image(data, self.dtype, self.shape)
        frame = decode_tensor(data, self.encoding, self.dtype, self.shape)
        if reason := too_large(*frame.shape[:2]):
            raise CorruptRecord(f"a tensor that is too large: {reason}", remedy=SMALLER)
        return frame

    def to_json(self) -> dict:
        """A plain dictionary, the same for equal formats."""
        return {"encoding": self.encoding, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: dict) -> PixelFormat:
        """The inverse of `to_json`. Raises `SourceError`."""
        try:
            if not all(side is None or type(side) is int for side in data["shape"]):
                raise TypeError(f"shape {data['shape']}")
            return cls(str(data["encoding"]), str(data["dtype"]), tuple(data["shape"]))
        except (KeyError, TypeError) as error:
            raise SourceError(
                f"not a pixel format: {data!r:.200}", remedy="make the store again from its source"
            ) from error


def decode_image(data: bytes, dtype: str, shape: Shape) -> np.ndarray:
    """A JPEG or a PNG (by its first bytes) as [H, W, C]. Raises `CorruptRecord`, `SourceError`."""
    if data.startswith(_JPEG_MAGIC) and dtype == "uint8":
        return _decode_jpeg(data, shape)
    if not data.startswith(_PNG_MAGIC):
        raise CorruptRecord(f"{len(data)} bytes that are not an image of {dtype}")
    if dtype == "float32" and shape[2] == 1:
        return _decode_png(data, "uint8", (*shape[:2], 4)).view("<f4")
    if dtype not in ("uint8", "uint16"):
        raise SourceError(f"no image has dtype {dtype} and {shape[2]} channels")
    return _decode_png(data, dtype, shape)


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width of an encoded JPEG or PNG, px, by its header. Raises `CorruptRecord`."""
    try:
        if data.startswith(_JPEG_MAGIC):
            return simplejpeg.decode_jpeg_header(data)[:2]
        if data.startswith(_PNG_MAGIC):
            return struct.unpack_from(">II", data, 16)[::-1]
    except (ValueError, struct.error) as error:
        raise CorruptRecord(f"an image that cannot be decoded: {error}") from error
    raise CorruptRecord(f"{len(data)} bytes that are neither JPEG nor PNG")


def _decode_jpeg(data: bytes, shape: Shape) -> np.ndarray:
    if shape[2] not in _JPEG_SPACES:
        raise CorruptRecord(f"a JPEG, but {shape[2]} channels are declared")
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        _check_size((height, width), shape, "a JPEG")
        return simplejpeg.decode_jpeg(data, _JPEG_SPACES[shape[2]], fastdct=True)
    except ValueError as error:
        raise CorruptRecord(f"a JPEG that cannot be decoded: {error}") from error


def _decode_png(data: bytes, dtype: str, shape: Shape) -> np.ndarray:
    """A PNG as `dtype` [H, W, C]: uint8 with one to four channels, or uint16 with one.

    Colours are never mixed: RGB does not become grey. Grey becomes RGB, and alpha is dropped or
    added as opaque, as in TensorFlow.
    """
    try:
        width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    except struct.error as error:
        raise CorruptRecord(f"a PNG truncated after {len(data)} bytes") from error
    _check_size((height, width), shape, "a PNG")
    channels = shape[2]
    if channels not in _PNG_MODES:
        raise CorruptRecord(f"a PNG, but {channels} channels are declared")
    if (bits == 16) != (dtype == "uint16") or (bits == 16 and (colour, channels) != (0, 1)):
        raise CorruptRecord(f"a PNG of {bits} bits, colour type {colour}, where {dtype} {shape} is")
    if _PNG_CHANNELS.get(colour, 0) > 2 >= channels:
        raise CorruptRecord(f"a colour PNG, but {channels} channels are declared")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as file:
            picture: Image.Image = file
            if picture.size != (width, height):
                raise CorruptRecord("a PNG with two headers")
            if bits < 16 and picture.mode != _PNG_MODES[channels]:
                if "transparency" in picture.info:
                    picture = picture.convert("RGBA")
                picture = picture.convert(_PNG_MODES[channels])
            pixels = np.array(picture, dtype)
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:
        raise CorruptRecord(f"a PNG that cannot be decoded: {error}") from error
    return pixels.reshape(height, width, channels)


def _check_size(size: tuple[int, int], shape: Shape, what: str) -> None:
    if any(declared not in (None, actual) for actual, declared in zip(size, shape, strict=False)):
        raise CorruptRecord(f"{what} of {size[0]}x{size[1]} px, but {shape} is declared")
    if reason := too_large(*size):
        raise CorruptRecord(f"{what} that is too large: {reason}", remedy=SMALLER)


def encode_image(image: np.ndarray, feature: Feature) -> bytes:
    """[H, W, C] as JPEG (uint8 grey or RGB) or PNG: uint8 with one to four channels, uint16 with
    one, float32 with one as the RGBA image of its bytes. Raises `SourceError`."""
    channels = image.shape[2]
    if feature.encoding == "jpeg" and feature.dtype == "uint8" and channels in (1, 3):
        space, sampling = ("GRAY", "Gray") if channels == 1 else ("RGB", "420")
        return simplejpeg.encode_jpeg(image, JPEG_QUALITY, space, sampling)
    if feature.encoding == "png" and feature.dtype == "float32" and channels == 1:
        image, channels = image.view(np.uint8), 4
    kinds = {"uint8": (1, 2, 3, 4), "uint16": (1,)}
    if feature.encoding != "png" or channels not in kinds.get(image.dtype.name, ()):
        raise SourceError(
            f"{feature.path}: {feature.dtype} images with {channels} channels cannot be "
            f"encoded as {feature.encoding!r}",
            remedy="use jpeg for RGB, png for depth in uint16 or float32",
        )
    buffer = io.BytesIO()
    Image.fromarray(image if channels > 1 else image[..., 0]).save(buffer, "png")
    return buffer.getvalue()


def decode_tensor(data: bytes, encoding: str, dtype: str, shape: Shape) -> np.ndarray:
    """A "raw" (little-endian), "zlib" or "varint" tensor; one dimension of `shape` may be None.
    Raises `CorruptRecord`."""
    item = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
    if encoding == "varint":
        return filled(decode_varints(data, dtype=dtype), shape)
    if encoding == "zlib":
        count = values_in(shape)
        declared = _LARGEST_TENSOR if count is None else max(0, count) * item
        data = _inflate(data, min(declared, _LARGEST_TENSOR))
    if len(data) % item:
        raise CorruptRecord(f"{len(data)} bytes are not a whole number of {dtype}")
    return filled(from_raw(data, dtype), shape)


def filled(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Flat values reshaped to `shape`, where one dimension may be None. Raises `CorruptRecord`."""
    sizes = [size for size in shape if size is not None]
    count, unknowns = math.prod(sizes), len(shape) - len(sizes)
    rest = len(values) % count if unknowns and count else len(values) - count
    if rest or unknowns > 1 or any(size < 0 for size in sizes):
        raise CorruptRecord(f"{len(values)} values do not fill shape {shape}")
    missing = len(values) // count if count else 0
    return values.reshape([missing if size is None else size for size in shape])


def from_raw(data: bytes, dtype: str) -> np.ndarray:
    """Little-endian bytes as numbers; bool is "not zero", bfloat16 becomes float32 exactly."""
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype == "bool":
        return np.frombuffer(data, np.uint8) != 0
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))


def _inflate(data: bytes, limit: int) -> bytes:
    """Decompresses zlib data to at most `limit` bytes."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise CorruptRecord(f"zlib data that cannot be decompressed: {error}") from error
    if len(plain) > limit or not stream.eof:
        raise CorruptRecord(f"zlib data with more than {limit} bytes, or truncated")
    return plain
