"""LIBERO as a `Simulator`: one task, its scene, both cameras, its own success check.

    simulator = LiberoSimulator(task("libero_object", 0), size=256)
    simulator.vary(replace(simulator.task, variation=...))      # another camera, robot start, noise

MuJoCo's frames have the bottom row first. Published data sets use `raw[::-1, ::-1]`, described as
"rotated by 180 degrees": relative to the camera's view it is mirrored left to right. Images, depth
and segmentation here are in that form; `lens` is for the true view, as everywhere in the toolkit.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from depthtok.errors import ConfigError, SourceError
from depthtok.meaning import Column, Meaning
from pipelines.sim.culling import Culling
from pipelines.sim.noise import noisy
from pipelines.sim.perturb import moved
from pipelines.sim.setup import control_env, prepare
from pipelines.sim.simulator import CLASSES, CameraView, Lens, Task
from pipelines.sim.substeps import Substeps
from pipelines.sim.suites import SETTLE_STEPS, definition, init_states

CAMERAS = {"image": "agentview", "wrist_image": "robot0_eye_in_hand"}  # ours -> MuJoCo's
IDLE = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)  # no motion, gripper open
FPS = 20  # control steps per second
_POSE = ("x", "y", "z", "rx", "ry", "rz")
_STATE_UNITS = dict.fromkeys(_POSE[:3], "m") | dict.fromkeys(_POSE[3:], "rad")
_STATE_UNITS |= {"finger_left": "m", "finger_right": "m"}
MEANING = Meaning(
    (*(Column(name, "delta", "1") for name in _POSE), Column("gripper", "absolute", "1")),
    tuple(Column(name, "absolute", unit) for name, unit in _STATE_UNITS.items()),
    "open-1_closed1",
    float(FPS),
)
"""What the robot takes and tells: as the shipped schemas of LIBERO's data sets name it."""
ROBOT, GRIPPER, OBJECT, FIXTURE = (CLASSES.index(name) for name in CLASSES[1:])
NEVER = 10**9  # steps before robosuite ends an episode; time limits are set elsewhere


