"""The motion of an episode without images: physics is cheap, rendering is not.

motion = perform(simulator, actions, limit=280)
values = film(simulator, motion, origin, layout)     # RGB, depth, ..., once it is worth rendering
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from pipelines.sim.simulator import Simulator


@dataclass(frozen=True)
class Motion:
    """States, each right before the action of the same index. `success` is after the last one."""

    states: Float64[np.ndarray, "T S"]
    actions: Float32[np.ndarray, "T A"]
    success: bool

    def __len__(self) -> int:
        return len(self.actions)


def perform(
    simulator: Simulator,
    actions: Iterable[Float32[np.ndarray, " A"]],
    *,
    limit: int,
    to_the_end: bool = False,
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
