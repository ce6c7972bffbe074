"""Student's t, central and not, and chi-squared, by one numerical integral: no scipy needed.

T = (Z + shift) / S, where S is the root of a chi-squared over its degrees of freedom. So every
probability is a mean of normal probabilities over S, whose density is simple.
"""

# P points of the integral

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float64

POINTS = 1201
Array = Float64[np.ndarray, " P"]


@lru_cache(64)
def _spread(freedom: int) -> tuple[Array, Array]:
    """Values of S, dense near 0 where heavy tails come from, and their probabilities."""
    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom")
    root = np.linspace(1e-6, math.sqrt(1 + 9 / math.sqrt(freedom)), POINTS)
    s = root**2
    half = freedom / 2
    log_density = (
        math.log(2) + half * math.log(half) - math.lgamma(half) + (freedom - 1) * np.log(s)
    ) - half * s**2
    weight = np.exp(log_density) * 2 * root  # by the root
    return s, weight / weight.sum()


def beyond(limit: float, freedom: int, shift: float = 0.0) -> float:
    """The chance that |T| > `limit`; with a `shift`, of a noncentral t."""
    s, weight = _spread(freedom)
    cut = limit * s
    return float(weight @ (_normal(shift - cut) + _normal(-shift - cut)))


@lru_cache(4096)
def limit_of(share: float, freedom: int) -> float:
    """What |T| exceeds with the chance `share`."""
    return _root(lambda limit: share - beyond(limit, freedom), 0.0, 1.0)


@lru_cache(4096)
def shift_for(power: float, freedom: int, share: float = 0.05) -> float:
    """The shift at which |T| exceeds its limit of `share` with the chance `power`."""
    limit = limit_of(share, freedom)
    return _root(lambda shift: beyond(limit, freedom, shift) - power, 0.0, 1.0)


def spread_interval(deviation: float, freedom: int) -> tuple[float, float]:
    """The 95 % interval of a standard deviation of normal values."""
    s, weight = _spread(freedom)
    low, high = np.interp((0.025, 0.975), np.cumsum(weight) - weight / 2, s)
    return deviation / float(high), deviation / float(low)


def _normal(x: Array) -> Array:
    """The chance of a normal value below each x."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x.tolist()])


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0; `high` is doubled until it is beyond."""
    below, above = rising(low), rising(high)
    while above < 0:
        low, high, below = high, 2 * high, above
        above = rising(high)
    for _ in range(60):  # regula falsi, by the Illinois rule
        between = (low * above - high * below) / (above - below)
        value = rising(between)
        if abs(value) < 1e-10:
            return between
        if value < 0:
            low, below, above = between, value, above / 2
        else:
            high, above, below = between, value, below / 2
    return high
