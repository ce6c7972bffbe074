"""Evaluations on disk: every finished trial is a file, so that a run can be resumed.

EVAL/eval.json                      what is evaluated, and how; must match on resuming
EVAL/trials/task-03-trial-007.json  one finished trial
EVAL/videos/...webp                 some of them as videos
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from depthtok.disk.files import output_errors, write_atomic
from depthtok.disk.json_files import read_json_object
from depthtok.disk.regular import listed
from depthtok.disk.temporaries import sweep
from depthtok.errors import SourceError, StaleStore, as_type, as_written
from depthtok.intervals import wilson
from pipelines.evaluate.card import as_carried_out, require_types
from pipelines.sim.pictures import save_film
from pipelines.sim.rollout import Player, Rollout, Trial, play
from pipelines.sim.simulator import Simulator, Task

CARD, TRIALS, VIDEOS = "eval.json", "trials", "videos"

Measure = Callable[[Player, Rollout], Mapping[str, float]]

_FLAGS = {
    "policy": "RUN",
    "says": "the policy served",
    "step": "RUN",
    "weights": "the weights of RUN",
    "config": "the settings of RUN",
    "codebook": "the codebook of RUN",
    "judged_by": "--codebook",
    "judged_camera": "the camera whose depth codes are judged (of before, always the main one)",
    "versions": "versions of the simulator",
    "software": "versions of torch, depthtok or Mesa, or numpy's kernels (OPENBLAS_CORETYPE)",
    "meaning": "what the policy's actions mean (--gripper)",
    "accepted": "--accept",
    "replan_steps": "--set replan_steps",
    "settle_steps": "--set settle_steps",
    "action_noise": "--set action_noise",
    "views": "--set views",
    "starts": "--set starts",
    "sampler": "--set sampler",
    "batch": "--set batch",
    "chosen_by": "how the checkpoint was chosen",
    "orientation": "orientation of images",
}
"""What settings of an evaluation's card are called on the command line; others as they are."""


@dataclass(frozen=True)
class TrialJob:
    """One trial to run."""

    task: Task
    trial: Trial

    @property
    def name(self) -> str:
        """The file name of the trial, without suffix."""
        return f"task-{self.task.number:02d}-trial-{self.trial.number:03d}"


@dataclass(frozen=True)
class TrialOutcome:
    """One finished trial."""

    task: int
    trial: int
    seed: int
    success: bool
    steps: int
    plans: int
    measures: Mapping[str, float] = field(default_factory=dict)  # depth codes, if known
    variation: str = ""  # what of the task's world was different
    group: str = ""  # the variation's size, to tell results by
    init_state: int | None = None  # the official one, where it is not that of the trial's number

    @property
    def name(self) -> str:
        """The file name of the trial, without suffix."""
        return f"task-{self.task:02d}-trial-{self.trial:03d}"


