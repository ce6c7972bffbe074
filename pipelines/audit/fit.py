"""The scale and shift that bring estimated depth nearest the truth, and in what they are found: in
disparity, or in depth for relative depth, of which an estimator knows z up to both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from depthtok.data import DepthClip, DepthKind


@dataclass(frozen=True)
class Fit:
    """The least-squares `scale` and `shift` from estimated to true disparity.

    `low` to `high` is the true range, `mean` the true mean, in 1/m.
    """

    scale: float
    shift: float
    low: float
    high: float
    mean: float
    r2: float  # explained share of the variance of true disparity (or depth)
    in_depth: bool = False  # of relative depth: `scale` and `shift` are from it to metres

    def depth(self, estimated: Float32[np.ndarray, "n H W"]) -> Float32[np.ndarray, "n H W"]:
        """Estimated disparity, or relative depth, converted to metres."""
        fitted = estimated * np.float32(self.scale) + np.float32(self.shift)
        if self.in_depth:
            return np.clip(fitted, np.float32(1 / self.high), np.float32(1 / self.low))
        return 1 / np.clip(fitted, np.float32(self.low), np.float32(self.high))


@dataclass(frozen=True)
class Baselines:
    """What a clip's truth is on average, in 1/m: the mean of each image row, and the least-squares
    plane over the image, held to the true range. They are as large as an image, so no result of a
    clip has them."""

    rows: Float[np.ndarray, " H"]
    plane: Float[np.ndarray, "H W"]


def disparity(clip: DepthClip) -> DepthClip:
    """A clip as disparity."""
    return clip.to_disparity()


def as_fitted(clip: DepthClip) -> DepthClip:
    """A clip as what is fitted to the truth: relative depth as it is, all else as disparity."""
    return clip if clip.kind is DepthKind.RELATIVE_DEPTH else clip.to_disparity()


def solved(total: Float[np.ndarray, " 6"]) -> tuple[float, float, float]:
    """Scale, shift and R2 from the sums of 1, x, y, xx, xy and yy."""
    x, y, xx, xy, yy = total[1:] / total[0]
    covariance, spread, target = xy - x * y, xx - x * x, yy - y * y
    scale = max(covariance / spread, 0.0) if spread > 1e-12 * max(xx, 1e-12) else 0.0
    residual = target - 2 * scale * covariance + scale * scale * spread
    return float(scale), float(y - scale * x), float(1 - residual / target if target else 0.0)
