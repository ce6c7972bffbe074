"""Augmentation: a part of another frame stands in front, as an obstacle would.

Training scenes are few and still, so their edges lie where they always lie. Of a second crop a
random convex part, about as large as a cell, is brought nearer and shown where it hides what is
behind it: depth stays that of a scene that could be, and edges come in any place, direction and
height. Larger parts, and other changes that depth allows, helped less or did harm
(`docs/results.md`).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

from depthtok.normalisation import HIGH

SIDES = 3, 6  # of the part, fewest and most
NEAREST, FARTHEST = 0.25, 1.5  # from its centre to each side, cells

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
    """A crop of normalised disparity with a part of `other` in front of it, and what is valid.

    `cell` is a cell's side in px: the part is of the size of a few.
    """
    part = _convex(image.shape, cell, rng)
    if not part.any():
        return image, valid
    # At most so near that the part hides all that is behind it.
    nearer = other + np.float32(max(0.0, (image - other)[part].max()) * rng.random())
    shown = part & other_valid & (nearer > image) & (nearer <= HIGH)
    return np.where(shown, nearer, image), valid | shown


def _convex(shape: tuple[int, ...], cell: int, rng: np.random.Generator) -> Mask:
    """What lies inside some random half-planes around a random place; may be empty."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    row, column = rng.uniform(0, shape)
    inside = np.ones(shape, bool)
    for _ in range(rng.integers(SIDES[0], SIDES[1] + 1)):
        turn, distance = rng.uniform(0, 2 * np.pi), rng.uniform(NEAREST * cell, FARTHEST * cell)
        inside &= np.cos(turn) * (rows - row) + np.sin(turn) * (columns - column) < distance
    return inside
