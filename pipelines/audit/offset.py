"""By how many pixels estimated depth is shifted against the truth: a crop or a border that one of
the two has and the other has not.

Steps of depth are where they are, whatever the scale and shift of disparity: the sizes of the two
gradients are correlated at every offset within `REACH` of the image's sides. A shift is reported
where the best offset fits well, better than none by a margin, and better than those around it (at
the end of the reach it is none), and where disparity itself correlates better there. Weak depth
has blurred steps, which fit anywhere a little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

REACH = 8  # offsets up to 1 / REACH of the image's sides are tried
FEWEST_PX = 2  # smaller offsets are what resizing makes
MARGIN = 0.15  # by so much correlation the best offset must fit better than none
CLEAR = 0.5  # correlation below which nothing is said
LARGEST = 0.98  # quantile of the gradient's size; larger ones count as this


@dataclass(frozen=True)
class Offset:
    """The estimate shows what the truth has `right` px further left and `down` px further up."""

    right: int
    down: int
    correlation: float  # of the gradients' sizes at this offset
    as_is: float  # at none
    disparity: float  # how much better disparity correlates at this offset than at none
    at_the_end: bool  # of the reach: it may be farther, or none

    @property
    def clear(self) -> bool:
        """Whether it is more than chance and resizing make."""
        far = max(abs(self.right), abs(self.down)) >= FEWEST_PX
        fits = self.correlation >= max(CLEAR, self.as_is + MARGIN) and self.disparity > 0
        return far and fits and not self.at_the_end

    def __str__(self) -> str:
        steps = ((self.right, "right", "left"), (self.down, "down", "up"))
        words = [f"{abs(n)} px {plus if n > 0 else minus}" for n, plus, minus in steps if n]
        return " and ".join(words) or "0 px"


def offset_of(
    estimated: Float[np.ndarray, "n H W"],
    true: Float[np.ndarray, "n H W"],
    valid: Bool[np.ndarray, "n H W"],
) -> Offset | None:
    """The offset at which some frames of disparity fit best; None where one has no steps."""
    x, y = _steps(estimated, valid), _steps(true, valid)
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    if not scale > 0:
        return None
    height, width = valid.shape[1:]
    size = (2 * height, 2 * width)  # twice: what leaves on one side must not return on the other
    spectrum = np.fft.rfft2(x, size) * np.conj(np.fft.rfft2(y, size))
    fits = np.fft.irfft2(spectrum.sum(0), size) / scale
    down, right = (np.arange(-(side // REACH), side // REACH + 1) for side in (height, width))
    near = fits[np.ix_(down, right)]
    row, column = np.unravel_index(np.argmax(near), near.shape)
    steps = int(down[row]), int(right[column])
    ends = steps[0] in (down[0], down[-1]) or steps[1] in (right[0], right[-1])
    better = _better(estimated, true, valid, steps)
    best, as_is = float(near[row, column]), float(fits[0, 0])
    return Offset(steps[1], steps[0], best, as_is, better, bool(ends))


def _better(
    estimated: Float[np.ndarray, "n H W"],
    true: Float[np.ndarray, "n H W"],
    valid: Bool[np.ndarray, "n H W"],
    steps: tuple[int, int],
) -> float:
    """The correlation of both disparities at an offset (down, right), less that at none, over the
    pixels of the truth that are there in both cases."""
    moved = np.roll(estimated, (-steps[0], -steps[1]), axis=(1, 2))
    there = valid & np.roll(valid, (-steps[0], -steps[1]), axis=(1, 2))
    for axis, step in zip((1, 2), steps, strict=True):
        lost = np.moveaxis(there, axis, 0)  # a view: pixels that came round from the other side
        lost[slice(-step, None) if step > 0 else slice(0, -step)] = False
    if there.sum() < 2:
        return 0.0
    fits = [np.corrcoef(x[there], true[there])[0, 1] for x in (moved, estimated)]
    return float(np.nan_to_num(fits[0] - fits[1]))


def _steps(
    values: Float[np.ndarray, "n H W"], valid: Bool[np.ndarray, "n H W"]
) -> Float[np.ndarray, "n H W"]:
    """Sizes of the gradient without their mean; 0 beside pixels that are not valid."""
    rows = np.diff(values, axis=1)[:, :, :-1]
    columns = np.diff(values, axis=2)[:, :-1]
    usable = valid[:, 1:, :-1] & valid[:, :-1, 1:] & valid[:, :-1, :-1]
    sizes = np.where(usable, np.hypot(rows, columns), 0).astype(np.float64)
    if not usable.any():
        return np.zeros(values.shape)
    sizes = np.minimum(sizes, np.quantile(sizes[usable], LARGEST))
    sizes = np.where(usable, sizes - sizes[usable].mean(), 0)
    return np.pad(sizes, ((0, 0), (0, 1), (0, 1)))
