"""A LIBERO scene as the scripted expert sees it: goals, surfaces, and the hand's pose.

This is privileged state that policies never see.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from pipelines.sim.goals import Goal, goals
from pipelines.sim.libero import LiberoSimulator

POINTS = 3000  # sampled on the surface of each object
Points = Float64[np.ndarray, "n 3"]
Point = Float64[np.ndarray, " 3"]


class Scene:
    """Reads the scene of a simulator. Positions are current, in metres, in the world frame."""

    def __init__(self, simulator: LiberoSimulator) -> None:
        self._simulator = simulator
        self._env = simulator.env
        self._local: dict[str, list[tuple[int, Points]]] = {}

    def goals(self) -> list[Goal]:
        """Which object to put where. Raises `ConfigError` if the task needs anything else."""
        return goals(self._simulator.task)

    def hand(self) -> tuple[Point, Float64[np.ndarray, "3 3"]]:
        """Position between the fingertips, and orientation: z points out of the hand, the fingers
        close along x."""
        data, site = self._env.sim.data, self._env.robots[0].eef_site_id
        return data.site_xpos[site].copy(), data.site_xmat[site].reshape(3, 3).copy()

    def position(self, name: str) -> Point:
        """Position of an object, fixture or region, as in the benchmark's success checks."""
        data = self._env.sim.data
        if name in self._env.obj_body_id:
            return data.body_xpos[self._env.obj_body_id[name]].copy()
        return data.get_site_xpos(name).copy()

    def owner(self, target: str) -> str:
        """The object or fixture of a target, which may be a region of it; "" for the table."""
        if target in self._env.obj_body_id:
            return target
        parent = getattr(self._env.object_sites_dict[target], "parent_name", "")
        return parent if parent in self._env.obj_body_id else ""

    def surface(self, name: str) -> Points:
        """Points on the visible surface of an object or fixture."""
        data = self._env.sim.data
        clouds = [
            points @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
            for geom, points in self._points(name)
        ]
        return np.concatenate(clouds) if clouds else np.empty((0, 3))

    def others(self, *names: str) -> Points:
        """Surfaces of everything except `names`: the obstacles."""
        clouds = [self.surface(name) for name in self._env.obj_body_id if name not in names]
        return np.concatenate(clouds) if clouds else np.empty((0, 3))

    def _points(self, name: str) -> list[tuple[int, Points]]:
        """Points on every visible mesh of an object, in the frame of that mesh's geom."""
        if name not in self._local:
            geoms = list(self._geoms(self._env.obj_body_id[name]))
            rng = np.random.default_rng(0)
            count = POINTS // max(len(geoms), 1)
            self._local[name] = [(geom, self._on_mesh(geom, count, rng)) for geom in geoms]
        return self._local[name]

    def _geoms(self, root: int) -> Iterator[int]:
        """Visible meshes of a body and all bodies below it."""
        import mujoco

        model = self._env.sim.model
        below = {root}
        for body in range(root + 1, model.nbody):
            if model.body_parentid[body] in below:
                below.add(body)
        for geom in range(model.ngeom):
            mesh = model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH
            if mesh and model.geom_group[geom] == 1 and model.geom_bodyid[geom] in below:
                yield geom

    def _on_mesh(self, geom: int, count: int, rng: np.random.Generator) -> Points:
        """Points sampled uniformly on a mesh's triangles, in the geom's frame."""
        model = self._env.sim.model
        mesh = model.geom_dataid[geom]
        start, size = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        vertices = model.mesh_vert[start : start + size].astype(np.float64)
        start, size = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        a, b, c = (vertices[model.mesh_face[start : start + size, k]] for k in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        chosen = rng.choice(len(area), count, p=area / area.sum())
        u, v = rng.random((2, count, 1))
        u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
        return a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]
