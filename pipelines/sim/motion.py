"""The motion of an episode without images: physics is cheap, rendering is not.

motion, style, tried = demonstrate(simulator, seed=3, noise=0.1, variety=1.0)
values = film(simulator, motion)         # RGB, depth, ..., once the episode is worth rendering
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from pipelines.sim.expert import GRASPS, Action, ScriptedExpert, Style
from pipelines.sim.libero import LiberoSimulator
from pipelines.sim.scene import Scene
from pipelines.sim.simulator import Simulator


@dataclass(frozen=True)
class Motion:
    """States, each right before the action of the same index. `success` is after the last one."""

    states: Float64[np.ndarray, "T S"]
    actions: Float32[np.ndarray, "T 7"]
    success: bool

    def __len__(self) -> int:
        return len(self.actions)


def perform(
    simulator: Simulator, actions: Iterable[Action], *, limit: int, to_the_end: bool = False
) -> Motion:
    """Executes actions until the task is done (`to_the_end`: all of them), at most `limit`."""
    states, executed, success = [], [], False
    for action in actions:
        states.append(simulator.save())
        executed.append(np.asarray(action, np.float32))
        success = simulator.step(action)
        if len(states) >= limit or (success and not to_the_end):
            break
    width = len(simulator.idle)
    return Motion(np.array(states), np.array(executed).reshape(-1, width), success)


def demonstrate(
    simulator: LiberoSimulator,
    *,
    seed: int,
    noise: float,
    variety: float,
    init_state: int | None = None,
    grasps: int = GRASPS,
) -> tuple[Motion, Style, int]:
    """The expert's first success from one start, its style, and the number of grasps tried.

    If none succeeds it is the first attempt that moved; the simulator is left after the last one.
    """
    style = Style.draw(seed, noise, variety)
    scene = Scene(simulator)
    scene.goals()  # raises for tasks that the expert cannot do
    first: Motion | None = None
    for rank in range(grasps):
        simulator.reset(seed, init_state)
        expert = ScriptedExpert(scene, style, rank)
        motion = perform(simulator, expert.actions(), limit=simulator.task.max_steps)
        if motion.success:
            return motion, style, rank + 1
        first = first or motion  # one without any action counts as none
    if first is None:
        raise ValueError(f"{grasps} grasps are too few to try")
    return first, style, grasps
