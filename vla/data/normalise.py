"""Maps actions and proprioception to -1..1 and back, with stored statistics of the data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from depthtok.errors import ConfigError
from depthtok.stores import spread
from depthtok.stores.agreement import GripperChange
from depthtok.stores.spread import ColumnRanges


@dataclass(frozen=True)
class Scale:
    """Column d maps low[d]..high[d] to -1..1, clipped; columns in `keep` are unchanged.

    A constant column becomes 0, and is restored as `low`.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    keep: tuple[int, ...] = ()

    @classmethod
    def of(cls, columns: ColumnRanges, mode: str, keep: Sequence[int] = ()) -> Scale:
        """A scale by `bounds` (minimum and maximum) or `q99` (1 % and 99 % quantiles; the bounds
        of a column where those are equal). Raises `ConfigError` for a column in `keep` that is
        not there."""
        width = len(columns.min)
        if any(not -width <= index < width for index in keep):
            raise ConfigError(
                f"gripper columns {tuple(keep)} are out of range: the action has {width} numbers"
            )
        ends = [spread.ends(columns, column, mode) for column in range(width)]
        low, high = zip(*ends, strict=True) if ends else ((), ())
        return cls(low, high, tuple(sorted(index % width for index in keep)))

    def changed(self, change: GripperChange | None) -> Scale:
        """The same for actions whose gripper is in another convention: columns in `keep` are not
        scaled, but their ends are stated."""
        if change is None:
            return self
        ends = np.sort(change(np.array([self.low, self.high])), axis=0)
        return replace(self, low=tuple(ends[0].tolist()), high=tuple(ends[1].tolist()))

    def apply(self, values: Float[np.ndarray, "... D"]) -> Float32[np.ndarray, "... D"]:
        """Normalised values."""
        low, width = self._span
        scaled = np.where(width > 0, (values - low) / np.where(width > 0, width, 1) * 2 - 1, 0)
        return self._with_kept(scaled.clip(-1, 1), values)

    def undo(self, values: Float[np.ndarray, "... D"]) -> Float32[np.ndarray, "... D"]:
        """Values in the data set's own units."""
        low, width = self._span
        return self._with_kept((values + 1) / 2 * width + low, values)

    @cached_property
    def _span(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.asarray(self.low), np.asarray(self.high)
        return low, np.where(high > low, high - low, 0)

    def _with_kept(self, scaled: np.ndarray, values: np.ndarray) -> np.ndarray:
        keep = list(self.keep)
        scaled[..., keep] = values[..., keep]
        return scaled.astype(np.float32)


@dataclass(frozen=True)
class Norms:
    """How one data set's numbers are normalised. Stored in every checkpoint."""

    action: Scale
    proprio: Scale

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Norms:
        return cls(
            *(
                Scale(**{name: tuple(values) for name, values in data[part].items()})
                for part in ("action", "proprio")
            )
        )
