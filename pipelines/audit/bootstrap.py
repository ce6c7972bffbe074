"""Intervals of means over clips: the bootstrap, with clips of one episode drawn together.

Cameras of one episode see the same scene and are no independent witnesses. Draws are by a fixed
seed, so equal clips give equal intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

DRAWS = 4000
TAIL = 2.5  # percent on each side
AT_ONCE = 1 << 21  # numbers of episodes that are drawn together
FEWEST = 5  # episodes; fewer say nothing of how the next one would come out


@dataclass(frozen=True)
class Interval:
    """A mean over clips, and between which values it lies with 95 %; None for few episodes."""

    mean: float
    low: float | None
    high: float | None
    clips: int

    @property
    def holds_zero(self) -> bool:
        """Whether the mean may be 0, as far as the clips say; so too where there are too few."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high

    @property
    def narrow(self) -> str:
        """As `str`, but for columns: it breaks only before the bracket."""
        return str(self).replace(" to ", "\u2013")

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def interval(values: Mapping[str, Sequence[float]]) -> Interval | None:
    """The mean of clips' values, which are given by episode; None where there is no value."""
    groups = [group for group in values.values() if len(group)]
    if not groups:
        return None
    sums, counts = (np.array([float(f(group)) for group in groups]) for f in (sum, len))
    mean, clips = float(sums.sum() / counts.sum()), int(counts.sum())
    if len(groups) < FEWEST:
        return Interval(mean, None, None, clips)
    low, high = np.percentile(_means(sums, counts), (TAIL, 100 - TAIL)).tolist()
    return Interval(mean, low, high, clips)


def _means(
    sums: Float[np.ndarray, " episodes"], counts: Float[np.ndarray, " episodes"]
) -> Float[np.ndarray, " draws"]:
    """The mean of each draw of as many episodes as there are; some draws at a time, as all of those
    of tens of thousands of episodes would take gigabytes."""
    rng, episodes = np.random.default_rng(0), len(sums)
    together = max(1, AT_ONCE // episodes)
    means = []
    for first in range(0, DRAWS, together):
        drawn = rng.integers(episodes, size=(min(together, DRAWS - first), episodes))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return np.concatenate(means)
