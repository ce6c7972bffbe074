"""How often the scripted expert solves LIBERO's tasks, in the trials of `depthtok eval`.

    python benchmarks/expert_rates.py libero_object libero_spatial --states 5
    python benchmarks/expert_rates.py libero_goal libero_10 --states 2

Physics only, in this process (the extra `sim`): official initial states, plain motion, no noise,
the benchmark's own success check and step limit. From each state the expert tries one grasp after
another; states solved at all and states solved by the first grasp are counted. Tasks that need more
than pick-and-place are skipped. `--variety` and `--noise` are as in `collect`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from depthtok.errors import ConfigError
from depthtok.intervals import wilson
from pipelines.sim import suites
from pipelines.sim.libero import LiberoSimulator
from pipelines.sim.libero_expert import demonstrate
from pipelines.sim.simulator import Task

SEED = 7  # as in `eval`: the fixtures' positions


@dataclass(frozen=True)
class Attempt:
    """The result for one initial state."""

    solved: bool
    tried: int  # grasps tried
    steps: int


def attempts(task: Task, states: int, noise: float, variety: float) -> list[Attempt]:
    """One attempt per initial state. Raises `ConfigError` if the expert cannot do the task."""
    simulator, outcomes = LiberoSimulator(task, size=16), []
    try:
        for k in range(states):
            seed = task.seed("eval", SEED, k)
            motion, _, tried = demonstrate(
                simulator, seed=seed, noise=noise, variety=variety, init_state=k
            )
            outcomes.append(Attempt(motion.success, tried, len(motion)))
    finally:
        simulator.close()
    return outcomes


def told(found: list[Attempt]) -> str:
    """`5 of 5 (95 % interval 57 to 100 %), 4 with the first grasp, 96 to 131 steps`."""
    won = [attempt for attempt in found if attempt.solved]
    low, high = wilson(len(won), len(found))
    first = sum(attempt.tried == 1 for attempt in won)
    text = f"{len(won)} of {len(found)} (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    steps = [attempt.steps for attempt in won]
    return (
        text + f", {first} with the first grasp, {min(steps)} to {max(steps)} steps"
        if won
        else text
    )


def main() -> None:
    """Prints one line per task, and one per suite."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="+", choices=list(suites.SUITES), metavar="SUITE")
    parser.add_argument("--states", type=int, default=2, help="initial states of each task")
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--variety", type=float, default=0.0)
    options = parser.parse_args()
    for suite in options.suites:
        started, everything = time.process_time(), []
        for task in suites.tasks(suite):
            try:
                outcomes = attempts(task, options.states, options.noise, options.variety)
            except ConfigError:
                print(f"{task}: the expert cannot do it ({task.instruction})", flush=True)
                continue
            everything += outcomes
            print(f"{task}: {told(outcomes)}", flush=True)
        print(f"{suite}: {told(everything)}; {time.process_time() - started:.0f} CPU-s", flush=True)


if __name__ == "__main__":
    main()
