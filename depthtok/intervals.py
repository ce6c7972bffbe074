"""Confidence intervals of means and of success rates, and a test for paired trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

Z = 1.959963984540054  # 95 % of a normal distribution
# Student's t, 97.5 %, for 1, 2, ... degrees of freedom; beyond them within 4.2 % of the last.
_QUANTILES = (
    "12.706 4.303 3.182 2.776 2.571 2.447 2.365 2.306 2.262 2.228 2.201 2.179 2.160 2.145 2.131 "
    "2.120 2.110 2.101 2.093 2.086 2.080 2.074 2.069 2.064 2.060 2.056 2.052 2.048 2.045 2.042"
)
STUDENT = tuple(map(float, _QUANTILES.split()))


@dataclass(frozen=True)
class Estimate:
    """A mean and half its 95 % interval; `half` is NaN for a single run."""

    mean: float
    half: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """By Student's t, as for normal values of unknown spread."""
        count = len(values)
        if count < 2:
            return cls(fmean(values), math.nan, count)
        t = STUDENT[min(count - 1, len(STUDENT)) - 1]
        return cls(fmean(values), t * stdev(values) / math.sqrt(count), count)

    def __str__(self) -> str:
        if math.isnan(self.half):
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} ± {self.half:.2g}"


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a success rate (Wilson 1927): sound for few trials, and at 0 and 1."""
    if not trials:
        return 0.0, 1.0
    rate, z2 = successes / trials, Z * Z
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    half = Z * spread / (1 + z2 / trials)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high


@dataclass(frozen=True)
class Paired:
    """Two policies on the same trials: how often only one of them succeeded, and what follows."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def trials(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def difference(self) -> float:
        """Success rate of B minus that of A."""
        return (self.only_b - self.only_a) / self.trials if self.trials else 0.0

    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference (Agresti and Min 2005: Wald after half a trial is
        added to each of the four counts)."""
        n, a, b = self.trials + 2, self.only_a + 0.5, self.only_b + 0.5
        centre = (b - a) / n
        half = Z * math.sqrt(a + b - (b - a) ** 2 / n) / n
        return max(-1.0, centre - half), min(1.0, centre + half)

    def p_value(self) -> float:
        """Two-sided exact test of McNemar: the chance of so uneven a split of equal policies."""
        n, few = self.only_a + self.only_b, min(self.only_a, self.only_b)
        tail = sum(math.comb(n, k) for k in range(few + 1)) / 2**n
        return min(1.0, 2 * tail)


def paired(a: dict[str, bool], b: dict[str, bool]) -> Paired:
    """Counts over the trials that both did."""
    common = [(a[name], b[name]) for name in a if name in b]
    return Paired(*(common.count(case) for case in CASES))


CASES = ((True, True), (True, False), (False, True), (False, False))