@dataclass(frozen=True)
class Evaluation:
    """A directory of trials. `card` describes what is evaluated; `jobs` are all its trials."""

    path: Path
    card: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> Evaluation:
        """Opens an existing one. Raises `SourceError`, and `CorruptPart` for a card that was not
        written by `depthtok eval`."""
        if not (path / CARD).exists():
            raise SourceError(
                f"{path} is not an evaluation: there is no {CARD}",
                remedy="give the directory that `depthtok eval` wrote with --out",
            )
        remedy = f"restore {CARD} from a copy, or evaluate into another --out"
        card = read_json_object(path / CARD, remedy)
        with as_written(path / CARD, remedy):
            require_types(card)
            return cls(path, as_carried_out(card))

    def begin(self) -> None:
        """Creates the directory. Raises `StaleStore` where one of another evaluation exists."""
        card = self.path / CARD
        if card.exists():
            existing = self.open(self.path).card
            if keys := self._differ(existing):
                raise StaleStore(
                    f"{self.path} holds an evaluation with other settings: "
                    f"{', '.join(_FLAGS.get(key, f'--{key}'.replace('_', '-')) for key in keys)}",
                    remedy="choose another --out, or delete that directory first",
                )
            if existing["trials"] < self.card["trials"]:  # the first ones are the same
                growing = {name: self.card[name] for name in _GROWING if name in self.card}
                self._write({**existing, **growing})
        else:
            self._write(self.card)
        for folder in (self.path, self.path / TRIALS, self.path / VIDEOS):
            sweep(folder)

    def _differ(self, existing: Mapping[str, Any]) -> list[str]:
        """The keys in which the existing evaluation differs. Weights are identified by their
        digests, not by path; more trials and another number of videos are allowed."""
        card, existing = _told(json.loads(json.dumps(self.card))), _told(existing)
        if {"software"} <= card.keys() & existing.keys():  # older cards name less of it
            card["software"] = {name: card["software"].get(name) for name in existing["software"]}
        free = {"videos"} | ({"policy"} if "weights" in card else set())
        lacking = {"software", "meaning", "accepted", "different_states", "step_limits"}
        free |= {"chosen_by"} | (lacking - existing.keys())  # as older cards lack them
        if existing.get("trials", 0) < card["trials"]:
            free |= {*_GROWING}
        return sorted(k for k in {*existing, *card} - free if existing.get(k) != card.get(k))

    def _write(self, card: Mapping[str, Any]) -> None:
        write_atomic(self.path / CARD, json.dumps(card, indent=1, sort_keys=True) + "\n")

    def is_done(self, job: TrialJob) -> bool:
        """Whether this trial is finished."""
        return (self.path / TRIALS / f"{job.name}.json").is_file()

    def save(self, outcome: TrialOutcome) -> None:
        """Commits a trial."""
        values = asdict(outcome)
        for name in ("variation", "group", "init_state"):
            if values[name] in ("", None):  # as those of any unvaried trial
                del values[name]
        text = json.dumps(values, indent=1) + "\n"
        write_atomic(self.path / TRIALS / f"{outcome.name}.json", text)

    def forget(self, jobs: Iterable[TrialJob]) -> None:
        """Removes these trials and their videos."""
        for name in (job.name for job in jobs):
            trial, films = self.path / TRIALS / f"{name}.json", self.path / VIDEOS
            for path in (trial, *films.glob(f"{name}-*")):
                with output_errors(path):
                    path.unlink(missing_ok=True)

    @cached_property
    def outcomes(self) -> list[TrialOutcome]:
        """The finished trials, in order."""
        paths = listed(self.path / TRIALS, "task-*.json")
        return [_outcome(path, self.card["tasks"]) for path in paths]

    def videos(self) -> list[Path]:
        """The existing videos, in order."""
        return listed(self.path / VIDEOS, "task-*.webp")

    def wants(self, name: str, end: str, videos: int) -> bool:
        """Whether trial `name` is, as far as is known, among the first `videos` of its task with
        this `end`."""
        return sum(path.name < name for path in self._films(name, end)) < videos

    def keep_first(self, videos: int) -> None:
        """Drops the videos of all but the first `videos` trials of each end of each task, which
        with several processes is only known at the end."""
        for path in self.videos():
            name, end = path.stem.rsplit("-", 1)
            if not self.wants(name, end, videos):
                with output_errors(path):
                    path.unlink()

    def _films(self, name: str, end: str) -> list[Path]:
        task = name.partition("-trial-")[0]
        return list((self.path / VIDEOS).glob(f"{task}-trial-*-{end}.webp"))


