"""LIBERO, LIBERO-PRO and LIBERO-Plus as a `Benchmark`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from depthtok.meaning import Meaning
from depthtok.orientation import Orientation
from pipelines.sim import demos, goals, published, setup, suites
from pipelines.sim.benchmark import Benchmark, EpisodeLayout, Replays, ShownMotion, TaskExpert
from pipelines.sim.libero import MEANING, LiberoSimulator
from pipelines.sim.libero_expert import demonstrate
from pipelines.sim.motion import Motion
from pipelines.sim.perturb import Ranges
from pipelines.sim.simulator import Simulator, Task

LAYOUT = EpisodeLayout(
    action=(
        7,
        "OSC_POSE command in [-1, 1]: xyz (1 is 5 cm), rotation (1 is 0.5 rad), gripper (-1 open, "
        "1 closed).",
    ),
    state=(8, "End effector: position (m), axis-angle (rad); positions of both fingers (m)."),
    joints=(7, "Joint angles (rad)."),
    image="Main camera (agentview), published orientation: [::-1, ::-1].",
    wrist_image="Wrist camera, published orientation: [::-1, ::-1].",
)
LICENCE = (
    "LIBERO code: MIT; its data set: CC BY 4.0; its 3-D objects come from several sources whose "
    "own terms apply to pictures of them."
)


@dataclass(frozen=True)
class LiberoExpert:
    """The scripted one, which grasps things and puts them somewhere."""

    limits: str = "only does pick-and-place"

    def sort_out(self, tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
        """The tasks that it can do, and the others, by their definitions."""
        return goals.sort_out(tasks)

    def demonstrate(
        self,
        simulator: Simulator,
        *,
        seed: int,
        noise: float,
        variety: float,
        init_state: int | None,
    ) -> ShownMotion:
        """Its first success from one start, with the number of grasps tried and its style."""
        motion, style, tried = demonstrate(
            _libero(simulator), seed=seed, noise=noise, variety=variety, init_state=init_state
        )
        return ShownMotion(motion, style.noise, {"grasps_tried": tried, "style": style.to_json()})


@dataclass(frozen=True)
class LiberoReplays:
    """LIBERO's demonstrations by people (HDF5)."""

    def task_of(self, path: Path) -> Task:
        """The task that a file's name says."""
        return demos.task_of(path)

    def count(self, path: Path) -> int:
        """The number of episodes in a file."""
        return demos.count(path)

    def fingerprint(self, path: Path) -> object:
        """Of a file, for the store's settings."""
        return demos.fingerprint(path)

    def replay(self, simulator: Simulator, path: Path, episode: int) -> tuple[Motion, int]:
        """The motion of one of a file's episodes, and its number in the file."""
        demo = demos.read(path, episode)
        return demos.replay(_libero(simulator), demo), demo.number


@dataclass(frozen=True)
class LiberoBenchmark:
    """Tasks of the standard suites, and what two later works made of them."""

    name: str = "libero"
    title: str = "LIBERO"
    meaning: Meaning = MEANING
    layout: EpisodeLayout = LAYOUT
    orientation: str = "raw[::-1, ::-1]"
    view: Orientation = Orientation.MIRROR
    settle_steps: int = suites.SETTLE_STEPS
    licence: str = LICENCE
    expert: TaskExpert = LiberoExpert()
    replays: Replays | None = LiberoReplays()

    def suites(self) -> Mapping[str, int]:
        """Every suite's step limit; 0 for those that take it from others."""
        return {suite.name: suite.max_steps for suite in suites.SUITES.values()}

    def tasks(self, suite: str) -> list[Task]:
        """A suite's tasks. Raises `ConfigError` for an unknown suite."""
        return suites.tasks(suite)

    def open(self, task: Task, size: int, settle_steps: int) -> Simulator:
        """One task's world. Raises `MissingPackage`."""
        return LiberoSimulator(task, size, settle_steps)

    def initial_states(self, task: Task) -> Float64[np.ndarray, "n S"]:
        """The official ones, without their time, which differs where nothing else does."""
        return suites.init_states(task)[:, 1:]

    def variations(self, task: Task) -> list[Task]:
        """Those of LIBERO-Plus; [] of any other suite."""
        return published.variations(task)

    def ranges(self, views: str, starts: str) -> Ranges:
        """Poses of the main camera, and joints at the start."""
        return Ranges(views, starts)

    def prepare(self) -> None:
        """Selects a renderer. Raises `MissingPackage`."""
        setup.prepare()

    def graphics(self) -> str:
        """The renderer's own description. Raises `MissingPackage`."""
        return setup.graphics()

    def versions(self) -> dict[str, str]:
        """Of LIBERO, robosuite, MuJoCo and numpy, and the renderer's name."""
        return setup.versions()

    def software(self) -> dict[str, str]:
        """Of this package and PyTorch, and the renderer's own description."""
        return setup.software()


LIBERO: Benchmark = LiberoBenchmark()


def _libero(simulator: Simulator) -> LiberoSimulator:
    if not isinstance(simulator, LiberoSimulator):
        raise TypeError(f"{simulator.task} is not of LIBERO")
    return simulator
