"""LIBERO as a `Benchmark`."""

from __future__ import annotations

from pipelines.sim import setup, suites
from pipelines.sim.libero import MEANING, LiberoSimulator
from pipelines.sim.simulator import Task


class Libero:
    """Its five suites, with the protocol of OpenVLA and openpi."""

    max_steps, settle_steps = suites.MAX_STEPS, suites.SETTLE_STEPS
    meaning, orientation = MEANING, "raw[::-1, ::-1]"

    def tasks(self, suite: str) -> list[Task]:
        """The tasks of a suite. Raises `MissingPackage`."""
        return suites.tasks(suite)

    def simulator(self, task: Task, size: int) -> LiberoSimulator:
        """The world of a task. Raises `MissingPackage`."""
        return LiberoSimulator(task, size)

    def versions(self) -> dict[str, str]:
        """Of MuJoCo, robosuite, LIBERO and numpy, and which renderer is used."""
        return setup.versions()

    def software(self) -> dict[str, str]:
        """See `pipelines.sim.setup.software`."""
        return setup.software()
