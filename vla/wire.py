"""The messages of openpi's policy protocol: msgpack maps that contain numpy arrays.

An array is a map {b"__ndarray__": True, b"data", b"dtype", b"shape"}, a numpy number a map
{b"__npgeneric__": True, b"data", b"dtype"}. Needs the package `msgpack`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from depthtok.errors import ConfigError, MissingPackage

KINDS = "biuf"  # kinds of dtypes that may be sent: no objects, void or complex
BROKEN = ValueError, TypeError, LookupError, ArithmeticError, SyntaxError  # for broken arrays


def _msgpack():
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
    """Decodes a message. Raises `ConfigError` for anything else."""
    msgpack = _msgpack()
    try:
        return msgpack.unpackb(data, object_hook=_decode)
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
        if any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"an array of shape {shape}")
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"an array of {len(data)} bytes for {dtype} {shape}")
        return np.frombuffer(data, dtype).reshape(shape)
    if b"__npgeneric__" in value:
        return _dtype(value).type(value[b"data"])
    return value


def _dtype(value: dict) -> np.dtype:
    dtype = np.dtype(value[b"dtype"])
    if dtype.kind not in KINDS:
        raise ValueError(f"dtype {dtype} cannot be sent")
    return dtype
