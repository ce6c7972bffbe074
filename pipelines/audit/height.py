"""The height of a camera above what it looks at, by depth and intrinsics.

A plane is linear in disparity: with u = (x - cx) / fx and v = (y - cy) / fy, the depth z of its
points has 1 / z = a u + b v + c, and it passes the camera at the distance 1 / |(a, b, c)|. So the
plane that fills most of an image tells the scale of its depth, if the true distance is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from depthtok.orientation import Orientation

WITHIN = 0.01  # relative depth from a plane at which a point lies on it
POINTS = 4000  # looked at, of one frame
TRIES = 200
FEWEST = 0.15  # share of the points that a plane must hold to be one


@dataclass(frozen=True)
class Rays:
    """Where the pixels of stored depth look: u and v of every column and row."""

    u: Float[np.ndarray, " W"]
    v: Float[np.ndarray, " H"]

    @classmethod
    def of(
        cls,
        intrinsics: Float[np.ndarray, "3 3"],
        published: tuple[int, int],
        stored: tuple[int, int],
        orientation: Orientation,
    ) -> Rays:
        """From the intrinsics of the upright true view in pixels of the published image, whose
        height and width are squashed into those of the stored depth."""

        def slopes(axis: int, pixels: int, published_pixels: int) -> Float[np.ndarray, " n"]:
            centre, focal = intrinsics[axis, 2], intrinsics[axis, axis]
            return ((np.arange(pixels) + 0.5) * published_pixels / pixels - centre) / focal

        v, u = slopes(1, stored[0], published[0]), slopes(0, stored[1], published[1])
        u = u[::-1] if orientation.swaps_sides else u
        return cls(u, v[::-1] if orientation.is_upside_down else v)

    def spans_at(self, metres: float) -> tuple[float, float]:
        """Height and width, in metres, of what fills the image at this distance."""
        height, width = (
            float(abs(side[-1] - side[0]) * len(side) / max(len(side) - 1, 1)) * metres
            for side in (self.v, self.u)
        )
        return height, width


def distance(
    disparity: Float[np.ndarray, "H W"], valid: Bool[np.ndarray, "H W"], rays: Rays
) -> float | None:
    """Metres from the camera to the plane that most points of a frame lie on; None if there is no
    such plane. RANSAC with a fixed seed, then least squares over the points on it."""
    y, x = np.nonzero(valid)
    step = max(1, len(y) // POINTS)
    y, x = y[::step], x[::step]
    if len(y) < 3:
        return None
    terms = np.stack([rays.u[x], rays.v[y], np.ones(len(x))], axis=1)
    inverse = disparity[y, x].astype(np.float64)
    best = np.zeros(len(y), bool)
    for three in np.random.default_rng(0).integers(len(y), size=(TRIES, 3)):
        if abs(np.linalg.det(terms[three])) > 1e-9:
            on = _near(terms @ np.linalg.solve(terms[three], inverse[three]), inverse)
            best = on if on.sum() > best.sum() else best
    if best.sum() < max(3, FEWEST * len(y)):
        return None
    plane = np.linalg.lstsq(terms[best], inverse[best], rcond=None)[0]
    return float(1 / np.linalg.norm(plane))


def _near(
    plane: Float[np.ndarray, " n"], inverse: Float[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    return np.abs(plane / inverse - 1) < WITHIN
