"""The scripted expert at a LIBERO task: grasps are tried from one start until one succeeds.

motion, style, tried = demonstrate(simulator, seed=3, noise=0.1, variety=1.0)
"""

from __future__ import annotations

from pipelines.sim.expert import GRASPS, ScriptedExpert, Style
from pipelines.sim.libero import LiberoSimulator
from pipelines.sim.motion import Motion, perform
from pipelines.sim.scene import Scene


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
