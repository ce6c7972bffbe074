"""A benchmark: suites of tasks, the simulator that runs them, and the protocol of an evaluation.

A second one is a class with these members, listed in `benchmark_of`; docs/simulator.md says more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from depthtok.errors import ConfigError, did_you_mean
from depthtok.meaning import Meaning
from pipelines.sim.simulator import Simulator, Task


@runtime_checkable
class Benchmark(Protocol):
    """What the commands ask of a benchmark. Picklable. Its members but `max_steps` may raise
    `MissingPackage` where the simulator is not installed."""

    @property
    def max_steps(self) -> Mapping[str, int]: ...  # of a trial, by suite: the suites it has

    @property
    def meaning(self) -> Meaning: ...  # of the robot's actions and state

    @property
    def settle_steps(self) -> int: ...  # idle actions after a reset

    @property
    def orientation(self) -> str: ...  # of the published images, relative to the renderer's

    def tasks(self, suite: str) -> list[Task]:
        """The tasks of a suite, in the benchmark's order, numbered from 0."""
        ...

    def simulator(self, task: Task, size: int) -> Simulator:
        """The world of a task, with images of `size` px."""
        ...

    def versions(self) -> dict[str, str]:
        """The versions of all that decides how the world moves."""
        ...

    def software(self) -> dict[str, str]:
        """The versions and the renderer that decide how it looks."""
        ...


def benchmark_of(suite: str) -> Benchmark:
    """The benchmark that has a suite. Raises `ConfigError` for an unknown one."""
    from pipelines.sim.libero_benchmark import Libero

    suites = {name: benchmark for benchmark in (Libero(),) for name in benchmark.max_steps}
    if suite not in suites:
        raise ConfigError(f"there is no suite {suite!r}", remedy=did_you_mean(suite, [*suites]))
    return suites[suite]


def chosen_tasks(benchmark: Benchmark, suite: str, numbers: list[int]) -> list[Task]:
    """The tasks with these numbers, all without any. Raises `ConfigError` for one that is none."""
    tasks = benchmark.tasks(suite)
    for number in numbers:
        if number >= len(tasks):
            raise ConfigError(f"{suite} has no task {number}", remedy=f"give 0 to {len(tasks) - 1}")
    return [tasks[number] for number in numbers] or tasks
