"""Depth videos of LeRobot: 12-bit codes of metres, in logarithmic steps by default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, UInt16

from depthtok.errors import CorruptRecord, SourceError

BITS = 12
LAST = (1 << BITS) - 1
PIXELS = "gray12le"


@dataclass(frozen=True)
class DepthCodes:
    """From `depth_min` to `depth_max`, m. The first and the last code stand for what is not between
    them as well, such as pixels without a measurement, so that they are no depth. Raises
    `SourceError` for limits that cannot be decoded."""

    depth_min: float
    depth_max: float
    shift: float
    use_log: bool

    def __post_init__(self) -> None:
        has_logarithm = not self.use_log or 0 < self.depth_min + self.shift < np.inf
        if not (0 <= self.depth_min < self.depth_max < np.inf and has_logarithm):
            raise SourceError(
                f"depth from {self.depth_min} to {self.depth_max} m with shift {self.shift} cannot "
                "be decoded",
                remedy="correct the feature's depth_min, depth_max and shift in meta/info.json",
            )

    def to_json(self) -> dict[str, object]:
        """A plain dictionary."""
        fields: dict[str, object] = {"depth_min": self.depth_min, "depth_max": self.depth_max}
        return {**fields, "shift": self.shift, "use_log": self.use_log}

    @classmethod
    def from_json(cls, data) -> DepthCodes:
        """The inverse of `to_json`. Raises `SourceError` for what is no such table."""
        try:
            low, high, shift = (float(data[k]) for k in ("depth_min", "depth_max", "shift"))
            use_log = data["use_log"]
            if not isinstance(data, Mapping) or not isinstance(use_log, bool):
                raise TypeError(f"use_log = {use_log!r}")
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(
                f"the codes of a depth video are not described ({error!r})",
                remedy="they need depth_min, depth_max, shift and use_log in meta/info.json",
            ) from error
        return cls(low, high, shift, use_log)

    @cached_property
    def table(self) -> Float32[np.ndarray, " codes"]:
        """Metres of every code; 0 for the two that say nothing."""
        steps = np.arange(LAST + 1) / LAST
        if self.use_log:
            low, high = (np.log(v + self.shift) for v in (self.depth_min, self.depth_max))
            metres = np.exp(steps * (high - low) + low) - self.shift
        else:
            metres = steps * (self.depth_max - self.depth_min) + self.depth_min
        metres[[0, LAST]] = 0
        return metres.astype(np.float32)

    def codes(self, metres: Float32[np.ndarray, "*n"]) -> UInt16[np.ndarray, "*n"]:
        """The nearest code of depth in metres, as LeRobot rounds it; what is beyond either end gets
        the code of that end. Depth that is no measurement is given as 0, or less than all."""
        low, high, shift = (np.float32(v) for v in (self.depth_min, self.depth_max, self.shift))
        if self.use_log:
            bottom, top = (math.log(float(bound + shift)) for bound in (low, high))
            share = (np.log(np.maximum(metres, low) + shift) - bottom) / (top - bottom)
        else:
            share = (metres - low) / (high - low)
        return np.rint(share * LAST).clip(0, LAST).astype(np.uint16)

    def metres(self, frame) -> Float32[np.ndarray, "H W 1"]:
        """The depth of a decoded frame. Raises `CorruptRecord` for one of another format."""
        return self.table[codes_of(frame)][..., None]


def codes_of(frame) -> UInt16[np.ndarray, "H W"]:
    """The codes of a decoded frame. Raises `CorruptRecord`."""
    if frame.format.name != PIXELS:
        raise CorruptRecord(
            f"a depth video of pixels {frame.format.name}, not {PIXELS}",
            remedy="only depth videos of 12 bits are known",
        )
    plane = frame.planes[0]
    rows = np.frombuffer(plane, "<u2").reshape(frame.height, plane.line_size // 2)
    codes = rows[:, : frame.width]
    if int(codes.max()) > LAST:
        raise CorruptRecord(f"a depth video with codes above {LAST}")
    return codes.astype(np.uint16)
