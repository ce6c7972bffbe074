"""Depth and codes as colour images."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8

from depthtok.data import DepthKind

INVALID = (128, 128, 128)  # a grey that is not in the colour map


def colourise(
    values: Float[np.ndarray, "*T H W"],
    kind: DepthKind,
    lo: float,
    hi: float,
    valid: Bool[np.ndarray, "*T H W"] | None = None,
) -> UInt8[np.ndarray, "*T H W 3"]:
    """Depth in colour, with the colour map from `lo` to `hi` (same unit as `values`): warm is near.

    This holds for every kind: large disparity and small distances are red. Values outside are
    clipped. Pixels that are not finite, distances not above 0, or not `valid` are grey.
    """
    good = np.isfinite(values)
    if kind.is_depth:
        good &= values > 0
    if valid is not None:
        good &= valid
    smallest = np.finfo(np.float32).tiny
    span = smallest if smallest > hi - lo else hi - lo
    nearness = (np.where(good, values, lo) - lo) / span
    if kind.is_depth:
        nearness = 1 - nearness
    levels = np.rint(255 * np.clip(nearness, 0, 1)).astype(np.uint8)
    return np.where(good[..., None], _turbo()[levels], np.array(INVALID, np.uint8))


def code_picture(codes: UInt8[np.ndarray, "h w"], cell: int = 8) -> UInt8[np.ndarray, "H W 3"]:
    """Codes as a mosaic of `cell` px squares: one colour per code, the same in every image.

    Codes have no order, so close numbers get distinct colours.
    """
    return np.kron(code_colours()[codes], np.ones((cell, cell, 1), np.uint8))


def ramp(number: int) -> UInt8[np.ndarray, "n 3"]:
    """Colours from the coldest to the warmest, evenly spaced."""
    return _turbo()[np.rint(np.linspace(0, 255, number)).astype(int)]


@cache
def _turbo() -> UInt8[np.ndarray, "256 3"]:
    from matplotlib import colormaps

    return np.rint(255 * colormaps["turbo"](np.arange(256))[:, :3]).astype(np.uint8)


@cache
def code_colours() -> UInt8[np.ndarray, "256 3"]:
    """256 colours of OKLCH: hues by the golden ratio on five levels of lightness."""
    number = np.arange(256)
    lightness = 0.42 + 0.12 * (number * 3 % 5)
    hue = 2 * np.pi * (number * 0.6180339887 % 1)
    a, b = 0.11 * np.cos(hue), 0.11 * np.sin(hue)
    return _oklab_to_srgb(np.stack([lightness, a, b], -1))


def _oklab_to_srgb(lab: Float[np.ndarray, "n 3"]) -> UInt8[np.ndarray, "n 3"]:
    """OKLab (Ottosson 2020) to 8-bit sRGB, clipped to its gamut."""
    to_cones = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((lab @ to_cones.T) ** 3 @ to_linear.T, 0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * curve).astype(np.uint8)