def _told(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card with what older ones, and older servers, do not tell of how the policy runs."""
    if isinstance(says := card.get("says"), Mapping):
        return {**_RUNNING, **DEFAULTS, **card, "says": {**_RUNNING, **says}}
    return {**_RUNNING, **DEFAULTS, **card}


_RUNNING = {"precision": "float32", "sampler": "plain", "batch": 1}
DEFAULTS: Mapping[str, object] = {"action_noise": 0.0, "views": "", "starts": ""}
"""What evaluations had whose cards do not say it."""
_GROWING = ("trials", "different_states", "variations")  # with the number of trials


def _outcome(path: Path, tasks: Collection[str]) -> TrialOutcome:
    content = read_json_object(path, _AGAIN)
    with as_written(path, _AGAIN):
        outcome = TrialOutcome(**content)
        for name in ("task", "trial", "seed", "steps", "plans"):
            as_type(int, getattr(outcome, name))
        if str(outcome.task) not in tasks:
            raise ValueError(f"task {outcome.task} is none of the evaluation's")
        as_type(bool, outcome.success)
        as_type(str, outcome.variation), as_type(str, outcome.group)
        for value in as_type(dict, outcome.measures).values():
            float(value)
    return outcome


_AGAIN = "delete that file: the same `depthtok eval` runs the trial again"


def summary(outcomes: Iterable[TrialOutcome]) -> dict[str, Any]:
    """Success rate with its 95 % interval, and the number of steps of successes."""
    outcomes = list(outcomes)
    steps = [outcome.steps for outcome in outcomes if outcome.success]
    low, high = wilson(len(steps), len(outcomes))
    measures: dict[str, list[float]] = {}
    for outcome in outcomes:
        for name, value in outcome.measures.items():
            measures.setdefault(name, []).append(value)
    return {
        "trials": len(outcomes),
        "successes": len(steps),
        "rate": len(steps) / len(outcomes) if outcomes else None,
        "low": low,
        "high": high,
        "steps": float(np.mean(steps)) if steps else None,
        **{name: float(np.mean(values)) for name, values in sorted(measures.items())},
    }


class Arena:
    """A worker: one policy, one simulator at a time."""

    def __init__(
        self,
        evaluation: Evaluation,
        player: Player,
        build: Callable[[Task], Simulator],
        videos: int,
        measure: Measure | None = None,
        accepted: Collection[str] = (),
    ) -> None:
        self._evaluation, self._player, self._measure = evaluation, player, measure
        self._accepted = accepted
        self._build, self._videos = build, videos
        self._simulator: Simulator | None = None

    def do(self, job: TrialJob) -> TrialOutcome:
        """Runs one trial and commits it."""
        simulator = self._of(job.task)
        rollout = play(simulator, self._player, job.trial, self._accepted, end=False)
        measures = self._measure(self._player, rollout) if self._measure else {}
        self._film(job, rollout, simulator)
        result = (rollout.success, rollout.steps, rollout.plans)
        varied = (job.task.variation.name, job.task.variation.size, job.trial.init_state)
        trial = (job.task.number, job.trial.number, job.trial.seed)
        outcome = TrialOutcome(*trial, *result, measures, *varied)
        self._evaluation.save(outcome)
        return outcome

    def _of(self, task: Task) -> Simulator:
        """The simulator, as this task has it: another one only for another scene."""
        simulator = self._simulator
        if simulator is None or simulator.task.world != task.world:
            if simulator is not None:
                simulator.close()
            self._simulator = simulator = self._build(task)
        elif simulator.task != task:
            simulator.vary(task)
        return simulator

    def _film(self, job: TrialJob, rollout: Rollout, simulator: Simulator) -> None:
        """Keeps the first few successes and failures of every task as videos; only then is the end
        rendered."""
        end = "success" if rollout.success else "failure"
        if self._evaluation.wants(job.name, end, self._videos):
            rollout.see(simulator.render(rollout.camera))
            save_film(self._evaluation.path / VIDEOS / f"{job.name}-{end}.webp", rollout)


def by_task(outcomes: Iterable[TrialOutcome]) -> dict[int, list[TrialOutcome]]:
    """The trials of each task, in the order of the tasks."""
    outcomes = list(outcomes)
    tasks = sorted({outcome.task for outcome in outcomes})
    return {task: [o for o in outcomes if o.task == task] for task in tasks}
