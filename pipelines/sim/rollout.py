"""One trial of a policy in a simulator, under the usual protocol.

It starts from the benchmark's initial state, with idle steps until everything is at rest. Then the
policy is queried for a chunk of actions, the first `replan_steps` of which are executed open loop,
and so on until the task is done or the suite's step limit is reached. Images are only rendered when
the policy is queried.
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
    """Anything that acts: `vla.serving.policy.Policy`, a server, a test double."""

    def reset(self, seed: int) -> None:
        """Starts a trial; the same seed and observations give the same actions."""
        ...

    def act(self, observation: Mapping[str, Any]) -> Float[np.ndarray, "C A"]:
        """A chunk of actions for `images` (uint8 [H W 3] by camera), `proprio`, `instruction`."""
        ...


@dataclass(frozen=True)
class Trial:
    """The setup of a trial: an official initial state, and the random seed."""

    number: int
    seed: int
    max_steps: int
    replan_steps: int


@dataclass
class Rollout:
    """The result of a trial. `frames` and `depth_m` are of the main camera, one per plan and one at
    the end; an evaluation may add `panels`: rows of images, one per plan."""

    success: bool = False
    steps: int = 0
    plans: int = 0
    frames: list[UInt8[np.ndarray, "H W 3"]] = field(default_factory=list)
    depth_m: list[Float32[np.ndarray, "H W"]] = field(default_factory=list)
    panels: list[list[UInt8[np.ndarray, "H W 3"]]] = field(default_factory=list)


def observe(simulator: Simulator) -> tuple[dict[str, Any], dict[str, CameraView]]:
    """The policy's current observation, and the views that it was made from (with true depth)."""
    views = {camera: simulator.render(camera) for camera in simulator.cameras}
    observation = {
        "images": {camera: view.rgb for camera, view in views.items()},
        "proprio": simulator.proprio(),
        "instruction": simulator.task.instruction,
    }
    return observation, views


def play(
    simulator: Simulator, player: Player, trial: Trial, accepted: Collection[str] = ()
) -> Rollout:
    """Runs one trial, with the gripper in the simulator's convention.

    Raises `ConfigError` for invalid actions, and for a player whose `meaning` is not the
    simulator's, but for the `accepted` aspects; a player without that attribute speaks the
    simulator's.
    """
    meaning = getattr(player, "meaning", simulator.meaning)
    change = for_robot(meaning, simulator.meaning, accepted)
    simulator.reset(trial.seed, trial.number)
    player.reset(trial.seed)
    rollout = Rollout()
    plan: list[Float32[np.ndarray, " A"]] = []
    while rollout.steps < trial.max_steps and not rollout.success:
        if not plan:
            observation, views = observe(simulator)
            main = views[simulator.cameras[0]]
            rollout.frames.append(main.rgb)
            rollout.depth_m.append(main.depth_m)
            rollout.plans += 1
            actions = _checked(player.act(observation), simulator)
            actions = change(actions) if change else actions
            plan = list(np.clip(actions, -1, 1)[: trial.replan_steps])
        rollout.success = simulator.step(plan.pop(0))
        rollout.steps += 1
    end = simulator.render(simulator.cameras[0])
    rollout.frames.append(end.rgb)
    rollout.depth_m.append(end.depth_m)
    return rollout


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
