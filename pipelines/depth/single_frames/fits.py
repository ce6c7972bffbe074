"""Robust scale and shift between two frames' disparity.

The scale is the ratio of the spreads of both frames over the pixels that agree, not the least
squares of one on the other: that is smaller than one wherever there is noise, and frame after frame
would shrink a long clip to nothing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

Samples = Float64[np.ndarray, " n"]  # disparity at some pixels, NaN where it is not valid
Fit = Float64[np.ndarray, " 2"]  # scale, shift
IDENTITY = np.array((1.0, 0.0))
FEWEST = 16  # pixels that are valid in both
ROUNDS, LAST = 12, 4  # of reweighting: to find the pixels that agree, then with all of those
WIDTH, AGREE = 2.0, 4.0  # robust standard deviations: weights fall there, and end there
SWEEPS = 3  # over a whole clip
MOST = 10.0  # times; a frame that would need more is left as it is


def fit_to(samples: Samples, reference: Samples, most: float = MOST) -> Fit:
    """The scale and shift that bring a frame to the reference. The identity where too few pixels
    are valid in both, one of the two is flat, or the scale would be beyond `most` times."""
    both = np.isfinite(samples) & np.isfinite(reference)
    x, y = samples[both], reference[both]
    if len(x) < FEWEST or not (_spread(x) > 0 and _spread(y) > 0):
        return IDENTITY
    scale = _spread(y) / _spread(x)
    shift = float(np.median(y) - scale * np.median(x))
    for number in range(ROUNDS + LAST):
        residual = np.abs(scale * x + shift - y)
        deviation = 1.4826 * float(np.median(residual)) + 1e-6 * _spread(y)
        weight = _weights(residual / deviation, final=number >= ROUNDS)
        x_mean, y_mean = weight @ x, weight @ y
        x_spread, y_spread = weight @ (x - x_mean) ** 2, weight @ (y - y_mean) ** 2
        if not (x_spread > 0 and y_spread > 0):
            break
        scale = float(np.sqrt(y_spread / x_spread))
        shift = float(y_mean - scale * x_mean)
    return np.array((scale, shift)) if 1 / most < scale < most else IDENTITY


def _weights(residual: Samples, *, final: bool) -> Samples:
    """The weight of pixels by their residual in standard deviations. The final ones are equal:
    others would prefer pixels whose noise is alike, and with it a wrong scale."""
    weight = (residual < AGREE) * 1.0 if final else 1 / (1 + (residual / WIDTH) ** 2) ** 2
    return weight / weight.sum()


def fit_all(samples: Float64[np.ndarray, "T n"]) -> Float64[np.ndarray, "T 2"]:
    """The scales and shifts that bring each frame to the median of all, pixel by pixel; the median
    scale is 1 and the median shift 0, so that the clip as a whole stays where it is."""
    fits = np.stack([_standardised(frame) for frame in samples])
    for sweep in range(SWEEPS):
        straight = samples * fits[:, :1] + fits[:, 1:]
        reference = _median(straight)
        most = MOST if sweep else np.inf  # the first reference has another unit
        fits = _centred(np.stack([fit_to(frame, reference, most=most) for frame in samples]))
    return fits


def flicker_of(before: Samples, after: Samples) -> float:
    """The median change between two frames as a share of the range of the first; 0 where there is
    nothing to compare."""
    both = np.isfinite(before) & np.isfinite(after)
    if both.sum() < FEWEST:
        return 0.0
    low, high = np.quantile(before[both], (0.05, 0.95))
    change = float(np.median(np.abs(after[both] - before[both])))
    return change / float(high - low) if high > low else 0.0


def _spread(values: Samples) -> float:
    """The median distance from the median, or the standard deviation where that is 0."""
    spread = float(np.median(np.abs(values - np.median(values))))
    return spread if spread > 0 else float(values.std())


def _standardised(frame: Samples) -> Fit:
    """The scale and shift to a median of 0 and a spread of 1."""
    valid = frame[np.isfinite(frame)]
    if len(valid) < FEWEST or not (spread := _spread(valid)) > 0:
        return IDENTITY
    return np.array((1 / spread, -np.median(valid) / spread))


def _median(straight: Float64[np.ndarray, "T n"]) -> Samples:
    """The median over time of each pixel; NaN where it is never valid."""
    reference = np.full(straight.shape[1], np.nan)
    defined = np.isfinite(straight).any(axis=0)
    reference[defined] = np.nanmedian(straight[:, defined], axis=0)
    return reference


def _centred(fits: Float64[np.ndarray, "T 2"]) -> Float64[np.ndarray, "T 2"]:
    """Fits whose common scale and shift are taken out."""
    fits = fits / np.median(fits[:, 0])
    return fits - np.array((0.0, np.median(fits[:, 1])))
