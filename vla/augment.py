"""Photometric augmentation: brightness, contrast and saturation, never where a pixel lies.

Stored codes describe the picture as it was, so geometry must stay.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def photometric(
    image: UInt8[np.ndarray, "H W 3"], strength: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """The image with each of the three drawn from 1 - strength to 1 + strength."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3).astype("f4")
    pixels = image.astype(np.float32) * brightness
    grey = pixels @ LUMA
    pixels = grey[..., None] * (1 - saturation) + pixels * saturation
    mean = grey.mean()
    return np.clip((pixels - mean) * contrast + mean + 0.5, 0, 255).astype(np.uint8)
