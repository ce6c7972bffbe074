"""Settings of what `collect` records and `eval` measures. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from depthtok.errors import ConfigError
from depthtok.required import at_least, require

Tasks = Annotated[str, "task numbers, such as 0,3-5; all by default"]
LARGEST_SEED = 2**31
OF_THE_EXPERT = (
    *("suite", "tasks", "episodes", "seed", "noise", "variety", "official_init_states"),
    *("views", "starts", "renderings"),
)
"""Settings that demonstrations of people have no use for."""
PUBLISHED = "libero_plus_"  # how the suites begin whose tasks say their variations
Views = Annotated[
    str, "ranges of the main camera's pose: 'orbit -15:15, distance 100:130' (height, turn, tilt)"
]
Starts = Annotated[str, "range of how far the joints start from the usual ones (rad): 0.1:0.3"]
SUITES = "libero_spatial, libero_goal_swap, libero_plus_camera, ...: see docs/simulator.md"


@dataclass(frozen=True)
class CollectConfig:
    """Which demonstrations to record."""

    suite: Annotated[str, SUITES] = "libero_object"
    tasks: Tasks = ""
    episodes: Annotated[int, "episodes per task"] = 10
    seed: Annotated[int, "random seed of placements, noise and variety"] = 0
    noise: Annotated[
        float, "maximum noise on the xyz action (standard deviation; 1 is a full action)"
    ] = 0.1
    variety: Annotated[float, "how much speed, approach and grasp vary, from 0 to 1"] = 1.0
    official_init_states: Annotated[
        bool, "start from the benchmark's own initial states: the trials of `eval`; recorded"
    ] = False
    demos: Annotated[
        tuple[Path, ...], "replay these official demonstrations (TASK_demo.hdf5) instead"
    ] = ()
    size: Annotated[int, "side of the images in pixels"] = 256
    name: Annotated[str, "name of the data set; by default BENCHMARK_sim_depth"] = ""
    episodes_per_shard: Annotated[int, "episodes per file"] = 16
    views: Views = ""
    starts: Starts = ""
    renderings: Annotated[int, "episodes of each motion, each from another view"] = 1

    def __post_init__(self) -> None:
        numbers(self.tasks, "tasks")
        _require_not_published(self.suite, "collect")
        require(
            self.renderings == 1 or self.views, "renderings", self.renderings, "give views, too"
        )
        for name in OF_THE_EXPERT if self.demos else ():
            value, default = getattr(self, name), getattr(CollectConfig, name)
            remedy = "leave it out: --demos replays all of its files unchanged"
            require(value == default, name, value, remedy)
        at_least(1, self, "episodes episodes_per_shard renderings")
        require(0 <= self.seed < LARGEST_SEED, "seed", self.seed, "give 0 or more")
        require(0 <= self.noise <= 0.5, "noise", self.noise, "give 0 to 0.5")
        require(0 <= self.variety <= 1, "variety", self.variety, "give 0 to 1")
        require(16 <= self.size <= 1024, "size", self.size, "give 16 to 1024")
        require(
            re.fullmatch(r"([a-z][a-z0-9_]*)?", self.name), "name", self.name, "give a_plain_name"
        )


@dataclass(frozen=True)
class EvalConfig:
    """Which rollouts evaluate a policy. The defaults are the usual protocol."""

    suite: Annotated[str, SUITES] = "libero_object"
    tasks: Tasks = ""
    trials: Annotated[int, "trials per task: the first official initial states"] = 50
    seed: Annotated[int, "random seed of the fixtures' placements and the policy's noise"] = 7
    replan_steps: Annotated[int, "actions executed before the policy is queried again"] = 5
    max_steps: Annotated[int, "maximum actions per trial; 0 is the suite's own limit"] = 0
    size: Annotated[int, "side of the rendered images in pixels"] = 256
    videos: Annotated[int, "successes, and failures, of each task to keep as videos"] = 1
    settle_steps: Annotated[int, "idle actions at the start of a trial"] = 10
    action_noise: Annotated[
        float, "noise on the xyz action (standard deviation; 1 is a full action)"
    ] = 0.0
    views: Views = ""
    starts: Starts = ""
    chosen_by: Annotated[str, "how the checkpoint was chosen, for the card: 'held-out loss'"] = ""

    def __post_init__(self) -> None:
        numbers(self.tasks, "tasks")
        at_least(1, self, "trials replan_steps")
        at_least(0, self, "max_steps videos settle_steps action_noise")
        if self.views or self.starts:
            _require_not_published(self.suite, "views and starts")
        require(0 <= self.seed < LARGEST_SEED, "seed", self.seed, "give 0 or more")
        require(16 <= self.size <= 1024, "size", self.size, "give 16 to 1024")


def _require_not_published(suite: str, who: str) -> None:
    remedy = "take a suite of LIBERO's: its views and starts can be drawn with --set views=..."
    require(not suite.startswith(PUBLISHED), f"suite (of {who})", suite, remedy)


def numbers(text: str, field: str) -> list[int]:
    """`0,3-5` as [0, 3, 4, 5]; [] for empty text. Raises `ConfigError`."""
    chosen: set[int] = set()
    for piece in filter(None, text.split(",")):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", piece)
        if match is None:
            remedy = "give numbers and ranges, such as 0,3-5"
            raise ConfigError(f"`{field}` cannot be {text!r}", remedy=remedy)
        low, high = int(match[1]), int(match[2] or match[1])
        require(low <= high, field, text, "give ascending ranges, such as 3-5")
        chosen.update(range(low, high + 1))
    return sorted(chosen)
