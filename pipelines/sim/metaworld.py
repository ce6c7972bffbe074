"""Meta-World as a `Simulator`: one of its fifty tasks, two of its cameras, its own success check.

Starts are made repeatable: the package's `reset(seed=...)` does not fix them, a task of `MT1` does.
The main camera, corner2, hangs upside down; it is turned by 180 degrees here, with its pose, so
that images and `lens` are of one upright view.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from depthtok.errors import ConfigError
from depthtok.meaning import Column, Meaning
from pipelines.sim.setup import prepare
from pipelines.sim.simulator import CLASSES, CameraView, Lens, Task

EXTRA = "metaworld"
CAMERAS = {"image": "corner2", "wrist_image": "gripperPOV"}  # ours -> Meta-World's
UPSIDE_DOWN = ("corner2",)
IDLE = np.array([0, 0, 0, -1], np.float32)  # no motion, gripper open, as in the package's resets
SEED = 0  # of the official starts: MT1(name, seed=0)
STARTS = 50  # of a task
NEVER = 10**9  # steps before the package ends an episode; time limits are set elsewhere
OPEN_M = 0.1  # between the fingers, when open
MEANING = Meaning(
    (*(Column(name, "delta", "1") for name in "xyz"), Column("effort", "absolute", "1")),
    (*(Column(name, "absolute", "m") for name in "xyz"), Column("opening", "absolute", "1")),
    "none",  # its fingers are driven by a force, which is no command to open or close
    80.0,
)
ROBOT, GRIPPER, OBJECT, FIXTURE = (CLASSES.index(name) for name in CLASSES[1:])
_BACKGROUND = ("world", "tablelink", "RetainingWall")


@cache
def official_starts(name: str) -> tuple[bytes, ...]:
    """The package's 50 starts of a task, each the data of a `metaworld.Task`; the same in every
    process."""
    prepare(EXTRA)
    import metaworld

    return tuple(start.data for start in metaworld.MT1(name, seed=SEED).train_tasks)


def drawn(start: bytes) -> Float64[np.ndarray, " n"]:
    """The numbers that a start was drawn as: positions of object and goal (m), by task."""
    return np.asarray(pickle.loads(start)["rand_vec"], np.float64)


class MetaworldSimulator:
    """One task of Meta-World. Frames are `size` px squares; an episode begins with `settle_steps`
    idle actions. Raises `MissingPackage`."""

    idle, meaning = IDLE, MEANING

    def __init__(self, task: Task, size: int, settle_steps: int) -> None:
        prepare(EXTRA)
        import metaworld
        import mujoco

        from pipelines.sim.contexts import Renderer, release

        release()  # those of simulators that nobody closed
        self.task, self.size, self._settle_steps = task, size, settle_steps
        self.cameras = tuple(CAMERAS)
        self.env = metaworld.ALL_V3_ENVIRONMENTS[task.name]()
        self.env.max_path_length = NEVER
        self._renderer = Renderer(self.env.model, size)
        state = mujoco.mjtState
        self._stored = int(
            state.mjSTATE_FULLPHYSICS | state.mjSTATE_MOCAP_POS | state.mjSTATE_MOCAP_QUAT
        )
        self._classes = self._classify()
        self.observation = np.zeros(0)  # what the package's scripted policies look at

    def vary(self, task: Task) -> None:
        """Becomes the same task: there are no variations."""
        if (task.name, task.variation.name) != (self.task.name, ""):
            raise ValueError(f"{task} is not a variation of {self.task}")
        self.task = task

    def reset(self, seed: int, init_state: int | None = None) -> None:
        """Draws positions as the benchmark does, from `seed`, or takes its start `init_state`.
        Raises `ConfigError` where it has no such start."""
        from metaworld.types import Task as Start

        starts = official_starts(self.task.name)
        if init_state is not None and not 0 <= init_state < len(starts):
            raise ConfigError(
                f"{self.task} has no initial state {init_state}",
                remedy=f"give 0 to {len(starts) - 1}",
            )
        self.env.set_task(Start(self.task.name, starts[init_state or 0]))
        if init_state is None:
            self.env._freeze_rand_vec, self.env.seeded_rand_vec = False, True
            self.env.seed(seed)
            self.env.reset()
            self.env._freeze_rand_vec = True  # what it has drawn last
        self.observation, _ = self.env.reset()
        for _ in range(self._settle_steps):
            self.step(self.idle)

    def step(self, action: Float32[np.ndarray, " 4"]) -> bool:
        """One control step of 12.5 ms."""
        clipped = np.clip(np.asarray(action, np.float64), -1, 1)
        self.observation, _, _, _, about = self.env.step(clipped)
        return bool(about["success"])

    def proprio(self) -> Float32[np.ndarray, " 4"]:
        """Position of the hand (m), and how far the gripper is open (0 to 1): `obs[:4]`."""
        data = self.env.data
        gap = np.linalg.norm(data.body("rightclaw").xpos - data.body("leftclaw").xpos)
        opening = np.clip(gap / OPEN_M, 0, 1)
        return np.array([*self.env.get_endeff_pos(), opening], np.float32)

    def joints(self) -> Float32[np.ndarray, " 7"]:
        return self.env.data.qpos[:7].astype(np.float32)

    def render(self, camera: str, *, segmentation: bool = False) -> CameraView:
        renderer, name = self._renderer, CAMERAS[camera]
        turn = slice(None, None, -1 if name in UPSIDE_DOWN else 1)
        renderer.update_scene(self.env.data, camera=name)
        frames = [renderer.render()]
        renderer.enable_depth_rendering()
        frames.append(renderer.render().astype(np.float32))
        renderer.disable_depth_rendering()
        if segmentation:
            renderer.enable_segmentation_rendering()
            frames.append(self._classed(renderer.render()))
            renderer.disable_segmentation_rendering()
        return CameraView(*(np.ascontiguousarray(frame[turn, turn]) for frame in frames))

    def _classed(self, ids: np.ndarray) -> UInt8[np.ndarray, "H W"]:
        import mujoco

        geoms = np.where(ids[..., 1] == mujoco.mjtObj.mjOBJ_GEOM, ids[..., 0], -1)
        return self._classes[geoms]  # -1 (nothing) is the last entry

    def _classify(self) -> UInt8[np.ndarray, " n"]:
        """The class of every geom, with that of nothing at the end. What has a joint is movable."""
        model = self.env.model
        bodies = np.zeros(model.nbody, np.uint8)
        for number in range(1, model.nbody):  # parents come before their children
            body, parent = model.body(number), bodies[model.body_parentid[number]]
            if body.name in ("base", "mocap"):
                bodies[number] = ROBOT
            elif body.name == "hand" or parent == GRIPPER:
                bodies[number] = GRIPPER
            elif parent in (ROBOT, OBJECT):
                bodies[number] = parent
            elif body.name not in _BACKGROUND:
                bodies[number] = OBJECT if model.body_jntnum[number] else FIXTURE
        return np.append(bodies[model.geom_bodyid], np.uint8(0))

    @property
    def clip_planes(self) -> tuple[float, float]:
        """The near and far clip planes (m)."""
        model = self.env.model
        extent = model.stat.extent
        return float(model.vis.map.znear * extent), float(model.vis.map.zfar * extent)

    def lens(self, camera: str) -> Lens:
        model, data, name = self.env.model, self.env.data, CAMERAS[camera]
        number = model.camera(name).id
        half = self.size / 2
        focal = half / np.tan(np.radians(model.cam_fovy[number]) / 2)
        pose = np.eye(4)
        upright = [-1, 1, -1] if name in UPSIDE_DOWN else [1, -1, -1]  # OpenGL to OpenCV axes
        pose[:3, :3] = data.cam_xmat[number].reshape(3, 3) * upright
        pose[:3, 3] = data.cam_xpos[number]
        return Lens(np.array([[focal, 0, half], [0, focal, half], [0, 0, 1]]), pose)

    def save(self) -> Float64[np.ndarray, " S"]:
        """Time, positions, velocities, and where the hand is drawn to."""
        import mujoco

        state = np.empty(mujoco.mj_stateSize(self.env.model, self._stored))
        mujoco.mj_getState(self.env.model, self.env.data, state, self._stored)
        return state

    def restore(self, state: Float64[np.ndarray, " S"]) -> None:
        """Restores a state of this episode for rendering: fixtures stay as the last reset put
        them."""
        import mujoco

        mujoco.mj_setState(self.env.model, self.env.data, np.asarray(state), self._stored)
        mujoco.mj_forward(self.env.model, self.env.data)

    def close(self) -> None:
        from pipelines.sim.contexts import release

        self._renderer.close()
        self.env.close()
        release()


def scripted(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The package's policy for a task: `observation` [39] -> action [4], unclipped."""
    prepare(EXTRA)
    from metaworld.policies import ENV_POLICY_MAP
    from metaworld.policies.policy import Policy

    make: Callable[[], Policy] = ENV_POLICY_MAP[name]
    policy = make()

    def act(observation: Float64[np.ndarray, " 39"]) -> Float32[np.ndarray, " 4"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it will be clipped
            return np.clip(policy.get_action(observation), -1, 1).astype(np.float32)

    return act
