"""A data set's own depth in metres, without the pixels that hold no measurement.

0, less than 0 and what is not finite never is depth. Beyond that a view says what is none
(`NotMeasured`):

- the stored values that the data set's schema names, and depth beyond the largest it allows;
- the usual placeholders (the dtype's maximum, 65504, 1e10, ...) where they stand apart in the clip:
  of its pixels from 9/10 to 10/9 of such a value, at most one per hundred is another number. A
  surface that reaches the end of the sensor's range does not stand apart.

Placeholders are stored numbers, without any unit, and stand apart in a whole clip or not at all:
how it is cut into blocks does not matter. A clip is read ahead when the first candidate turns up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped

from depthtok.disk.bounds import together

REACH = 0.9  # a placeholder's surroundings: from REACH of it to 1 / REACH of it
OTHERS = 0.01  # other numbers that may lie there, as a share of the pixels that hold it
ROUNDING = 3e-7  # relative, of a float32 that was computed in another way
BLOCK = 32  # frames looked at together
AHEAD = 128 << 20  # bytes of frames that are kept when a clip is read ahead

Frames = Shaped[np.ndarray, "n H W"]  # as stored
Decode = Callable[[int, int], Frames]
Masks = Bool[np.ndarray, "n H W"]

FAR = tuple(10.0**power for power in range(5, 39))
"""Powers of ten that are written for "far"."""
USUAL_FLOATS = (65.535, 65504, 65535, *FAR, 3.4028235e38)
"""The largest uint16 in millimetres, the largest float16, uint16 and float32, and `FAR`."""
USUAL_INTEGERS = (65535, 2**31 - 1, 2**32 - 1)


@dataclass(frozen=True)
class NotMeasured:
    """What in a view's stored depth is no measurement, besides 0 and what is not finite.

    `values` are stored numbers, `max_m` is in metres; `usual`: the usual placeholders, too.
    """

    values: tuple[float, ...] = ()
    max_m: float | None = None
    usual: bool = True

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {"values": list(self.values), "max_m": self.max_m, "usual": self.usual}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NotMeasured:
        """The inverse of `to_json`."""
        return cls(tuple(data["values"]), data["max_m"], data["usual"])


def usual(dtype: np.dtype) -> tuple[float, ...]:
    """The usual placeholders that a dtype holds, ascending; the last is its own maximum."""
    info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    candidates = USUAL_FLOATS if dtype.kind == "f" else USUAL_INTEGERS
    largest = float(info.max)
    return (*(value for value in candidates if value < largest * (1 - ROUNDING)), largest)


def holding(stored: Shaped[np.ndarray, "*shape"], value: float) -> Bool[np.ndarray, "*shape"]:
    """Where stored numbers are `value`, up to the rounding of a float."""
    if stored.dtype.kind != "f":
        return stored == value
    with np.errstate(over="ignore"):
        middle = float(stored.dtype.type(value))
        low, high = (stored.dtype.type(middle * (1 + sign * ROUNDING)) for sign in (-1, 1))
    low, high = min(low, high), max(low, high)
    return (stored >= low) & (stored <= high) & np.isfinite(stored)


class Census:
    """Counts pixels of a clip that hold a candidate, and those that hold another number near it."""

    def __init__(self, candidates: tuple[float, ...]) -> None:
        self.candidates = candidates
        self._held = dict.fromkeys(candidates, 0)
        self._near = dict.fromkeys(candidates, 0)

    def seen(self, stored: Shaped[np.ndarray, ...]) -> bool:
        """Whether some pixel holds a candidate."""
        high = self._high(stored)
        return any(holding(high, value).any() for value in self.candidates) if len(high) else False

    def add(self, stored: Shaped[np.ndarray, ...]) -> None:
        """Counts some frames."""
        high = self._high(stored)
        counts = {value: int(holding(high, value).sum()) for value in self.candidates if len(high)}
        for value in counts:
            low, top = value * REACH, value / REACH
            with np.errstate(over="ignore"):  # beyond the largest float lies its infinity
                near = int(((high >= low) & (high <= top)).sum())
            self._held[value] += counts[value]
            self._near[value] += near - sum(counts[v] for v in counts if low <= v <= top)

    def _high(self, stored: Shaped[np.ndarray, ...]) -> Shaped[np.ndarray, " n"]:
        """The finite numbers that may be near a candidate: few, or none, of a usual frame's."""
        if not stored.size or not self.candidates:
            return stored.ravel()[:0]
        lowest = min(self.candidates) * REACH
        if float(stored.max()) < lowest:  # not so where one is NaN
            return stored.ravel()[:0]
        high = stored[stored >= lowest]
        return high[np.isfinite(high)]

    def apart(self) -> tuple[float, ...]:
        """The candidates that are there and stand apart."""
        return tuple(
            value
            for value, count in self._held.items()
            if count and self._near[value] <= OTHERS * count
        )


