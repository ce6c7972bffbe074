"""How a column of numbers is spread, as far as its statistics tell: constant, at rest most of the
time, or with a spike that would squeeze everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

SPIKE = 10.0
"""How many times the range must exceed q01..q99 to be called a spike: then 98 % of the numbers
share less than a tenth of -1..1, where actions within 0.1 count as right. Normal noise gives 2."""
ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Numbers closer than this, as a share of their size, are equal but for float32."""


@runtime_checkable
class ColumnRanges(Protocol):
    """Statistics of each column in its own unit, as in `depthtok.stores.statistics`."""

    @property
    def min(self) -> Sequence[float]: ...

    @property
    def max(self) -> Sequence[float]: ...

    @property
    def q01(self) -> Sequence[float]: ...

    @property
    def q99(self) -> Sequence[float]: ...


@dataclass(frozen=True)
class Spread:
    """One column: its ends, and the quantiles at 1 % and 99 %."""

    min: float
    max: float
    q01: float
    q99: float

    @classmethod
    def of(cls, columns: ColumnRanges, column: int) -> Spread:
        """The spread of one of the columns."""
        return cls(*(float(getattr(columns, name)[column]) for name in cls.__dataclass_fields__))

    @property
    def constant(self) -> bool:
        return _equal(self.min, self.max)

    @property
    def resting(self) -> bool:
        """Whether it stays at one value, and moves in less than 2 % of the steps."""
        return not self.constant and _equal(self.q01, self.q99)

    @property
    def factor(self) -> float:
        """The range as a multiple of q01..q99; 1 where there is no such range."""
        if self.constant or self.resting:
            return 1.0
        return (self.max - self.min) / (self.q99 - self.q01)

    @property
    def spike(self) -> str | None:
        """`min` or `max`, the end that lies far beyond the quantiles; None where none does."""
        if self.factor <= SPIKE:
            return None
        return "max" if self.max - self.q99 >= self.q01 - self.min else "min"

    @property
    def note(self) -> str:
        """What is unusual, in a few words; "" where nothing is."""
        if self.constant:
            return "constant"
        if self.resting:
            return "rests: q01 = q99"
        return f"{self.spike}: range is {self.factor:.0f} x q01..q99" if self.spike else ""


def _equal(low: float, high: float) -> bool:
    return high - low <= ROUNDING * max(abs(low), abs(high))


def ends(columns: ColumnRanges, column: int, mode: str) -> tuple[float, float]:
    """The two values that become -1 and 1: minimum and maximum (`bounds`), or the quantiles at 1 %
    and 99 % (`q99`). A column whose quantiles are equal keeps its bounds, or its rare motions would
    be lost; of a constant one both ends are the same."""
    spread = Spread.of(columns, column)
    if spread.constant:
        return spread.min, spread.min
    if mode == "q99" and not spread.resting:
        return spread.q01, spread.q99
    if mode not in ("bounds", "q99"):
        raise KeyError(mode)
    return spread.min, spread.max
