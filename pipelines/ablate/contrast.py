"""The difference of two arms, with an interval that contains both levels: trainings and trials.

Seeds and trials are crossed: every training plays the same trials. Of the differences by seed and
trial the variance of the mean is (MS_seed + MS_trial - MS_rest) / (S K), the usual estimate for
crossed random effects; where trials do not differ beyond their noise, MS_seed / (S K) remains, and
the interval is that of the paired t test over seeds. Degrees of freedom by Satterthwaite.

The test is over seeds: paired, by Student's t. The interval asks for more, namely that the
difference would be seen with other trials, too. Where all seeds have the same difference (few
trials, or all won) no spread is seen: the test is that of signs, and the interval is not known.
"""

# S seeds of both arms, K trials of all their trainings

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from pipelines.ablate.student import beyond, limit_of, shift_for, spread_interval
from vla.evaluation.compare import CERTAIN, sign_flip


@dataclass(frozen=True)
class Contrast:
    """Success rate of arm `a` minus that of arm `b`, over the seeds and trials that both have."""

    a: str
    b: str
    seeds: int
    trials: int
    rates: tuple[float, float]
    half: float  # of the 95 % interval; NaN for one seed, and where no spread is seen
    p_value: float  # paired t test over seeds; NaN for one seed
    testable: tuple[float, float, float]  # smallest difference with 80 % power: by the spread seen,
    #                                       and by the ends of its 95 % interval; NaN: none is seen
    by_seed: tuple[float, ...]

    @property
    def difference(self) -> float:
        return self.rates[0] - self.rates[1]

    @classmethod
    def of(
        cls, a: str, b: str, won_a: Bool[np.ndarray, "S K"], won_b: Bool[np.ndarray, "S K"]
    ) -> Contrast:
        """Of the successes of both arms, in one order of seeds and trials (at least one each)."""
        rates = float(won_a.mean()), float(won_b.mean())
        table = won_a.astype(np.float64) - won_b
        by_seed = table.mean(axis=1)
        seeds, trials = table.shape
        if seeds < 2:
            unknown = (math.nan,) * 3
            return cls(a, b, 1, trials, rates, math.nan, math.nan, unknown, (*by_seed,))
        half, p_value = _interval(table), _p_value(by_seed)
        return cls(
            a,
            b,
            seeds,
            trials,
            rates,
            half,
            p_value,
            _testable(table),
            tuple(by_seed.tolist()),
        )

    @property
    def p_signs(self) -> float:
        """Of the permutation test over the signs of the seeds' differences."""
        return sign_flip(np.array(self.by_seed))

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, of both levels; all that there could be where it is not known."""
        if not self.limits_known:
            return -1.0, 1.0
        return max(-1.0, self.difference - self.half), min(1.0, self.difference + self.half)

    @property
    def limits_known(self) -> bool:
        """Whether the interval is: one seed has none, nor have seeds that all say the same."""
        return not math.isnan(self.half)

    @property
    def verdict(self) -> str:
        """What is shown, in words."""
        if self.seeds < 2:
            return "one seed: nothing can be said"
        low, high = self.interval
        if self.p_value >= CERTAIN:
            return "no difference shown"
        which = f"{self.a if self.difference > 0 else self.b} is better"
        if low <= 0 <= high:
            return f"{which} on these trials; with other trials it may not be"
        return which

    def limits(self) -> str:
        """What cannot be concluded, in words."""
        name = f"{self.a} - {self.b}"
        if self.seeds < 2:
            return f"{name}: trainings of one seed tell nothing of other seeds; no test was made."
        if math.isnan(self.testable[0]):
            return (
                f"{name}: all trials of {self.seeds} seeds have one difference, so that no spread "
                "is seen, and what was testable is not known."
            )
        points, low, high = (math.ceil(100 * value) for value in self.testable)
        return (
            f"{name}: differences under {points} points were not testable with {self.seeds} seeds "
            f"and {self.trials} trials (80 % power; {low} to {high} points, as the spread between "
            f"{self.seeds} seeds is itself known no better). That no difference is shown does not "
            "say that there is none."
        )

    def row(self) -> list[str | int | float]:
        """Cells of a table, in points."""
        low, high = (f"{100 * x:+.1f}" if self.limits_known else "unknown" for x in self.interval)
        p_value = f"{self.p_value:.2g}" if self.seeds > 1 else "no test"
        difference = f"{100 * self.difference:+.1f}"
        name = f"{self.a} - {self.b}"
        return [name, self.seeds, self.trials, difference, low, high, p_value, self.verdict]

    def to_json(self) -> dict[str, object]:
        """Plain values; None for what is not known."""
        low, high = self.interval if self.limits_known else (None, None)
        several, testable = self.seeds > 1, not math.isnan(self.testable[0])
        names = ("testable", "testable_low", "testable_high")
        return {
            "a": self.a,
            "b": self.b,
            "seeds": self.seeds,
            "trials": self.trials,
            "rate_a": self.rates[0],
            "rate_b": self.rates[1],
            "difference": self.difference,
            "low": low,
            "high": high,
            "p_value": self.p_value if several else None,
            "p_signs": self.p_signs if several else None,
            "by_seed": list(self.by_seed),
            **{n: v if testable else None for n, v in zip(names, self.testable, strict=True)},
            "verdict": self.verdict,
        }


ROW = ("difference", "seeds", "trials", "points", "from", "to", "p (paired t)", "verdict")


def _interval(table: Float64[np.ndarray, "S K"]) -> float:
    """Half the 95 % interval of the mean, with seeds and trials as crossed random effects; NaN
    where no spread between seeds is seen."""
    seeds, trials = table.shape
    rows, columns, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    if _alike(rows):
        return math.nan
    of_seeds = trials * rows.var(ddof=1)
    if trials < 2:
        return limit_of(CERTAIN, seeds - 1) * math.sqrt(of_seeds / (seeds * trials))
    rest = table - rows[:, None] - columns[None] + mean
    freedom = (seeds - 1) * (trials - 1)
    of_rest = float((rest**2).sum()) / freedom
    of_trials = max(seeds * columns.var(ddof=1) - of_rest, 0.0)
    total = of_seeds + of_trials
    parts = of_seeds**2 / (seeds - 1)
    if of_trials:
        parts += (of_trials + of_rest) ** 2 / (trials - 1) + of_rest**2 / freedom
    degrees = max(1, min(round(total**2 / parts), seeds * trials))
    return limit_of(CERTAIN, degrees) * math.sqrt(total / (seeds * trials))


def _p_value(by_seed: Float64[np.ndarray, " S"]) -> float:
    """Two-sided, of a paired t test; of the signs where all differences are the same."""
    if _alike(by_seed):
        return sign_flip(by_seed)
    error = by_seed.std(ddof=1) / math.sqrt(len(by_seed))
    return beyond(abs(float(by_seed.mean())) / error, len(by_seed) - 1)


def _alike(differences: Float64[np.ndarray, " n"]) -> bool:
    """Whether all differences are the same. Their standard deviation does not say it: of
    three times 0.1 it is 1.7e-17, and a t test by that finds everything certain."""
    return bool(np.ptp(differences) == 0)


def _testable(table: Float64[np.ndarray, "S K"]) -> tuple[float, float, float]:
    """The smallest difference that the paired t test finds with 80 % power: by the spread between
    seeds that is seen (at least that of the trials' noise), and by the ends of its interval; NaN
    where neither is seen."""
    if _alike(table.ravel()):
        return (math.nan,) * 3
    seeds, trials = table.shape
    noise = table.var(axis=1, ddof=1).mean() / trials if trials > 1 else 0.0
    deviation = math.sqrt(max(float(table.mean(axis=1).var(ddof=1)), float(noise)))
    shift = shift_for(0.8, seeds - 1) / math.sqrt(seeds)
    low, high = spread_interval(deviation, seeds - 1)
    return min(shift * deviation, 1.0), min(shift * low, 1.0), min(shift * high, 1.0)


def contrasts(
    arms: dict[str, dict[int, dict[str, bool]]], pairs: Sequence[tuple[str, str]]
) -> list[Contrast]:
    """The differences of pairs of arms: successes by arm, seed and trial. Seeds that both have, and
    trials that all of their trainings played; pairs with none are left out."""
    compared = []
    for a, b in pairs:
        seeds = sorted(arms.get(a, {}).keys() & arms.get(b, {}).keys())
        if not seeds:
            continue
        every = [arms[arm][seed].keys() for arm in (a, b) for seed in seeds]
        trials = sorted(set.intersection(*map(set, every)))
        if trials:
            won = [
                np.array([[arms[arm][seed][t] for t in trials] for seed in seeds], bool)
                for arm in (a, b)
            ]
            compared.append(Contrast.of(a, b, won[0], won[1]))
    return compared
