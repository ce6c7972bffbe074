"""One trial of a policy in a simulator, under the usual protocol.

It starts from the benchmark's initial state, with idle steps until everything is at rest. Then the
policy is queried for a chunk of actions, the first `replan_steps` of which are executed open loop,
and so on until the task is done or the suite's step limit is reached. Images are only rendered when
the policy is queried, and only those that it looks at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, UInt8

from depthtok.errors import ConfigError
from depthtok.stores.agreement import for_robot
from pipelines.sim.simulator import CameraView, Simulator


@runtime_checkable
class Player(Protocol):
    """Anything that acts: `vla.serving.policy.Policy`, a server, a test double. It may have the
    attributes `cameras`, the names of those that it looks at, `meaning`, of its actions,
    `wants_depth`, to be given their true depth (`depth_m`, float32 [H W] by camera), and `judged`,
    the one of its cameras whose true depth it is held against."""

    def reset(self, seed: int) -> None:
        """Starts a trial; the same seed and observations give the same actions."""
        ...

    def act(self, observation: Mapping[str, Any]) -> Float[np.ndarray, "C A"]:
        """A chunk of actions for `images` (uint8 [H W 3] by camera), `proprio`, `instruction`."""
        ...


@dataclass(frozen=True)
class Trial:
    """The setup of a trial: its official initial state, and the random seed."""

    number: int
    seed: int
    max_steps: int
    replan_steps: int
    init_state: int | None = None  # None: that of its own number
    action_noise: float = 0.0  # standard deviation, on the xyz action

    @property
    def state(self) -> int:
        """The number of the official initial state."""
        return self.number if self.init_state is None else self.init_state


@dataclass
class Rollout:
    """The result of a trial. `frames` and `depth_m` are of `camera` (the judged one, else the main
    one), one per plan and, where the end was rendered, one at the end; a judge may add `panels`:
    rows of images, one per plan."""

    success: bool = False
    steps: int = 0
    plans: int = 0
    frames: list[UInt8[np.ndarray, "H W 3"]] = field(default_factory=list)
    depth_m: list[Float32[np.ndarray, "H W"]] = field(default_factory=list)
    panels: list[list[UInt8[np.ndarray, "H W 3"]]] = field(default_factory=list)
    camera: str = ""

    def see(self, view: CameraView) -> None:
        """Keeps what its camera sees."""
        self.frames.append(view.rgb)
        self.depth_m.append(view.depth_m)


def observe(
    simulator: Simulator, cameras: Collection[str], filmed: str
) -> tuple[dict[str, Any], dict[str, CameraView]]:
    """The policy's current observation by these cameras, and what they and the filmed one see (with
    true depth)."""
    views = {
        camera: simulator.render(camera)
        for camera in simulator.cameras
        if camera in cameras or camera == filmed
    }
    observation = {
        "images": {camera: view.rgb for camera, view in views.items() if camera in cameras},
        "proprio": simulator.proprio(),
        "instruction": simulator.task.instruction,
    }
    return observation, views


def play(
    simulator: Simulator,
    player: Player,
    trial: Trial,
    accepted: Collection[str] = (),
    end: bool = True,
) -> Rollout:
    """Runs one trial, with the gripper in the simulator's convention. `end` renders how it ends.

    Raises `ConfigError` for invalid actions, for a player that looks at a camera that there is not,
    and for one whose `meaning` is not the simulator's, but for the `accepted` aspects; a player
    without that attribute speaks the simulator's.
    """
    meaning = getattr(player, "meaning", simulator.meaning)
    change = for_robot(meaning, simulator.meaning, accepted)
    cameras = _cameras(player, simulator)
    simulator.reset(trial.seed, trial.state)
    player.reset(trial.seed)
    rollout = Rollout(camera=getattr(player, "judged", simulator.cameras[0]))
    noise = np.random.default_rng([trial.seed, *b"action noise"])
    plan: list[Float32[np.ndarray, " A"]] = []
    while rollout.steps < trial.max_steps and not rollout.success:
        if not plan:
            observation, views = observe(simulator, cameras, rollout.camera)
            rollout.see(views[rollout.camera])
            rollout.plans += 1
            if getattr(player, "wants_depth", False):
                observation["depth_m"] = {name: views[name].depth_m for name in cameras}
            actions = _checked(player.act(observation), simulator)
            actions = change(actions) if change else actions
            plan = list(np.clip(actions, -1, 1)[: trial.replan_steps])
        rollout.success = simulator.step(_disturbed(plan.pop(0), trial.action_noise, noise))
        rollout.steps += 1
    if end:
        rollout.see(simulator.render(rollout.camera))
    return rollout


def _cameras(player: Player, simulator: Simulator) -> Collection[str]:
    """Those that the player looks at; all where it does not say."""
    cameras: Collection[str] = getattr(player, "cameras", None) or simulator.cameras
    if lacking := [name for name in cameras if name not in simulator.cameras]:
        raise ConfigError(
            f"the policy looks at {', '.join(lacking)}; the simulator's cameras are "
            f"{', '.join(simulator.cameras)}",
            remedy="evaluate a policy that was trained with those: train-vla --camera, after "
            "convert with a schema that names them so",
        )
    return cameras


def _disturbed(
    action: Float32[np.ndarray, " A"], spread: float, noise: np.random.Generator
) -> Float32[np.ndarray, " A"]:
    """The action with noise on its first three numbers."""
    if not spread:
        return action
    disturbed = action.copy()
    disturbed[:3] += noise.normal(0, spread, len(disturbed[:3])).astype(np.float32)
    return np.clip(disturbed, -1, 1)


def _checked(actions: np.ndarray, simulator: Simulator) -> Float32[np.ndarray, "C A"]:
    actions = np.asarray(actions, np.float32)
    width = len(simulator.idle)
    if actions.ndim != 2 or not len(actions) or actions.shape[1] != width:
        raise ConfigError(
            f"the policy's actions have shape {actions.shape}, the robot takes [chunk, {width}]",
            remedy="evaluate a policy that was trained on data of this robot",
        )
    if not np.isfinite(actions).all():
        raise ConfigError("the policy's actions are not finite", remedy="its training diverged")
    return actions
