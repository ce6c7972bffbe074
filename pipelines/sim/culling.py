"""Geometry that cannot be seen is not drawn: the same pixels for less.

MuJoCo draws every geometry that is shown, wherever the camera looks. What lies outside of its view
is left out here, if no mirror can show it either and no light casts shadows. Everything is judged
by boxes around the geometries, so that what might be seen is always drawn.
"""

# G geometries, R mirrors

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np
from jaxtyping import Bool, Float64

HIDDEN = 5  # a group of geometries that nothing shows
SLACK_M = 0.002
SLACK_PX = 2.0  # beyond the picture's edge


class Culling:
    """Hides what a camera of a model cannot see, while it is drawn. `options` are those that the
    model is drawn with (an `mjvOption`)."""

    def __init__(self, model, data, options) -> None:
        import mujoco

        self._model, self._data = model, data
        kinds = mujoco.mjtGeom
        shown = np.asarray(options.geomgroup, bool)[model.geom_group]
        self._flat = np.isin(model.geom_type, [kinds.mjGEOM_PLANE, kinds.mjGEOM_HFIELD])
        centre, half = model.geom_aabb[:, None, :3], model.geom_aabb[:, None, 3:]
        self._corners = centre + half * np.array(list(product((-1, 1), repeat=3)))
        materials = model.geom_matid
        reflects = (materials >= 0) & (model.mat_reflectance[materials] > 0)
        boxes = model.geom_type == kinds.mjGEOM_BOX
        self._mirrors = np.flatnonzero(
            reflects & shown & (boxes | (model.geom_type == kinds.mjGEOM_PLANE))
        )
        self._box = boxes[self._mirrors]
        shadows = model.light_castshadow.astype(bool) & model.light_active.astype(bool)
        self._possible = not (shadows.any() or options.geomgroup[HIDDEN])

    @contextmanager
    def of(self, camera: int, size: int) -> Iterator[None]:
        """Within the block only what this camera might see is shown, in pictures `size` px wide
        and high."""
        if not self._possible:
            yield
            return
        groups = self._model.geom_group.copy()
        self._model.geom_group[~self._seen(camera, size)] = HIDDEN
        try:
            yield
        finally:
            self._model.geom_group[:] = groups

    def _seen(self, camera: int, size: int) -> Bool[np.ndarray, " G"]:
        """What might be in the picture, directly or in a mirror."""
        eye, axes = self._data.cam_xpos[camera], self._data.cam_xmat[camera].reshape(3, 3)
        slope = np.tan(np.radians(self._model.cam_fovy[camera]) / 2) * (1 + 2 * SLACK_PX / size)
        turned = self._data.geom_xmat.reshape(-1, 3, 3)
        places = np.einsum("gkj,gij->gki", self._corners, turned) + self._data.geom_xpos[:, None]
        sides = _SIDES * [1, 1, slope] @ axes.T
        visible = self._flat | _within(places - eye, sides)
        for number, box in zip(self._mirrors, self._box, strict=True):
            right, ahead, normal = turned[number].T
            face, (width, depth, height) = (
                self._data.geom_xpos[number],
                self._model.geom_size[number],
            )
            if box:
                face = face + normal * height  # its upper side
            above = (places - face) @ normal
            images = places - 2 * above[..., None] * normal - eye
            shown = (above > -SLACK_M).any(axis=1) & _within(images, sides)
            if box:
                across, along = right * (width + SLACK_M), ahead * (depth + SLACK_M)
                edge = (
                    face - eye + [across + along, across - along, -across - along, along - across]
                )
                shown &= _within(images, _pyramid(edge))
            visible |= shown
        return visible


_SIDES = np.array([[1, 0, 1], [-1, 0, 1], [0, 1, 1], [0, -1, 1], [0, 0, 1]], np.float64)
"""Normals of a view's sides and back, outwards, along -z and of slope 1."""


def _within(
    places: Float64[np.ndarray, "G 8 3"], outwards: Float64[np.ndarray, "n 3"]
) -> Bool[np.ndarray, " G"]:
    """Whether boxes, by their corners, reach inside of planes through the origin: false only where
    one plane has a box outside of it whole."""
    lengths = np.linalg.norm(outwards, axis=1)
    return ~(places @ outwards.T > SLACK_M * lengths).all(axis=1).any(axis=1)


def _pyramid(edge: Float64[np.ndarray, "4 3"]) -> Float64[np.ndarray, "n 3"]:
    """Planes through the origin and the sides of a rectangle, given by its corners in order; none
    where it is seen from within its own plane."""
    normals = np.cross(edge, np.roll(edge, -1, axis=0))
    signs = np.sign(normals @ edge.mean(axis=0))
    return -(signs[:, None] * normals) if signs.all() else np.zeros((0, 3))