class LiberoSimulator:
    """One task of LIBERO. Frames are `size` px squares; an episode begins with `settle_steps` idle
    actions. Raises `MissingPackage`."""

    idle, meaning = IDLE, MEANING

    def __init__(self, task: Task, size: int = 256, settle_steps: int = SETTLE_STEPS) -> None:
        prepare()
        from pipelines.sim.contexts import hold, release

        release()  # those of simulators that nobody closed
        self.task, self.size, self._settle_steps = task, size, settle_steps
        self.cameras = tuple(CAMERAS)
        self.env = control_env()(
            bddl_file_name=str(definition(task)),
            use_camera_obs=False,
            has_offscreen_renderer=True,
            control_freq=FPS,
            horizon=NEVER,
            ignore_done=True,
            hard_reset=False,
        ).env
        self.env._observables.clear()  # would be computed 25 times per step, unused
        self._scene = ElementTree.tostring(self.env.model.root, encoding="unicode")
        self._classes = self._classify()
        self._official: Float64[np.ndarray, "n S"] | None = None
        sim = self.env.sim
        self._substeps = Substeps(sim)
        context = sim._render_context_offscreen
        context.render(size, size)  # it makes its buffers larger where they are too small
        hold(context, context.gl_ctx, context.con)
        self._culling = Culling(sim.model._model, sim.data._data, context.vopt)
        self._main = sim.model.camera_name2id(CAMERAS["image"])
        self._usual_pose = (
            sim.model.cam_pos[self._main].copy(),
            sim.model.cam_quat[self._main].copy(),
        )
        self._usual_start = np.array(self.env.robots[0].init_qpos)
        self._seed, self._steps = 0, 0  # of this episode, for the noise on pictures
        self.vary(task)

    def vary(self, task: Task) -> None:
        """Becomes a variation of the same task, from the next reset on. (The view changes at once:
        a state can be rendered from several.)"""
        if task.world != self.task.world:
            raise ValueError(f"{task} is not a variation of {self.task}")
        self.task = task
        view, start = task.variation.view, task.variation.start
        model, (position, quaternion) = self.env.sim.model, self._usual_pose
        if view is not None:
            position, quaternion = moved(position, quaternion, view)
        model.cam_pos[self._main], model.cam_quat[self._main] = position, quaternion
        self.env.sim.forward()
        # A reset puts the joints there, and the controller prefers them to others.
        self.env.robots[0].init_qpos = np.array(start.joints) if start else self._usual_start

    def reset(self, seed: int, init_state: int | None = None) -> None:
        """Draws placements by the benchmark's sampler from `seed`, then settles.

        With `init_state` the objects are placed as in that official initial state; the positions of
        fixtures (cabinet, stove) are still drawn from `seed`, because those states lack them. The
        sampler uses numpy's global generator, which is restored afterwards.
        """
        global_state = np.random.get_state()  # noqa: NPY002
        # A reset keeps from the last episode: the fixtures' positions (objects on them are drawn
        # around their positions in the scene's XML), and the gripper's command.
        self.place_fixtures(self._scene)
        gripper = self.env.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)
        self._seed, self._steps = seed, 0
        try:
            self.env.seed(seed)
            self._draw()
        finally:
            np.random.set_state(global_state)  # noqa: NPY002
        if init_state is not None:
            self.place(self._init_state(init_state))
        for _ in range(self._settle_steps):
            self.step(self.idle)

    def _draw(self) -> None:
        from robosuite.utils.errors import RandomizationError

        for _ in range(100):
            try:
                self.env.reset()
                return
            except RandomizationError:  # no room for an object; draw again
                continue
        raise ConfigError(f"{self.task}: no placement was found", remedy="give another seed")

    def _init_state(self, number: int) -> Float64[np.ndarray, " S"]:
        if self._official is None:
            self._official = init_states(self.task)
        if not 0 <= number < len(self._official):
            raise ConfigError(
                f"{self.task} has no initial state {number}",
                remedy=f"give 0 to {len(self._official) - 1}",
            )
        return self._official[number]

    def step(self, action: Float32[np.ndarray, " 7"]) -> bool:
        """One control step of 50 ms."""
        with self._substeps.once():
            _, _, done, _ = self.env.step(np.asarray(action, np.float64))
        self._steps += 1
        return bool(done)

    def proprio(self) -> Float32[np.ndarray, " 8"]:
        """Position of the end effector (m), its orientation as axis-angle (rad), both fingers (m).

        The angle is in [0, 2 pi], as in LIBERO's data sets, not the shortest one.
        """
        robot, data = self.env.robots[0], self.env.sim.data
        position = data.site_xpos[robot.eef_site_id]
        w, *axis = data.get_body_xquat(robot.robot_model.eef_name)
        sine = np.sqrt(max(1 - min(w * w, 1.0), 0))
        angle = 2 * np.arccos(np.clip(w, -1, 1))
        rotation = np.asarray(axis) * (angle / sine if sine > 1e-9 else 0.0)
        fingers = data.qpos[robot._ref_gripper_joint_pos_indexes]
        return np.concatenate([position, rotation, fingers]).astype(np.float32)

    def joints(self) -> Float32[np.ndarray, " 7"]:
        robot = self.env.robots[0]
        return self.env.sim.data.qpos[robot._ref_joint_pos_indexes].astype(np.float32)

    def render(self, camera: str, *, segmentation: bool = False) -> CameraView:
        raw, buffer = self._pixels(camera)
        if camera == self.cameras[0] and self.task.variation.noise:
            raw = noisy(raw, self.task.variation.noise, [self._seed, self._steps])
        view = raw[::-1, ::-1], self._metres(buffer)[::-1, ::-1]
        if not segmentation:
            return CameraView(*map(np.ascontiguousarray, view))
        ids, _ = self._pixels(camera, segmentation=True)
        return CameraView(*map(np.ascontiguousarray, (*view, self._classed(ids)[::-1, ::-1])))

    def _pixels(self, camera: str, *, segmentation: bool = False) -> tuple[Any, Any]:
        """RGB (or type and id of the visible object) and the depth buffer, bottom row first."""
        context = self.env.sim._render_context_offscreen
        number = self.env.sim.model.camera_name2id(CAMERAS[camera])
        context.gl_ctx.make_current()
        with self._culling.of(number, self.size):
            context.render(self.size, self.size, number, segmentation)
        return context.read_pixels(self.size, self.size, depth=True, segmentation=segmentation)

    def _metres(self, buffer: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
        """The depth buffer, 1/z scaled to [0, 1], as distance along the optical axis."""
        near, far = self.clip_planes
        return (near / (1 - buffer.astype(np.float64) * (1 - near / far))).astype(np.float32)

    @property
    def clip_planes(self) -> tuple[float, float]:
        """The near and far clip planes (m)."""
        model = self.env.sim.model
        return (
            float(model.vis.map.znear * model.stat.extent),
            float(model.vis.map.zfar * model.stat.extent),
        )

    def _classed(self, ids: Int32[np.ndarray, "H W 2"]) -> UInt8[np.ndarray, "H W"]:
        import mujoco

        geoms = np.where(ids[..., 0] == mujoco.mjtObj.mjOBJ_GEOM, ids[..., 1], -1)
        return self._classes[geoms]  # -1 (nothing) is the last entry

    def _classify(self) -> UInt8[np.ndarray, " n"]:
        """The class of every geom, with that of nothing at the end."""
        model, env = self.env.sim.model, self.env
        roots = {env.obj_body_id[name]: OBJECT for name in env.objects_dict}
        roots |= {env.obj_body_id[name]: FIXTURE for name in env.fixtures_dict}
        bodies = np.zeros(model.nbody, np.uint8)
        for body in range(1, model.nbody):  # parents come before their children
            name = model.body_id2name(body) or ""
            number = roots.get(body, 0)
            number = number or (ROBOT if name.startswith(("robot0", "mount0")) else 0)
            number = GRIPPER if name.startswith("gripper0") else number
            bodies[body] = number or bodies[model.body_parentid[body]]
        return np.append(bodies[model.geom_bodyid], np.uint8(0))

    def lens(self, camera: str) -> Lens:
        model, data = self.env.sim.model, self.env.sim.data
        number = model.camera_name2id(CAMERAS[camera])
        focal = self.size / 2 / np.tan(np.radians(model.cam_fovy[number]) / 2)
        intrinsics = np.array(
            [[focal, 0, self.size / 2], [0, focal, self.size / 2], [0, 0, 1]], np.float64
        )
        pose = np.eye(4)
        pose[:3, :3] = data.cam_xmat[number].reshape(3, 3) * [1, -1, -1]  # OpenGL to OpenCV axes
        pose[:3, 3] = data.cam_xpos[number]
        return Lens(intrinsics, pose)

    def save(self) -> Float64[np.ndarray, " S"]:
        """Time, positions and velocities: LIBERO's own state format."""
        return self.env.sim.get_state().flatten()

    def restore(self, state: Float64[np.ndarray, " S"]) -> None:
        """Restores a state for rendering. The controller's goals and the solver's warm start are
        not in a state, so continuing from here does not exactly repeat what happened."""
        self.env.sim.set_state_from_flattened(np.asarray(state, np.float64))
        self.env.sim.forward()

    def place_fixtures(self, scene: str) -> None:
        """Places the fixtures as in a scene's XML. Raises `SourceError` if it is not valid XML."""
        try:
            bodies = {body.get("name"): body for body in ElementTree.fromstring(scene).iter("body")}
        except ElementTree.ParseError as error:
            raise SourceError(
                f"{self.task}: the scene is not valid XML ({error})", remedy="download it again"
            ) from error
        model = self.env.sim.model
        for fixture in self.env.fixtures_dict.values():
            body, number = bodies.get(fixture.root_body), model.body_name2id(fixture.root_body)
            if body is not None:
                model.body_pos[number] = _numbers(body.get("pos", "0 0 0"))
                model.body_quat[number] = _numbers(body.get("quat", "1 0 0 0"))

    def place(self, state: Float64[np.ndarray, " S"]) -> None:
        """Starts an episode at a state, right after a reset. A state has the robot's joints too:
        those of a varied start replace them, or nothing would be left of it. Raises `ConfigError`
        for a state of another scene."""
        expected = 1 + self.env.sim.model.nq + self.env.sim.model.nv
        if len(state) != expected:
            raise ConfigError(
                f"{self.task}: the state has {len(state)} numbers, the scene {expected}",
                remedy="the state is from another task, or another version of LIBERO",
            )
        if (start := self.task.variation.start) is not None:
            joints = np.asarray(self.env.robots[0]._ref_joint_pos_indexes)
            state = np.array(state)
            state[1 + joints] = start.joints  # after the time
        self.restore(state)
        self.env._check_success()
        self.env._post_process()

    def close(self) -> None:
        from pipelines.sim.contexts import release

        self.env.close()
        release()


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]
