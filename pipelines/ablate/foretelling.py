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
from jaxtyping import Bool, Float64

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
    areas: tuple[float, ...]  # by training that both won and lost trials
    rates: tuple[Estimate, ...]  # success by fifth of a training's errors, over trainings
    trainings: int  # that have errors

    @classmethod
    def of(cls, arm: str, measure: str, results: Sequence[SeedResult]) -> Foretelling | None:
        """Of all trainings with true codes whose trials have this figure; None where there are
        none."""
        results = [result for result in results if _is_taught(result)]
        tables = [table for result in results if (table := _table(result, measure)) is not None]
        if not tables:
            return None
        areas = [area for errors, won in tables if (area := _area(errors, won)) is not None]
        by_fifth = np.array([_rates(errors, won) for errors, won in tables])
        rates = tuple(Estimate.of(column.tolist()) for column in by_fifth.T)
        return cls(arm, WHEN[measure], tuple(areas), rates, len(tables))

    def told(self) -> str:
        """What is seen, in words."""
        about = f"{self.arm}: the error of predicted codes in {self.when}"
        if len(self.areas) < 2:
            return f"{about} was not tested: {len(self.areas)} training(s) won and lost trials."
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


def _table(
    result: SeedResult, measure: str
) -> tuple[Float64[np.ndarray, " K"], Bool[np.ndarray, " K"]] | None:
    """Errors of a training's trials, and which were won; None where fewer have an error than there
    are fifths."""
    trials = [trial for trial in result.trials.values() if trial.get(measure) is not None]
    if len(trials) < len(FIFTHS):
        return None
    errors = np.array([trial[measure] for trial in trials], np.float64)
    return errors, np.array([trial["success"] for trial in trials], bool)


def _area(errors: Float64[np.ndarray, " K"], won: Bool[np.ndarray, " K"]) -> float | None:
    """How often a lost trial has the larger error, ties by half; None where all
    were won, or all lost."""
    if won.all() or not won.any():
        return None
    apart = errors[~won][:, None] - errors[won][None]
    return float((apart > 0).mean() + (apart == 0).mean() / 2)


def _rates(
    errors: Float64[np.ndarray, " K"], won: Bool[np.ndarray, " K"]
) -> Float64[np.ndarray, " 5"]:
    """Success by fifth of the errors, in ascending order; ties keep the order of the trials."""
    order = np.argsort(errors, kind="stable")
    return np.array([won[part].mean() for part in np.array_split(order, len(FIFTHS))])
