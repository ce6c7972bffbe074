"""Evaluations on disk: every finished trial is a file, and a run goes on where it was.

EVAL/eval.json                      what is evaluated, and how; another one is refused
EVAL/trials/task-03-trial-007.json  one finished trial
EVAL/videos/...webp                 some of them as moving pictures
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from depthtok.config import digest
from depthtok.errors import SourceError, StaleStore
from depthtok.files import output_errors, sweep, write_atomic
from depthtok.sim.intervals import wilson
from depthtok.sim.pictures import save_film
from depthtok.sim.rollout import Player, Rollout, Trial, play
from depthtok.sim.simulator import Simulator, Task

CARD, TRIALS, VIDEOS = "eval.json", "trials", "videos"

Judge = Callable[[Player, Rollout], Mapping[str, float]]


@dataclass(frozen=True)
class Job:
    """One trial to be done."""

    task: Task
    trial: Trial

    @property
    def name(self) -> str:
        return f"task-{self.task.number:02d}-trial-{self.trial.number:03d}"


@dataclass(frozen=True)
class Outcome:
    """One finished trial."""

    task: int
    trial: int
    seed: int
    success: bool
    steps: int
    plans: int
    seconds: float
    measures: Mapping[str, float] = field(default_factory=dict)  # depth codes, where they are known

    @property
    def name(self) -> str:
        return f"task-{self.task:02d}-trial-{self.trial:03d}"


@dataclass(frozen=True)
class Evaluation:
    """A directory of trials. `card` says what is evaluated, and `jobs` all that belongs to it."""

    path: Path
    card: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> Evaluation:
        """One that is there. Raises `SourceError`."""
        try:
            card = json.loads((path / CARD).read_text())
        except (OSError, ValueError) as error:
            raise SourceError(
                f"{path} is not an evaluation ({error})",
                remedy="name the directory that `depthtok eval` wrote with --out",
            ) from error
        return cls(path, card)

    def begin(self) -> None:
        """Makes the directory, or checks that the one there is of the same evaluation."""
        card = self.path / CARD
        if card.exists():
            found = self.open(self.path).card
            if digest(found) != digest(self.card):
                keys = sorted(k for k in {*found, *self.card} if found.get(k) != self.card.get(k))
                raise StaleStore(
                    f"{self.path} holds another evaluation: {', '.join(keys)} differ",
                    remedy="choose another --out, or delete that directory first",
                )
        else:
            write_atomic(card, json.dumps(self.card, indent=1, sort_keys=True) + "\n")
        sweep(self.path / TRIALS)

    def is_done(self, job: Job) -> bool:
        return (self.path / TRIALS / f"{job.name}.json").is_file()

    def save(self, outcome: Outcome) -> None:
        """Commits a trial."""
        text = json.dumps(asdict(outcome), indent=1) + "\n"
        write_atomic(self.path / TRIALS / f"{outcome.name}.json", text)

    def forget(self) -> None:
        """Removes all trials and videos."""
        for folder in (TRIALS, VIDEOS):
            for path in (self.path / folder).glob("task-*"):
                with output_errors(path):
                    path.unlink()

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """The finished trials, in order."""
        found = sorted((self.path / TRIALS).glob("task-*.json"))
        return [Outcome(**json.loads(path.read_text())) for path in found]

    def videos(self) -> list[Path]:
        return sorted((self.path / VIDEOS).glob("*.webp"))


def summary(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Success rate with its 95 % interval, and the steps that successes took."""
    outcomes = list(outcomes)
    won = [each for each in outcomes if each.success]
    low, high = wilson(len(won), len(outcomes))
    steps = float(np.mean([each.steps for each in won])) if won else None
    names = sorted({name for each in outcomes for name in each.measures})
    measured = {
        name: float(np.mean([e.measures[name] for e in outcomes if name in e.measures]))
        for name in names
    }
    return {
        "trials": len(outcomes), "successes": len(won),
        "rate": len(won) / len(outcomes) if outcomes else None,
        "low": low, "high": high, "steps": steps, **measured,
    }  # fmt: skip


class Arena:
    """A worker's own: one policy, one simulator at a time."""

    def __init__(
        self, evaluation: Evaluation, player: Player, build: Callable[[Task], Simulator],
        videos: int, judge: Judge | None = None,
    ) -> None:  # fmt: skip
        self._evaluation, self._player, self._judge = evaluation, player, judge
        self._build, self._videos = build, videos
        self._simulator: Simulator | None = None

    def do(self, job: Job) -> Outcome:
        """One trial, committed."""
        if self._simulator is None or self._simulator.task != job.task:
            if self._simulator is not None:
                self._simulator.close()
            self._simulator = self._build(job.task)
        begun = time.monotonic()
        rollout = play(self._simulator, self._player, job.trial)
        measures = self._judge(self._player, rollout) if self._judge else {}
        outcome = Outcome(
            job.task.number, job.trial.number, job.trial.seed, rollout.success, rollout.steps,
            rollout.plans, round(time.monotonic() - begun, 3), measures,
        )  # fmt: skip
        self._film(job, rollout)
        self._evaluation.save(outcome)
        return outcome

    def _film(self, job: Job, rollout: Rollout) -> None:
        """Keeps the first few successes and failures of every task as moving pictures."""
        word = "success" if rollout.success else "failure"
        folder = self._evaluation.path / VIDEOS
        kept = list(folder.glob(f"task-{job.task.number:02d}-*-{word}.webp"))
        if len(kept) < self._videos:
            save_film(folder / f"{job.name}-{word}.webp", rollout)


def by_task(outcomes: Iterable[Outcome]) -> dict[int, list[Outcome]]:
    """The trials of each task, in the order of the tasks."""
    outcomes = list(outcomes)
    tasks = sorted(Counter(each.task for each in outcomes))
    return {task: [each for each in outcomes if each.task == task] for task in tasks}
