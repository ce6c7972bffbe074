"""How disparity becomes the tokeniser's input, about [0, 1], and back. Part of every codebook.

Depth in metres enters as 1/z (`DepthClip.to_disparity`). Four rules:

- `clip_quantile` (default): the clip's 0.5 % and 99.5 % quantiles become 0 and 1. One range a clip
  and camera, so that what does not move keeps its code.
- `per_frame`: each frame's own smallest and largest value become 0 and 1. Makes about a tenth of
  the untouched cells change their code from frame to frame; kept for comparison.
- `dataset`: one range for all, measured on the training data.
- `metric`: one range in 1/m, given; needs depth in metres.

Values outside the range keep their place up to half a range beyond it, and are clipped there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import Bool, Float32

from depthtok.data import QUANTILES, DepthKind
from depthtok.errors import ConfigError, DepthKindError, SourceError
from depthtok.required import fulfilled, one_of

NORMALISATIONS = ("clip_quantile", "per_frame", "dataset", "metric")
LOW, HIGH = -0.5, 1.5
"""Where normalised disparity is clipped."""
Range = tuple[float, float]
Frames = Float32[np.ndarray, "T H W"]
Mask = Bool[np.ndarray, "T H W"]


@dataclass(frozen=True)
class Normalisation:
    """A rule and its constants. `lo` and `hi` belong to the rules with a fixed range, as does
    `kind`, that of the depth which they were taken from. Raises `ConfigError` for an unknown rule
    or quantile, and for a fixed range that is not given."""

    name: str = "clip_quantile"
    low_quantile: float = 0.005
    high_quantile: float = 0.995
    lo: float | None = None
    hi: float | None = None
    kind: str | None = None

    def __post_init__(self) -> None:
        one_of("normalisation", self.name, NORMALISATIONS)
        for quantile in (self.low_quantile, self.high_quantile):
            fulfilled(
                quantile in QUANTILES,
                f"quantile {quantile} is not kept of a clip",
                f"choose among {', '.join(map(str, QUANTILES))}",
            )
        fulfilled(
            not self.fixed or None not in (self.lo, self.hi),
            f"normalisation {self.name!r} needs its range",
            "give both lo and hi",
        )

    @property
    def fixed(self) -> bool:
        """Whether one range serves every clip."""
        return self.name in ("dataset", "metric")

    def require(self, kind: DepthKind) -> None:
        """Raises `DepthKindError` where a fixed range belongs to depth of another kind."""
        fitted = DepthKind.METRES if self.name == "metric" else self.kind
        if self.fixed and fitted is not None and kind != fitted:
            raise DepthKindError(
                f"the codebook's range ({self.name}, {self.lo:g} to {self.hi:g}) is of depth in "
                f"{fitted}, this is {kind}",
                remedy="use a codebook with the normalisation clip_quantile, or train one on this "
                "depth",
            )

    def range_of(self, quantiles: Sequence[float]) -> Range:
        """The disparity interval of a clip, from its disparity quantiles at `data.QUANTILES`.

        Raises `SourceError` where there is no interval: no valid pixel, a constant clip, NaN.
        """
        if self.fixed:
            assert self.lo is not None, self
            assert self.hi is not None, self
            return _checked(self.lo, self.hi)
        if len(quantiles) != len(QUANTILES):
            raise SourceError(
                f"a clip with {len(quantiles)} quantiles, {len(QUANTILES)} expected",
                remedy="the clip has no valid depth, or its quantiles were not computed",
            )
        if self.name == "per_frame":
            return _checked(quantiles[0], quantiles[-1])
        low, high = (QUANTILES.index(q) for q in (self.low_quantile, self.high_quantile))
        return _checked(quantiles[low], quantiles[high])

    def apply(self, disparity: Frames, bounds: Range, valid: Mask | None = None) -> Frames:
        """Normalised disparity, clipped to `LOW`..`HIGH`. Pixels outside `valid` mean nothing."""
        lo, scale = self._affine(disparity, bounds, valid)
        out = np.subtract(disparity, lo, dtype=np.float32)
        out *= np.float32(1) / scale
        return np.clip(out, LOW, HIGH, out=out)

    def undo(
        self,
        normalised: Frames,
        bounds: Range,
        like: Frames | None = None,
        valid: Mask | None = None,
    ) -> Frames:
        """Disparity again. The rule `per_frame` needs `like`, the disparity that was normalised,
        since its ranges are kept nowhere: raises `ConfigError` without."""
        if self.name == "per_frame" and like is None:
            raise ConfigError(
                "the normalisation per_frame cannot be undone: its ranges are not kept",
                remedy="use a codebook with clip_quantile where disparity must come back",
            )
        lo, scale = self._affine(normalised if like is None else like, bounds, valid)
        return (normalised * scale + lo).astype(np.float32)

    def _affine(
        self, disparity: Frames, bounds: Range, valid: Mask | None
    ) -> tuple[Float32[np.ndarray, "*f"] | np.float32, Float32[np.ndarray, "*f"] | np.float32]:
        """Offset and scale that broadcast over frames."""
        if self.name != "per_frame":
            lo, hi = _checked(*bounds)
            return np.float32(lo), np.float32(hi - lo)
        valid = np.ones(disparity.shape, bool) if valid is None else valid
        lo = disparity.min(axis=(1, 2), keepdims=True, where=valid, initial=np.inf)
        hi = disparity.max(axis=(1, 2), keepdims=True, where=valid, initial=-np.inf)
        for low, high in zip(lo.flat, hi.flat, strict=True):
            _checked(low, high)
        return lo, hi - lo

    def to_json(self) -> dict[str, str | float]:
        """Name and constants."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Normalisation:
        """The inverse of `to_json`."""
        return cls(**data)


def _checked(lo: SupportsFloat, hi: SupportsFloat) -> Range:
    """The range, if it is one. Raises `SourceError` for NaN, infinity, and no extent."""
    lo, hi = float(lo), float(hi)
    if not (math.isfinite(lo) and math.isfinite(hi)):
        raise SourceError(
            f"the depth range {lo:g} to {hi:g} is not finite",
            remedy="the clip has no valid pixel, or its depth holds NaN or infinity",
        )
    if hi - lo <= 1e-6 * max(abs(lo), abs(hi)):
        raise SourceError(
            f"the depth is constant ({lo:g} to {hi:g}), so it has no range to normalise",
            remedy="leave this clip out; a camera that sees nothing has no codes",
        )
    return lo, hi
