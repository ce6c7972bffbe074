"""The fields of an observation, each checked: what is wrong is named as the sender knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.errors import ConfigError, did_you_mean


def _field(observation: Mapping[str, Any], name: str) -> Any:
    if not isinstance(observation, Mapping):
        raise ConfigError(
            f"the observation has type {type(observation).__name__}",
            remedy="give a map of `images`, `instruction` and `proprio`",
        )
    if name not in observation:
        raise ConfigError(f"{name} is missing", remedy="include it in every observation")
    return observation[name]


def _array(value: Any, name: str, dtype: type | None = None) -> np.ndarray:
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # infinite, and refused where it matters
            return np.asarray(value, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"{name} has type {type(value).__name__}, not an array",
            remedy="give numbers, all rows of one length",
        ) from error


def image(observation: Mapping[str, Any], camera: str) -> UInt8[np.ndarray, "H W 3"]:
    """The picture of a camera. Raises `ConfigError`, as all readers here do."""
    images, name = _field(observation, "images"), f"images/{camera}"
    if not isinstance(images, Mapping):
        raise ConfigError(
            f"images has type {type(images).__name__}", remedy="give a map: images by camera name"
        )
    if camera not in images:
        raise ConfigError(
            f"{name} is missing", remedy=did_you_mean(camera, [str(key) for key in images])
        )
    image = _array(images[camera], name)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ConfigError(
            f"{name} is {image.dtype} {image.shape}",
            remedy="give uint8 [height, width, 3], as published in the data set",
        )
    return image


def text(observation: Mapping[str, Any]) -> str:
    """The instruction. Raises `ConfigError` for what is no text."""
    text = _field(observation, "instruction")
    if not isinstance(text, str):
        raise ConfigError(f"instruction has type {type(text).__name__}", remedy="give text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"instruction is not valid text: {error}", remedy="give text") from error
    return text


def proprio(observation: Mapping[str, Any], width: int) -> Float32[np.ndarray, " P"]:
    """The robot's state: `width` finite numbers. Raises `ConfigError` for others."""
    values = _array(_field(observation, "proprio"), "proprio", np.float32)
    if values.shape != (width,) or not np.isfinite(values).all():
        raise ConfigError(
            f"proprio has shape {values.shape}, or is not finite",
            remedy=f"give {width} numbers, ordered as in the data set",
        )
    return values


def codes(
    observation: Mapping[str, Any], camera: str, grid: int, count: int
) -> UInt8[np.ndarray, "h w"]:
    """The depth codes of a camera, for policies that take them. Raises `ConfigError` where they are
    missing, of another grid, or not below `count`."""
    by_camera, name = _field(observation, "codes"), f"codes/{camera}"
    if not isinstance(by_camera, Mapping) or camera not in by_camera:
        raise ConfigError(f"{name} is missing", remedy="give a map: codes by camera name")
    codes = _array(by_camera[camera], name)
    if codes.dtype != np.uint8 or codes.shape != (grid, grid) or codes.max() >= count:
        raise ConfigError(
            f"{name} is {codes.dtype} {codes.shape}",
            remedy=f"give uint8 [{grid}, {grid}], each below {count}",
        )
    return codes
