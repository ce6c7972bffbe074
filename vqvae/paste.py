"""Augmentation: pastes part of another frame in front, like an obstacle.

Training scenes are few and static, so their edges are always in the same places. A random convex
part of a second crop, about as large as a cell, is moved nearer and shown where it occludes the
first: the depth remains physically plausible, and edges occur in any position, direction and
height. Larger parts, and other augmentations of depth, helped less or did harm
(`docs/results.md`).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

from depthtok.normalisation import HIGH

SIDES = 3, 6  # of the part, minimum and maximum
NEAREST, FARTHEST = 0.25, 1.5  # distance from its centre to each side, cells

Image = Float32[np.ndarray, "c c"]
Mask = Bool[np.ndarray, "c c"]


def paste(
    image: Image,
    valid: Mask,
    other: Image,
    other_valid: Mask,
    cell: int,
    rng: np.random.Generator,
) -> tuple[Image, Mask]:
    """A crop of normalised disparity with a part of `other` in front of it, and its valid mask.

    `cell` is the side of a cell in px: the part is a few cells large.
    """
    part = _convex(image.shape, cell, rng)
    if not part.any():
        return image, valid
    # At most near enough that the part occludes everything behind it.
    nearer = other + np.float32(max(0.0, (image - other)[part].max()) * rng.random())
    shown = part & other_valid & (nearer > image) & (nearer <= HIGH)
    return np.where(shown, nearer, image), valid | shown


def _convex(shape: tuple[int, ...], cell: int, rng: np.random.Generator) -> Mask:
    """A random convex mask: an intersection of half-planes around a random point; may be empty."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    row, column = rng.uniform(0, shape)
    inside = np.ones(shape, bool)
    for _ in range(rng.integers(SIDES[0], SIDES[1] + 1)):
        turn, distance = rng.uniform(0, 2 * np.pi), rng.uniform(NEAREST * cell, FARTHEST * cell)
        inside &= np.cos(turn) * (rows - row) + np.sin(turn) * (columns - column) < distance
    return inside
