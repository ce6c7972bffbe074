"""Which colour depth has: one scale a clip, in disparity, so that a frame looks the same on every
page; and the bar below the pictures that says what the colours mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from depthtok.data import QUANTILES, DepthClip, DepthKind
from depthtok.pages.colour import colourise, ramp

COLDEST, WARMEST = QUANTILES.index(0.005), QUANTILES.index(0.995)
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
MEANING = {
    DepthKind.METRES: "depth in metres",
    DepthKind.RELATIVE_DEPTH: "relative depth, without a unit",
    DepthKind.DISPARITY: "disparity, without a unit",
}


@dataclass(frozen=True)
class ColourBar:
    """What the colours from cold to warm mean: a title, and labels at shares of the bar."""

    title: str
    ticks: Sequence[tuple[float, str]]

    @property
    def words(self) -> str:
        """The bar as text."""
        return f"{self.title}: {self.ticks[0][1]} is blue, {self.ticks[-1][1]} is red"

    @property
    def gradient(self) -> str:
        """The colours, for CSS."""
        stops = ", ".join("#{:02x}{:02x}{:02x}".format(*colour) for colour in ramp(17).tolist())
        return f"linear-gradient(90deg, {stops})"


def even_bar(title: str, low: float, high: float, unit: str = "") -> ColourBar:
    """A bar of what grows evenly from `low` to `high`."""
    values = [low + share * (high - low) for share in TICKS]
    return ColourBar(title, [(t, f"{v:.3g}{unit}") for t, v in zip(TICKS, values, strict=True)])


@dataclass(frozen=True)
class ColourScale:
    """The colours of a clip: disparity `low` is the coldest, `high` the warmest. `kind` and `shift`
    are of the depth that it was made of, in which the bar counts."""

    low: float
    high: float
    kind: DepthKind = DepthKind.DISPARITY
    shift: float = 0.0

    @classmethod
    def of(
        cls, disparity_quantiles: Sequence[float], kind: DepthKind, shift: float = 0.0
    ) -> ColourScale:
        """The scale of a clip with these quantiles of disparity (at `data.QUANTILES`): those that
        most codebooks normalise by, too."""
        low, high = disparity_quantiles[COLDEST], disparity_quantiles[WARMEST]
        if not np.isfinite([low, high]).all():  # no pixel is valid
            return cls(0.0, 0.0, kind, shift)
        return cls(float(low), float(high), kind, shift)

    def paint(self, clip: DepthClip) -> UInt8[np.ndarray, "T H W 3"]:
        """Depth of any kind in colour; what is not valid is grey."""
        return self.paint_disparity(clip.to_disparity().values, clip.valid)

    def paint_disparity(
        self, values: Float[np.ndarray, "*T H W"], valid: Bool[np.ndarray, "*T H W"] | None = None
    ) -> UInt8[np.ndarray, "*T H W 3"]:
        """Disparity in colour."""
        return colourise(values, DepthKind.DISPARITY, self.low, self.high, valid)

    def bar(self, whose: str = "") -> ColourBar:
        """What the colours mean, in the unit of the depth."""
        title = f"{whose}: {MEANING[self.kind]}" if whose else MEANING[self.kind]
        title += "; red is near, grey is not measured"
        return ColourBar(title[0].upper() + title[1:], [(t, self._label(t)) for t in TICKS])

    def _label(self, share: float) -> str:
        disparity = self.low + share * (self.high - self.low)
        if self.kind is DepthKind.DISPARITY:
            return f"{disparity:.3g}"
        distance = 1 / disparity - self.shift if disparity > 0 else np.inf
        unit = " m" if self.kind is DepthKind.METRES else ""
        return f"{distance:.3g}{unit}" if np.isfinite(distance) else "far"


NORMALISED = even_bar("Disparity as a share of the clip's range; red is near", 0, 1)
