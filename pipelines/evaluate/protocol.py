"""The protocol of an evaluation: which trials it has, and what its card says of them.

Everything here moves success rates: suite and step limit, idle steps before a trial, actions
between two queries, noise on actions, views and robot starts, which checkpoint was taken, and how
many different starts the trials really have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from depthtok.log import warn
from pipelines.evaluate.trials import TrialJob
from pipelines.sim.benchmark import Benchmark, benchmark_of, numbered
from pipelines.sim.config import EvalConfig, numbers
from pipelines.sim.rollout import Trial
from pipelines.sim.simulator import Task


@dataclass(frozen=True)
class Protocol:
    """The tasks of an evaluation, and all of its trials."""

    settings: EvalConfig
    tasks: Sequence[Task]
    jobs: Sequence[TrialJob]

    @classmethod
    def of(cls, settings: EvalConfig) -> Protocol:
        """What the settings ask for. Raises `ConfigError` for what there is not."""
        chosen = numbers(settings.tasks, "tasks")
        benchmark = benchmark_of(settings.suite)
        every = benchmark.tasks(settings.suite)
        tasks = [numbered(settings.suite, number) for number in chosen] or every
        jobs = [job for task in tasks for job in _jobs(task, settings, benchmark)]
        return cls(settings, tasks, jobs)

    def card(self) -> dict[str, object]:
        """Its entries in the card. `variations` are those of every trial, by task; `step_limits`
        are of a suite without one of its own, whose `max_steps` are 0 if none were asked for."""
        settings, benchmark = self.settings, benchmark_of(self.settings.suite)
        card: dict[str, object] = {
            "suite": settings.suite,
            "trials": settings.trials,
            "seed": settings.seed,
            "replan_steps": settings.replan_steps,
            "max_steps": settings.max_steps or benchmark.suites()[settings.suite],
            "size": settings.size,
            "settle_steps": settings.settle_steps,
            "action_noise": settings.action_noise,
            "views": settings.views,
            "starts": settings.starts,
            "different_states": {str(task.number): self._different(task) for task in self.tasks},
            "orientation": benchmark.orientation,
            "tasks": {str(task.number): task.instruction for task in self.tasks},
            "videos": settings.videos,
        }
        if not benchmark.suites()[settings.suite]:
            card["step_limits"] = {str(task.number): task.max_steps for task in self.tasks}
        if any(job.task.variation.name for job in self.jobs):
            card["variations"] = {
                str(task.number): [job.task.variation.name for job in self._of(task)]
                for task in self.tasks
            }
        return card

    def _of(self, task: Task) -> list[TrialJob]:
        return [job for job in self.jobs if job.task.number == task.number]

    def _different(self, task: Task) -> int:
        """How many different official initial states the trials of a task have."""
        used = sorted({job.trial.state for job in self._of(task)})
        states = benchmark_of(task.suite).initial_states(task)
        return len(np.unique(states[used], axis=0))

    def warn_of_repeats(self) -> None:
        """Says where trials of a task start from the same state, with nothing else varied."""
        repeated = []
        for task in self.tasks:
            starts = Counter((job.trial.state, job.task.variation.name) for job in self._of(task))
            if len(starts) < len(self._of(task)):
                repeated.append(f"{task.number} ({len(starts)} of {len(self._of(task))})")
        if repeated:
            warn(
                "official initial states are repeated (only fixtures and the policy's noise then "
                f"differ), so these trials say less than their number: task {', '.join(repeated)}"
            )


def _jobs(task: Task, settings: EvalConfig, benchmark: Benchmark) -> Iterable[TrialJob]:
    """All trials of a task."""
    for number, version in enumerate(_versions(task, settings, benchmark)):
        state = number % task.init_states  # of LIBERO-Plus's tasks the first, the only one
        trial = Trial(
            number,
            version.seed("eval", settings.seed, number),
            settings.max_steps or task.max_steps,
            settings.replan_steps,
            None if state == number else state,
            settings.action_noise,
        )
        yield TrialJob(version, trial)


def _versions(task: Task, settings: EvalConfig, benchmark: Benchmark) -> Iterable[Task]:
    """The task as each of its trials has it."""
    if variations := benchmark.variations(task):
        return variations[: settings.trials]
    ranges = benchmark.ranges(settings.views, settings.starts)
    if not ranges:
        return [task] * settings.trials
    seeds = (task.seed("variation", settings.seed, k) for k in range(settings.trials))
    return [replace(task, variation=ranges.draw(seed)) for seed in seeds]


def choice(card: Mapping[str, object]) -> str:
    """Which checkpoint was evaluated, and by what it was chosen."""
    step = f"step {card['step']}: " if "step" in card else ""
    return f"{step}{card.get('chosen_by', 'not told by what it was chosen')}"
