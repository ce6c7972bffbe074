"""Whether the error of a policy's depth codes in a trial foretells that the trial is lost.

Where `eval` knew the codebook, a trial has the error of the predicted codes, decoded, against true
depth: over all plans, and over the first ones. The former also grows where a policy got lost. Of
the latter there are two: with the range of depth of those plans alone, which is known before a
trial is decided, and with that of all plans (all that earlier evaluations have), which is not: what
is seen later changes the scale of the first errors. A training tells how often a lost trial has a
larger error than a won one (the area under the ROC curve: 50 % by chance); trainings are the
sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from depthtok.intervals import Estimate
from depthtok.pages.plots import ForestRow
from pipelines.ablate.seed_result import SeedResult
from vla.config import Config

WHEN = {
    "early_own_error": "its first plans",
    "early_disparity_error": "its first plans, on the scale of the whole trial",
    "disparity_error": "all its plans",
}
FIFTHS = ("smallest fifth of errors", "second", "third", "fourth", "largest fifth of errors")


@dataclass(frozen=True)
class Foretelling:
    """Of one arm and one figure of its trials. Values are shares of 1."""

    arm: str
    when: str  # which plans the error is of, in words
    areas: tuple[float, ...]  # by training that both won and lost trials of one task
    rates: tuple[Estimate, ...]  # success by fifth of a training's errors in a task, over trainings
    trainings: int  # that have errors

    @classmethod
    def of(cls, arm: str, measure: str, results: Sequence[SeedResult]) -> Foretelling | None:
        """Of all trainings with true codes whose trials have this figure; None where there are
        none."""
        results = [result for result in results if _is_taught(result)]
        tables = [table for result in results if (table := _table(result, measure)) is not None]
        if not tables:
            return None
        areas = [area for table in tables if (area := _area(*table)) is not None]
        by_fifth = np.array([_rates(*table) for table in tables])
        rates = tuple(Estimate.of(column.tolist()) for column in by_fifth.T)
        return cls(arm, WHEN[measure], tuple(areas), rates, len(tables))

    def told(self) -> str:
        """What is seen, in words."""
        about = f"{self.arm}: the error of predicted codes in {self.when}"
        if len(self.areas) < 2:
            return (
                f"{about} was not tested: {len(self.areas)} training(s) won and lost trials of one "
                "task."
            )
        area = Estimate.of([100 * value for value in self.areas])
        low, high = area.mean - area.half, area.mean + area.half
        verdict = (
            "it foretells failure"
            if low > 50
            else "it foretells success"
            if high < 50
            else "that it foretells anything is not shown"
        )
        return (
            f"{about} was larger in a lost trial than in a won one in {area.mean:.0f} % of pairs "
            f"(95 % interval over {area.count} trainings {low:.0f} to {high:.0f}; chance is 50): "
            f"{verdict}."
        )

    def rows(self) -> list[ForestRow]:
        """Success by fifth, %, with its interval over trainings."""
        rows: list[ForestRow] = []
        for name, rate in zip(FIFTHS, self.rates, strict=True):
            several = rate.count > 1
            low, high = 100 * (rate.mean - rate.half), 100 * (rate.mean + rate.half)
            limits = (max(0.0, low), min(100.0, high)) if several else (None, None)
            rows.append((name, 100 * rate.mean, *limits))
        return rows

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "arm": self.arm,
            "when": self.when,
            "areas": list(self.areas),
            "rates": [rate.mean for rate in self.rates],
            "trainings": self.trainings,
            "told": self.told(),
        }


def foretellings(arms: Mapping[str, Sequence[SeedResult]]) -> list[Foretelling]:
    """Of every arm that has errors, by the first plans and by all."""
    every = [Foretelling.of(arm, name, results) for arm, results in arms.items() for name in WHEN]
    return [one for one in every if one is not None]


def _is_taught(result: SeedResult) -> bool:
    """Whether a training was taught the true codes of its frames."""
    depth = Config.from_json(result.config).model.depth
    return depth.expert and depth.target == "codes" and not result.codes


Errors = Float64[np.ndarray, " K"]
Won = Bool[np.ndarray, " K"]
Tasks = Int64[np.ndarray, " K"]  # a number for each trial's


def _table(result: SeedResult, measure: str) -> tuple[Errors, Won, Tasks] | None:
    """Errors of a training's trials, which were won, and of which task; None where fewer have an
    error than there are fifths."""
    trials = {n: trial for n, trial in result.trials.items() if trial.get(measure) is not None}
    if len(trials) < len(FIFTHS):
        return None
    errors = np.array([trial[measure] for trial in trials.values()], np.float64)
    won = np.array([trial["success"] for trial in trials.values()], bool)
    names = [name.rpartition("-trial-")[0] for name in trials]  # task-08-trial-000
    return errors, won, np.unique(names, return_inverse=True)[1].astype(np.int64)


def _area(errors: Errors, won: Won, tasks: Tasks) -> float | None:
    """How often a lost trial has the larger error, of all pairs with a won one of its task, ties by
    half; None where there are no such pairs."""
    pairs = (tasks[:, None] == tasks) & ~won[:, None] & won
    if not pairs.any():
        return None
    apart = (errors[:, None] - errors)[pairs]
    return float((apart > 0).mean() + (apart == 0).mean() / 2)


def _rates(errors: Errors, won: Won, tasks: Tasks) -> Float64[np.ndarray, " 5"]:
    """Success by fifth of the errors within tasks, in ascending order; ties keep the order of the
    trials."""
    share = np.empty(len(errors))  # of its task's errors that are below a trial's
    for task in np.unique(tasks):
        (rows,) = np.nonzero(tasks == task)
        share[rows[np.argsort(errors[rows], kind="stable")]] = (np.arange(len(rows)) + 0.5) / len(
            rows
        )
    order = np.argsort(share, kind="stable")
    return np.array([won[part].mean() for part in np.array_split(order, len(FIFTHS))])
