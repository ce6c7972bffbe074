"""The messages of openpi's policy protocol: msgpack maps that contain numpy arrays.

An array is a map {b"__ndarray__": True, b"data", b"dtype", b"shape"}, a numpy number a map
{b"__npgeneric__": True, b"data", b"dtype"}. Needs the package `msgpack`.
"""

from __future__ import annotations

import math
import re
from types import ModuleType
from typing import Any

import numpy as np

from depthtok.errors import ConfigError, MissingPackage

KINDS = "biuf"  # kinds of dtypes that may be sent: no objects, void or complex
DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")  # numpy would parse longer ones for long
DIMENSIONS = 8
# A message of a few bytes can claim or hold many objects, which take up far more memory.
LISTED, MAPPED, TEXT = 4096, 256, 2**16  # entries of one list, of one map; bytes of one text
ENTRIES = 2**16  # of all lists and maps together
BROKEN = ValueError, TypeError, LookupError, ArithmeticError, SyntaxError  # for broken arrays


def _msgpack() -> ModuleType:
    try:
        import msgpack
    except ImportError as error:
        raise MissingPackage(
            "serving needs the package `msgpack`", remedy="pip install msgpack websockets"
        ) from error
    return msgpack


def pack(message: Any) -> bytes:
    """Encodes a message as bytes."""
    return _msgpack().packb(message, default=_encode)


def unpack(data: bytes) -> Any:
    """Decodes a message. Raises `ConfigError` for anything else, and for one of too many values:
    numbers belong into arrays."""
    msgpack, entries = _msgpack(), 0

    def counted(value: list | dict) -> Any:
        nonlocal entries
        entries += len(value) + 1
        if entries > ENTRIES:
            raise ValueError(f"more than {ENTRIES} values: send numbers as arrays")
        return _decode(value) if isinstance(value, dict) else value

    try:
        limits = {"max_array_len": LISTED, "max_map_len": MAPPED, "max_str_len": TEXT}
        return msgpack.unpackb(data, object_hook=counted, list_hook=counted, **limits)
    except (*BROKEN, msgpack.exceptions.UnpackException) as error:
        raise ConfigError(
            f"the message is not valid openpi msgpack: {error}",
            remedy="send with openpi-client, or as described in docs/model.md",
        ) from error


def _encode(value: Any) -> dict:
    if isinstance(value, np.ndarray) and value.dtype.kind in KINDS:
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic) and value.dtype.kind in KINDS:
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _decode(value: dict) -> Any:
    if b"__ndarray__" in value:
        dtype, shape = _dtype(value), tuple(value[b"shape"])
        data = value[b"data"]
        if len(shape) > DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"an array of shape {shape}")
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"an array of {len(data)} bytes for {dtype} {shape}")
        return np.frombuffer(data, dtype).reshape(shape)
    if b"__npgeneric__" in value:
        return _dtype(value).type(value[b"data"])
    return value


def _dtype(value: dict) -> np.dtype:
    name = value[b"dtype"]
    if not isinstance(name, str) or not DTYPE.fullmatch(name):
        raise ValueError(f"dtype {str(name)[:40]!r} cannot be sent")
    return np.dtype(name)
