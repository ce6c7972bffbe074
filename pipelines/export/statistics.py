"""Statistics in LeRobot's form: of an episode, and of all, for every feature.

Vectors have one figure a column, pictures one a channel, in [0, 1], depth maps one in metres. Of
pictures and depth maps only some frames and pixels count, as many as LeRobot samples. Quantiles of
an episode are exact; of all episodes they are, as LeRobot has them, the mean of the episodes' own,
but for actions and states, whose quantiles over all steps are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Shaped, UInt8, UInt16

from depthtok.frames.depth_codes import LAST
from depthtok.stores.statistics import quantiles

SHARES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *SHARES)

Figures = dict[str, np.ndarray]
"""By name (NAMES): float64 of the feature's shape, or [C, 1, 1]; `count` is int64 [1], frames."""


def of_vectors(values: Shaped[np.ndarray, "T D"]) -> Figures:
    """Of the columns of an episode."""
    rows = values.astype(np.float64)
    figures = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    shares = np.quantile(rows, list(SHARES.values()), axis=0)
    return {**figures, "count": np.array([len(rows)]), **dict(zip(SHARES, shares, strict=True))}


def sampled(frames: int) -> list[int]:
    """The frames of an episode that count, ascending: LeRobot's own rule."""
    count = max(min(frames, 100), min(int(frames**0.75), 10_000))
    return sorted(set(np.round(np.linspace(0, frames - 1, count)).astype(int).tolist()))


class PictureCounter:
    """Counts the values of pixels, frame by frame: `values` are what each stands for."""

    def __init__(self, channels: int, values: Float64[np.ndarray, " K"]) -> None:
        self._values, self._frames = values, 0
        self._counts = np.zeros((channels, len(values)), np.int64)

    def add(self, frame: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W"]) -> None:
        """Counts one frame, without some of its rows and columns where it is large."""
        side = max(frame.shape[:2])
        step = max(1, side // 150) if side >= 300 else 1
        pixels = frame[::step, ::step].reshape(-1, len(self._counts))
        for channel, counts in enumerate(self._counts):
            counts += np.bincount(pixels[:, channel], minlength=len(self._values))
        self._frames += 1

    def figures(self, without: Sequence[int] = ()) -> Figures:
        """The figures [C, 1, 1], `without` some of the values; all 0, and of 0 frames, where no
        pixel is left."""
        counts = self._counts.astype(np.float64)
        counts[:, list(without)] = 0
        total = counts.sum(1)
        if not total.all():
            shape = (len(counts), 1, 1)
            return {name: np.zeros(shape) for name in NAMES} | {"count": np.array([0])}
        mean = counts @ self._values / total
        deviation = (self._values[None] - mean[:, None]) ** 2
        below = np.cumsum(counts, axis=1)
        ends = {"min": below > 0, "max": below >= total[:, None]}
        figures = {name: self._values[mask.argmax(1)] for name, mask in ends.items()}
        figures |= {"mean": mean, "std": np.sqrt((counts * deviation).sum(1) / total)}
        for name, share in SHARES.items():
            figures[name] = self._values[(below >= share * total[:, None]).argmax(1)]
        shaped = {name: value.reshape(-1, 1, 1) for name, value in figures.items()}
        return {**shaped, "count": np.array([self._frames])}


def of_pictures() -> PictureCounter:
    """Counts RGB frames."""
    return PictureCounter(3, np.arange(256) / 255)


def of_depth(table: Float32[np.ndarray, " codes"]) -> PictureCounter:
    """Counts frames of 12-bit codes, which are metres by the table."""
    return PictureCounter(1, table.astype(np.float64))


NO_DEPTH = (0, LAST)
"""The codes of a depth video that are no measurement."""


class Merger:
    """Figures of all episodes from those of each: extremes, mean and deviation are exact, quantiles
    the mean of the episodes', each with its frames for weight."""

    def __init__(self) -> None:
        self._merged: Figures = {}
        self._squares = np.zeros(())

    def add(self, figures: Figures) -> None:
        """Adds an episode; one without frames adds nothing."""
        count = figures["count"]
        if not self._merged or not self._merged["count"][0]:
            self._merged = {name: value.copy() for name, value in figures.items()}
            self._squares = figures["std"] ** 2 * count[0]
            return
        if not count[0]:
            return
        merged = self._merged
        before, total = merged["count"][0], (merged["count"] + count)[0]
        gap = figures["mean"] - merged["mean"]
        self._squares = self._squares + figures["std"] ** 2 * count[0]
        self._squares = self._squares + gap**2 * before * count[0] / total
        merged["min"] = np.minimum(merged["min"], figures["min"])
        merged["max"] = np.maximum(merged["max"], figures["max"])
        for name in ("mean", *SHARES):
            merged[name] = merged[name] + (figures[name] - merged[name]) * count[0] / total
        merged["count"] = merged["count"] + count

    def figures(self) -> Figures:
        """Of all that were added."""
        deviation = np.sqrt(self._squares / max(int(self._merged["count"][0]), 1))
        return {**self._merged, "std": deviation}


def with_exact_quantiles(
    figures: Figures, blocks: Callable[[], Iterable[Float32[np.ndarray, "n D"]]]
) -> Figures:
    """Figures with the quantiles of all rows; `blocks` is called twice and must repeat itself."""
    exact = quantiles(blocks, tuple(SHARES.values()))
    return figures | dict(zip(SHARES, exact, strict=True))


def to_json(figures: Mapping[str, np.ndarray]) -> dict[str, list]:
    """Nested lists."""
    return {name: figures[name].tolist() for name in NAMES}


def from_json(data: Mapping[str, list]) -> Figures:
    """The inverse of `to_json`."""
    return {name: np.array(data[name], np.int64 if name == "count" else float) for name in NAMES}
