"""Augmentation: brightness, contrast and saturation; and crops, shared by images and depth.

Stored codes describe the whole image, so a crop needs its depth re-encoded (`crops.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from depthtok.data import ImageTransform

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Box(NamedTuple):
    """A part of an image, as fractions of its height and width: the same at any resolution."""

    top: float
    left: float
    side: float

    @classmethod
    def draw(cls, least_area: float, rng: np.random.Generator) -> Box:
        """A random box with the image's aspect ratio and at least this share of its area."""
        side = float(np.sqrt(rng.uniform(least_area, 1)))
        top, left = rng.uniform(0, 1 - side, 2)
        return cls(float(top), float(left), side)

    def transform(self, shape: tuple[int, int], size: tuple[int, int]) -> ImageTransform:
        """A transform that crops frames of `shape` px to the box and resizes to `size` px."""
        if self == WHOLE:
            return ImageTransform(size=size)
        (top, bottom), (left, right) = (
            (round(start * pixels), round((start + self.side) * pixels))
            for start, pixels in zip((self.top, self.left), shape, strict=True)
        )
        return ImageTransform(size=size, crop=(top, left, bottom - top, right - left))


WHOLE = Box(0.0, 0.0, 1.0)


def photometric(
    image: UInt8[np.ndarray, "H W 3"], strength: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """The image with brightness, contrast and saturation each scaled by a random factor from
    1 - strength to 1 + strength."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3).astype("f4")
    pixels = image.astype(np.float32) * brightness
    grey = pixels @ LUMA
    pixels = grey[..., None] * (1 - saturation) + pixels * saturation
    mean = grey.mean()
    return np.clip((pixels - mean) * contrast + mean + 0.5, 0, 255).astype(np.uint8)
