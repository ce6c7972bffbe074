"""Meta-World as a `Benchmark`: fifty tasks of a Sawyer arm, with scripted policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from depthtok.errors import ConfigError, did_you_mean
from depthtok.meaning import Meaning
from depthtok.orientation import Orientation
from pipelines.sim import setup
from pipelines.sim.benchmark import Benchmark, EpisodeLayout, Replays, ShownMotion, TaskExpert
from pipelines.sim.metaworld import (
    EXTRA,
    MEANING,
    STARTS,
    MetaworldSimulator,
    drawn,
    official_starts,
    scripted,
)
from pipelines.sim.motion import perform
from pipelines.sim.perturb import Ranges
from pipelines.sim.simulator import Simulator, Task

MAX_STEPS = 500
SUITES = ("metaworld_mt50", "metaworld_mt10")
LAYOUT = EpisodeLayout(
    action=(4, "Command in [-1, 1]: xyz (1 is 1 cm), force on the fingers (-1 opens, 1 closes)."),
    state=(4, "Hand: position (m); opening of the gripper (0 to 1)."),
    joints=(7, "Joint angles (rad)."),
    image="Main camera (corner2), turned upright: [::-1, ::-1] of the rendered one.",
    wrist_image="Wrist camera (gripperPOV), as rendered.",
)


@dataclass(frozen=True)
class ScriptedPolicies:
    """The package's own, one for each task, with noise on their xyz actions."""

    limits: str = "does all tasks"

    def sort_out(self, tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
        """All of them."""
        return list(tasks), []

    def demonstrate(
        self,
        simulator: Simulator,
        *,
        seed: int,
        noise: float,
        variety: float,
        init_state: int | None,
    ) -> ShownMotion:
        """One attempt. The amount of noise is drawn; these policies have no other variety."""
        assert isinstance(simulator, MetaworldSimulator)
        rng = np.random.default_rng(seed)
        spread = float(rng.uniform(0, noise))
        simulator.reset(seed, init_state)
        actions = _actions(simulator, rng, spread)
        motion = perform(simulator, actions, limit=simulator.task.max_steps)
        return ShownMotion(motion, spread, {})


def _actions(
    simulator: MetaworldSimulator, rng: np.random.Generator, spread: float
) -> Iterator[Float32[np.ndarray, " 4"]]:
    policy = scripted(simulator.task.name)
    while True:
        action = policy(simulator.observation)
        action[:3] += rng.normal(0, spread, 3)
        yield np.clip(action, -1, 1)


@dataclass(frozen=True)
class MetaworldBenchmark:
    """MT50 and MT10, with the 50 starts that `MT1(name, seed=0)` draws for each task."""

    name: str = "metaworld"
    title: str = "Meta-World"
    meaning: Meaning = MEANING
    layout: EpisodeLayout = LAYOUT
    orientation: str = "upright"
    view: Orientation = Orientation.IDENTITY
    settle_steps: int = 10  # as in `eval`; the package itself has none
    licence: str = "Meta-World, its models and policies: MIT."
    expert: TaskExpert = ScriptedPolicies()
    replays: Replays | None = None

    def suites(self) -> Mapping[str, int]:
        """Both, with their step limit."""
        return dict.fromkeys(SUITES, MAX_STEPS)

    def tasks(self, suite: str) -> list[Task]:
        """A suite's tasks, in alphabetical order. There is no published instruction: it is made
        of the task's name. Raises `ConfigError` for an unknown suite."""
        if suite not in SUITES:
            raise ConfigError(
                f"there is no suite {suite!r}", remedy=did_you_mean(suite, list(SUITES))
            )
        self.prepare()
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

        names = sorted(MT10_V3 if suite == "metaworld_mt10" else ALL_V3_ENVIRONMENTS)
        return [
            Task(suite, number, name, _instruction(name), MAX_STEPS, STARTS)
            for number, name in enumerate(names)
        ]

    def open(self, task: Task, size: int, settle_steps: int) -> Simulator:
        """One task's world. Raises `MissingPackage`."""
        return MetaworldSimulator(task, size, settle_steps)

    def initial_states(self, task: Task) -> Float64[np.ndarray, "n S"]:
        """What each official start was drawn as."""
        return np.array([drawn(start) for start in official_starts(task.name)])

    def variations(self, task: Task) -> list[Task]:
        """None."""
        return []

    def ranges(self, views: str, starts: str) -> Ranges:
        """None. Raises `ConfigError` if any are asked for."""
        if views or starts:
            raise ConfigError(
                "views and robot starts are not varied in Meta-World", remedy="leave them out"
            )
        return Ranges()

    def prepare(self) -> None:
        """Selects a renderer. Raises `MissingPackage`."""
        setup.prepare(EXTRA)

    def graphics(self) -> str:
        """The renderer's own description. Raises `MissingPackage`."""
        return setup.graphics(EXTRA)

    def versions(self) -> dict[str, str]:
        """Of Meta-World, MuJoCo and numpy, and the renderer's name."""
        return setup.versions(distributions=("metaworld", "mujoco", "numpy"))

    def software(self) -> dict[str, str]:
        """Of this package and PyTorch, and the renderer's own description."""
        return setup.software(EXTRA)


METAWORLD: Benchmark = MetaworldBenchmark()


def _instruction(name: str) -> str:
    """`pick-place-v3` as `pick place`."""
    return name.removesuffix("-v3").replace("-", " ")