class ClipDepth:
    """The depth of one clip, read in blocks of any size.

    `decode(start, stop)` gives stored numbers, `scale_m` is metres in one of them. `tally` has how
    many of the `pixels` read so far held which placeholder, or were beyond the largest depth.
    """

    def __init__(
        self, frames: int, decode: Decode, scale_m: float, dtype: str, rule: NotMeasured | None
    ) -> None:
        self._frames, self._decode, self._scale_m = frames, decode, scale_m
        self._rule = rule or NotMeasured(usual=False)
        self._candidates: tuple[float, ...] = ()
        if self._rule.usual:
            limit = np.inf if self._rule.max_m is None else self._rule.max_m / scale_m
            values = usual(np.dtype("float32" if dtype == "bfloat16" else dtype))
            self._candidates = tuple(v for v in values if v not in self._rule.values and v <= limit)
        self._apart: tuple[float, ...] | None = None  # None: no candidate has turned up yet
        self._ahead: dict[int, np.ndarray] = {}  # frames by number
        self.tally: dict[str, int] = {}
        self.pixels = 0

    def metres(self, start: int, stop: int) -> Float32[np.ndarray, "n H W"]:
        """Frames `start` to `stop`; 0 where nothing was measured."""
        stored = self._stored(start, stop)
        metres = stored.astype(np.float64) * self._scale_m
        valid = np.isfinite(metres) & (metres > 0)
        for name, mask in self._masks(stored, metres, start, stop):
            if count := int((mask & valid).sum()):
                self.tally[name] = self.tally.get(name, 0) + count
            valid &= ~mask
        self.pixels += stored.size
        return np.where(valid, metres, 0).astype(np.float32)

    def _masks(
        self, stored: Frames, metres: Float64[np.ndarray, "n H W"], start: int, stop: int
    ) -> Iterator[tuple[str, Masks]]:
        """Names of what is no measurement, and where each is."""
        for value in self._rule.values:
            yield f"{value:.10g}", holding(stored, value)
        if self._rule.max_m is not None:
            yield f"beyond {self._rule.max_m:g} m", metres > self._rule.max_m
        if self._apart is None and Census(self._candidates).seen(stored):
            self._apart = self._standing_apart(stored, start, stop)
        for value in self._apart or ():
            yield f"{value:.10g}", holding(stored, value)

    def _standing_apart(self, stored: Frames, start: int, stop: int) -> tuple[float, ...]:
        """The candidates that stand apart in the whole clip, of which `stored` is read already."""
        census = Census(self._candidates)
        census.add(self._without_stated(stored))
        size = stored[:1].nbytes  # of one frame
        for first, last in self._blocks_outside(start, stop, together(4 * size, BLOCK)):
            frames = self._decode(first, last)
            if first >= stop and (len(self._ahead) + last - first) * size <= AHEAD:
                self._ahead.update(zip(range(first, last), frames, strict=True))
            census.add(self._without_stated(frames))
        return census.apart()

    def _blocks_outside(self, start: int, stop: int, size: int) -> list[tuple[int, int]]:
        """All frames but `start` to `stop`, in blocks of this size."""
        return [
            (first, min(first + size, end))
            for begin, end in ((0, start), (stop, self._frames))
            for first in range(begin, end, size)
        ]

    def _without_stated(self, stored: Frames) -> Shaped[np.ndarray, ...]:
        """The numbers without those that the schema says are no measurement."""
        for value in self._rule.values:
            stored = stored[~holding(stored, value)]
        return stored

    def _stored(self, start: int, stop: int) -> Frames:
        if not self._ahead:
            return self._decode(start, stop)
        frames = [self._ahead.pop(step, None) for step in range(start, stop)]
        if all(frame is None for frame in frames):
            return self._decode(start, stop)
        steps = zip(range(start, stop), frames, strict=True)
        return np.stack([self._decode(k, k + 1)[0] if f is None else f for k, f in steps])
