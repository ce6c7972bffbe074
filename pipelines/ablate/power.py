"""How many seeds and trials a difference takes: a two-level model.

The success rate of a training is p + (effect of its arm) + u, with u normal between trainings, of
standard deviation tau; its n trials are Bernoulli. So a difference of two arms of S trainings each
has the variance 2/S (tau^2 + p (1 - p) / n), and is tested as it will be: paired by seed, by
Student's t with S - 1 degrees of freedom, two-sided at 5 %. Trainings of one seed are taken as
independent between arms: where they are alike, fewer do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from pipelines.ablate.student import beyond, limit_of, spread_interval

POWER, SHARE = 0.8, 0.05
MOST_SEEDS = 5000
ASSUMED_RATE, ASSUMED_TAUS = 0.5, (0.03, 0.09)
DIFFERENCES = (0.03, 0.05, 0.08, 0.12)
TRIALS = (50, 100, 200)


@dataclass(frozen=True)
class RateSpread:
    """What trainings have shown: mean rate, and the variances of their observed rates."""

    rate: float
    between: float  # variance of observed rates between the seeds of an arm
    within: float  # of which trials make up so much
    freedom: int  # of `between`

    @classmethod
    def of(cls, arms: Sequence[Sequence[float]], trials: int) -> RateSpread | None:
        """Of observed rates by arm and seed, `trials` each. None where no arm has two seeds,
        trainings have one trial, or seeds do not differ: few trials, or all won, say nothing of
        the spread."""
        several = [rates for rates in arms if len(rates) > 1]
        if not several or trials < 2:
            return None
        freedom = sum(len(rates) - 1 for rates in several)
        between = sum(variance(rates) * (len(rates) - 1) for rates in several) / freedom
        if not between:
            return None
        every = [rate for rates in arms for rate in rates]
        within = fmean(rate * (1 - rate) for rate in every) / (trials - 1)
        return cls(fmean(every), between, within, freedom)

    @property
    def tau(self) -> float:
        """Standard deviation between trainings beyond that of trials; 0 where none is seen."""
        return math.sqrt(max(self.between - self.within, 0.0))

    def words(self) -> str:
        """What was seen, in points."""
        low, high = spread_interval(math.sqrt(self.between), self.freedom)
        return (
            f"Seen so far: mean rate {100 * self.rate:.0f} %; between seeds of an arm observed "
            f"rates differ by {100 * self.between**0.5:.1f} points (standard deviation, 95 % "
            f"interval {100 * low:.0f} to {100 * high:.0f}, {self.freedom} degrees of freedom), of "
            f"which trials explain {100 * self.within**0.5:.1f}; the trainings' own, tau, is "
            f"{100 * self.tau:.0f}."
        )


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a training and of a trial."""

    training: float
    trial: float

    def hours(self, seeds: int, trials: int, arms: int) -> float:
        """Of an experiment."""
        return arms * seeds * (self.training + trials * self.trial) / 3600


def power(seeds: int, difference: float, tau: float, trials: int, rate: float) -> float:
    """The chance that the paired test finds a difference, with so many seeds an arm."""
    error = math.sqrt(2 / seeds * (tau**2 + rate * (1 - rate) / trials))
    freedom = seeds - 1
    return beyond(limit_of(SHARE, freedom), freedom, difference / error)


def seeds_for(difference: float, tau: float, trials: int, rate: float) -> int | None:
    """The fewest seeds an arm that find a difference with `POWER`; None beyond `MOST_SEEDS`."""
    low, high = 1, 2
    while power(high, difference, tau, trials, rate) < POWER:
        if high >= MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        short = power(middle, difference, tau, trials, rate) < POWER
        low, high = (middle, high) if short else (low, middle)
    return high


@dataclass(frozen=True)
class PowerPlan:
    """What differences would take, from what is known of the spread and the cost."""

    arms: int
    seeds: int  # that the study has
    trials: int  # that it has for a training; 0: none are played
    differences: tuple[float, ...]
    spread: RateSpread | None
    cost: Cost | None
    of_one_task: bool = False  # whether `trials` are of one, as how many a suite has is not known

    @property
    def rate(self) -> float:
        return self.spread.rate if self.spread else ASSUMED_RATE

    @property
    def taus(self) -> tuple[float, ...]:
        """The spreads between trainings that are reckoned with."""
        return (self.spread.tau,) if self.spread else ASSUMED_TAUS

    def rows(self) -> list[tuple[float, float, int, int | None, float | None]]:
        """Difference, tau, trials, seeds an arm, CPU-hours of all arms."""
        rows = []
        for tau in self.taus:
            for difference in self.differences:
                for trials in sorted({*TRIALS, self.trials} - {0}):
                    seeds = seeds_for(difference, tau, trials, self.rate)
                    hours = None
                    if self.cost and seeds is not None:
                        hours = self.cost.hours(seeds, trials, self.arms)
                    rows.append((difference, tau, trials, seeds, hours))
        return rows

    def words(self) -> list[str]:
        """The model, what it starts from, and the table."""
        unknown = (
            f"No spread is known yet: reckoned for a rate of {100 * ASSUMED_RATE:.0f} % and a tau "
            "of 3 and of 9 points. Seeds of an arm with different rates tell more."
        )
        lines = [
            "Two levels: a training's success rate is p + effect + u, u normal with standard "
            "deviation tau between trainings; its trials are Bernoulli. Difference of two arms, t "
            f"test paired by seed, two-sided {100 * SHARE:.0f} %, power {100 * POWER:.0f} %; where "
            "trainings of one seed are alike, fewer do.",
            self.spread.words() if self.spread else unknown,
            f"{'points':>6} {'tau':>4} {'trials':>6} {'seeds/arm':>9} {'CPU-hours':>9}"
            f"  ({self.arms} arms)",
        ]
        for difference, tau, trials, seeds, hours in self.rows():
            needed = f"> {MOST_SEEDS}" if seeds is None else str(seeds)
            cost = "unknown" if hours is None else f"{hours:.0f}"
            lines.append(
                f"{100 * difference:6.0f} {100 * tau:4.0f} {trials:6} {needed:>9} {cost:>9}"
            )
        return [*lines, *self._of_study()]

    def _of_study(self) -> list[str]:
        """What the study as it is written could find."""
        if not self.trials or self.seeds < 2:
            return ["This study as it is written (one seed, or no trials) can test no difference."]
        lines = []
        for tau in self.taus:
            points = next(
                p for p in range(1, 102) if p == 101 or self._finds(p / 100, tau) >= POWER
            )
            lines.append(
                f"This study ({self.seeds} seeds, {self.trials} trials; tau {100 * tau:.0f}) finds "
                + (f"{points} points or more." if points <= 100 else "no difference.")
            )
        if self.of_one_task:
            lines.append(
                f"{self.trials} are the trials of one task; the suite has more: how many is known "
                "where its simulator is installed."
            )
        return lines

    def _finds(self, difference: float, tau: float) -> float:
        return power(self.seeds, difference, tau, self.trials, self.rate)

    def to_json(self) -> dict[str, object]:
        """The rows, and what they were reckoned from."""
        names = ("difference", "tau", "trials", "seeds", "cpu_hours")
        spread = self.spread and {**vars(self.spread), "tau": self.spread.tau}
        return {
            "arms": self.arms,
            "spread": spread,
            "cost_s": self.cost and vars(self.cost),
            "rate": self.rate,
            "rows": [dict(zip(names, row, strict=True)) for row in self.rows()],
        }
