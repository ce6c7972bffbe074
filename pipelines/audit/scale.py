"""Whether depth in metres has the right scale: estimated over true depth, before any alignment.

An image is cut into REGIONS x REGIONS regions. Each has one ratio, the median over its pixels in
some frames of the clip; the clip's factor is their median, and its interval the order statistics
between which that median lies with 95 % (pixels are no independent witnesses, and regions nearly
are). Medians leave out edges, reflections and a bad corner.

A factor is wrong where its whole interval lies beyond TOLERANCE. That is the factor of delta1:
within it the field's own figure counts depth as right, and metric networks are off by as much from
one room to the next. Units that are confused are further apart, except a metre of 1024 steps and
one of 1000; that one is named where the interval leaves no doubt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float

REGIONS = 4  # along each side
FEWEST = 8  # valid pixels of a region
CONFIDENCE = 0.95
TOLERANCE = 1.25
NEAR = 1.01  # a ratio of units this close to the interval explains it: readings are rounded
STORED = {"0.1 mm": 10000, "m/5000": 5000, "mm": 1000, "cm": 100, "m": 1, "m/1024": 1024}
"""Units that depth is stored in, by how many are a metre."""
MIXED = tuple(
    (stored, read, STORED[stored] / STORED[read])
    for stored in STORED
    for read in STORED
    if stored != read
)
"""What was stored in one unit and read as another, and how many times too large it then is."""
BARELY = 1.024  # the factor of m/1024 and mm


@dataclass(frozen=True)
class DepthScale:
    """Estimated depth is `factor` times the true one; with 95 % between `low` and `high`."""

    factor: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.factor:#.4g} times ({self.low:#.4g} to {self.high:#.4g})"

    @property
    def wrong(self) -> bool:
        """Whether the whole interval is beyond the tolerance, or is that of 1024 and 1000."""
        return self.low > TOLERANCE or self.high < 1 / TOLERANCE or self._barely

    @property
    def _barely(self) -> bool:
        half = math.sqrt(BARELY)
        return any(r / half < self.low and self.high < r * half for r in (BARELY, 1 / BARELY))

    @property
    def causes(self) -> tuple[tuple[str, str], ...]:
        """The units that were confused, as (stored, read): those whose ratio is nearest, if any is
        near. A metre of 1024 steps only where nothing else explains the factor."""
        fits = [m for m in MIXED if self.low / NEAR <= m[2] <= self.high * NEAR]
        fits = [m for m in fits if "m/1024" not in m[:2]] or fits
        best = min((abs(math.log(m[2] / self.factor)) for m in fits), default=0.0)
        return tuple(m[:2] for m in fits if abs(math.log(m[2] / self.factor)) < best + 1e-9)


def scale_of(
    estimated: Float[np.ndarray, "n H W"],
    true: Float[np.ndarray, "n H W"],
    valid: Bool[np.ndarray, "n H W"],
) -> DepthScale | None:
    """The scale of some frames, both in metres; None where too few pixels are valid in both."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(estimated.astype(np.float64) / true)
    rows, columns = (np.array_split(np.arange(n), REGIONS) for n in valid.shape[1:])
    medians = []
    for row, column in product(filter(len, rows), filter(len, columns)):
        region = (slice(None), slice(row[0], row[-1] + 1), slice(column[0], column[-1] + 1))
        if valid[region].sum() >= FEWEST:
            medians.append(float(np.median(logs[region][valid[region]])))
    return of_medians(medians)


def of_medians(logs: list[float]) -> DepthScale | None:
    """The median of some logarithms of factors with its interval; None where there are none."""
    if not logs:
        return None
    low, high = interval(len(logs))
    factors = np.exp([np.median(logs), sorted(logs)[low], sorted(logs)[high]])
    return DepthScale(*factors.tolist())


def interval(count: int) -> tuple[int, int]:
    """The ranks (from 0) of the values between which the median lies with 95 %; the smallest and
    the largest where there are too few for that."""
    below, ways, tail = 0, 1, 1  # of `below` values below the median, in whole numbers
    while tail / (1 << count) <= (1 - CONFIDENCE) / 2:
        below += 1
        ways = ways * (count - below + 1) // below
        tail += ways
    rank = max(below - 1, 0)
    return rank, count - 1 - rank
