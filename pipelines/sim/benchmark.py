"""What `eval` and `collect` need of a family of simulated tasks, and which there are.

    benchmark = benchmark_of("libero_goal")               from a suite's name
    task = benchmark.tasks("libero_goal")[8]
    simulator = benchmark.open(task, size=256, settle_steps=10)

A benchmark is a module-level value in a file of `pipelines/sim`, and a line of `BENCHMARKS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from depthtok.errors import ConfigError, did_you_mean
from depthtok.meaning import Meaning
from depthtok.orientation import Orientation
from pipelines.sim.motion import Motion
from pipelines.sim.perturb import Ranges
from pipelines.sim.simulator import Simulator, Task

BENCHMARKS = {
    "libero_": "pipelines.sim.libero_benchmark:LIBERO",
    "metaworld_": "pipelines.sim.metaworld_benchmark:METAWORLD",
}
"""How the names of a benchmark's suites begin -> where it is."""


@dataclass(frozen=True)
class EpisodeLayout:
    """What an episode's record says of the robot and its cameras: widths, and what is in them."""

    action: tuple[int, str]
    state: tuple[int, str]
    joints: tuple[int, str]
    image: str  # the main camera, and the orientation of its frames
    wrist_image: str


@dataclass(frozen=True)
class ShownMotion:
    """What an expert did, the noise on its actions, and what its store tells of it."""

    motion: Motion
    noise: float
    about: Mapping[str, object]


@runtime_checkable
class TaskExpert(Protocol):
    """Solves tasks with what only the simulator knows."""

    @property
    def limits(self) -> str: ...  # of what it does, in words: "only does pick-and-place"

    def sort_out(self, tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
        """The tasks that it can do, and the others."""
        ...

    def demonstrate(
        self,
        simulator: Simulator,
        *,
        seed: int,
        noise: float,
        variety: float,
        init_state: int | None,
    ) -> ShownMotion:
        """One motion from the start that `seed` draws, or from an official initial state; at most
        `noise` (a standard deviation) is on its xyz actions, and at most `variety` (0 to 1) of
        style is in it, both drawn from `seed`."""
        ...


@runtime_checkable
class Replays(Protocol):
    """Official demonstrations in files, done again to be rendered."""

    def task_of(self, path: Path) -> Task: ...

    def count(self, path: Path) -> int: ...  # episodes in a file

    def fingerprint(self, path: Path) -> object: ...  # of its content, for the store's settings

    def replay(self, simulator: Simulator, path: Path, episode: int) -> tuple[Motion, int]:
        """The motion of one of a file's episodes, and its number in the file."""
        ...


@runtime_checkable
class Benchmark(Protocol):
    """A family of suites that share a simulator, a robot and a protocol."""

    @property
    def name(self) -> str: ...  # `NAME_sim_depth` is what its recordings are called by default

    @property
    def title(self) -> str: ...  # as people write it

    @property
    def meaning(self) -> Meaning: ...  # of actions and states, and their rate

    @property
    def layout(self) -> EpisodeLayout: ...  # of a recorded episode

    @property
    def orientation(self) -> str: ...  # of the frames, relative to what is rendered

    @property
    def view(self) -> Orientation: ...  # of the frames of all cameras, relative to the true view

    @property
    def settle_steps(self) -> int: ...  # idle actions before an episode, where none are named

    @property
    def licence(self) -> str: ...  # of what is recorded from it

    @property
    def expert(self) -> TaskExpert: ...

    @property
    def replays(self) -> Replays | None: ...  # None where there are no official demonstrations

    def suites(self) -> Mapping[str, int]:
        """The step limit of every suite, by name; 0 where that is a matter of the task. Needs none
        of the simulator's packages."""
        ...

    def tasks(self, suite: str) -> list[Task]:
        """A suite's tasks, in the benchmark's order. Raises `ConfigError` for an unknown suite."""
        ...

    def open(self, task: Task, size: int, settle_steps: int) -> Simulator:
        """The simulator of a task; its frames are `size` px squares, and an episode begins with
        so many idle actions. Raises `MissingPackage`."""
        ...

    def initial_states(self, task: Task) -> Float64[np.ndarray, "n S"]:
        """The official ones, a row each: equal rows are equal starts."""
        ...

    def variations(self, task: Task) -> list[Task]:
        """The task as each of its published trials has it; [] where a trial is just a start."""
        ...

    def ranges(self, views: str, starts: str) -> Ranges:
        """What views and robot starts are drawn from; empty texts ask for none. Raises
        `ConfigError` for what it cannot vary."""
        ...

    def prepare(self) -> None:
        """Makes the packages ready to be imported. Raises `MissingPackage`."""
        ...

    def graphics(self) -> str:
        """The renderer's own description. Raises `MissingPackage` where nothing can be rendered."""
        ...

    def versions(self) -> dict[str, str]:
        """The versions of everything that affects the simulation."""
        ...

    def software(self) -> dict[str, str]:
        """Other software that affects the last digits of results, the renderer (`gl`) among it."""
        ...


def benchmark_of(suite: str) -> Benchmark:
    """The benchmark that has a suite. Raises `ConfigError` for a name of none."""
    for beginning, address in BENCHMARKS.items():
        if suite.startswith(beginning):
            return _at(address)
    names = [name for address in BENCHMARKS.values() for name in _at(address).suites()]
    raise ConfigError(f"there is no suite {suite!r}", remedy=did_you_mean(suite, names))


def _at(address: str) -> Benchmark:
    module, _, name = address.partition(":")
    benchmark: Benchmark = getattr(import_module(module), name)
    return benchmark


def numbered(suite: str, number: int) -> Task:
    """One task. Raises `ConfigError` for a number that is not in the suite."""
    tasks = benchmark_of(suite).tasks(suite)
    if not 0 <= number < len(tasks):
        raise ConfigError(f"{suite} has no task {number}", remedy=f"give 0 to {len(tasks) - 1}")
    return tasks[number]


def step_limit(suite: str) -> int | None:
    """The step limit of a suite, None for one that is not known (of an earlier version)."""
    try:
        return benchmark_of(suite).suites().get(suite)
    except ConfigError:
        return None
