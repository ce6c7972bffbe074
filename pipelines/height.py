"""The height of a camera above what it looks at, by depth and intrinsics.

A plane is linear in disparity: with u = (x - cx) / fx and v = (y - cy) / fy, the depth z of its
points has 1 / z = a u + b v + c, and it passes the camera at the distance 1 / |(a, b, c)|. So the
plane that fills most of an image tells the scale of its depth, if the true distance is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from depthtok.data import Orientation

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
        cls, intrinsics: Float[np.ndarray, "3 3"], published: tuple[int, int],
        stored: tuple[int, int], orientation: Orientation,
    ) -> Rays:  # fmt: skip
        """From the intrinsics of the upright true view in pixels of the published image, whose
        height and width are squashed into those of the stored depth."""
        v, u = (
            ((np.arange(n) + 0.5) * whole / n - centre) / focal
            for n, whole, centre, focal in zip(
                stored, published, (intrinsics[1, 2], intrinsics[0, 2]),
                (intrinsics[1, 1], intrinsics[0, 0]), strict=True,
            )
        )  # fmt: skip
        if orientation in (Orientation.MIRROR, Orientation.ROTATE180):
            u = u[::-1]
        return cls(u, v[::-1] if orientation is Orientation.ROTATE180 else v)

    @property
    def spans(self) -> tuple[float, float]:
        """Height and width, in metres, of what a metre away fills the image."""
        sides = (self.v, self.u)
        return tuple(float(abs(s[-1] - s[0]) * len(s) / max(len(s) - 1, 1)) for s in sides)


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
