"""Estimated depth against ground truth: its errors, and whether its orientation and unit are right.

Estimates are compared after one least-squares scale and shift per clip (an estimate is only known
up to those two), in disparity, or in depth for relative depth; the scale is never negative, and
results are clipped to the clip's true range. Errors are means over the pixels of a clip, then over
clips.

Each clip has three baselines: one disparity for all of it, one per image row, and one plane (all
of the clip's ground truth, which no estimator knows). Depth that is worse than the last two has
learned less than where things usually are.

The alignment hides a wrong scale. Where both sides are in metres it is tested before (`scale.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float, Float32

from depthtok.data import DepthClip, DepthKind, EpisodeKey, ImageTransform
from depthtok.errors import SourceError
from pipelines.audit.fit import Baselines, Fit, as_fitted, disparity, solved
from pipelines.audit.height import Rays, distance
from pipelines.audit.offset import Offset, offset_of
from pipelines.audit.plane import PlaneFit
from pipelines.audit.regions import edges
from pipelines.audit.scale import DepthScale, of_medians, scale_of

BLOCK = 32  # frames in memory at a time
LOOKED_AT = 8  # frames per clip that are tested for orientation
STRIDE = 4  # px between pixels in the rank correlation
STILL = 0.01  # relative change of true depth from frame to frame
TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "upright": lambda x: x,
    "mirrored left to right": lambda x: x[:, :, ::-1],
    "flipped upside down": lambda x: x[:, ::-1],
    "rotated by 180 degrees": lambda x: x[:, ::-1, ::-1],
}


@dataclass(frozen=True)
class Pair:
    """Two depths of one clip, read on demand. Of these, None is unknown: `near` marks the pixels
    around the gripper, `rays` is where the pixels of the truth look, `height_m` how far the camera
    is from the plane that fills most of its image."""

    key: EpisodeKey
    camera: str
    frames: int
    estimated: Callable[[int, int], DepthClip]
    truth: Callable[[int, int], DepthClip]
    near: Callable[[int, int], Bool[np.ndarray, "n H W"]] | None = None
    rays: Rays | None = None
    height_m: float | None = None
    poses: Float[np.ndarray, "T 4 4"] | None = None  # of the upright view: camera to world


_BASELINES = ("constant", "rows", "plane")
FIGURES = ("abs_rel", "rmse_m", "delta1", "r2", "flicker", "edges", "gripper", *_BASELINES)


@dataclass(frozen=True)
class ClipAudit:
    """The figures of one clip. Relative errors are shares of true depth; None: no such pixels."""

    key: EpisodeKey
    camera: str
    frames: int
    abs_rel: float
    rmse_m: float
    delta1: float  # share of pixels within a factor of 1.25
    r2: float
    flicker: float | None  # mean relative change between frames where the truth is static
    edges: float | None  # abs_rel within 2 px of steps in true depth
    gripper: float | None  # abs_rel near the gripper
    constant: float  # abs_rel of a constant disparity for the clip
    rows: float  # abs_rel of a constant disparity per row
    plane: float  # abs_rel of the best plane of disparity over the image
    truth_m: float  # median true depth of some frames
    scale: DepthScale | None  # None: the estimate has none, or too few pixels are valid
    metric: bool  # whether the estimate is in metres
    spans_m: tuple[float, float] | None  # height and width of the image at `truth_m`
    height: (
        DepthScale | None
    )  # true depth by the camera's known height; None: not known, or no plane
    fit: Fit = field(repr=False)
    turned: Mapping[str, float] = field(repr=False)  # rank correlation, by orientation
    offset: Offset | None = field(repr=False)  # by how many pixels it is shifted; None: not clear


def audit(pair: Pair) -> ClipAudit:
    """Compares one clip. Raises `SourceError` if no pixel is valid in both depths."""
    fit, average = fit_clip(pair)
    sums = _Sums(fit, average)
    for start, stop in blocks_of(pair.frames):
        estimated, truth, valid = read_both(pair, start, stop, as_fitted)
        sums.add(estimated, truth, valid, pair.near(start, stop) if pair.near else None)
    look = _Look.at(pair)
    errors = sums.mean("abs_rel"), float(np.sqrt(sums.mean("squared"))), sums.mean("delta1"), fit.r2
    regions = sums.mean_if_any("flicker"), sums.mean_if_any("edges"), sums.mean_if_any("gripper")
    baselines = sums.mean("constant"), sums.mean("rows"), sums.mean("plane")
    return ClipAudit(
        pair.key,
        pair.camera,
        pair.frames,
        *(*errors, *regions, *baselines),
        truth_m=look.truth_m,
        scale=look.scale,
        metric=look.metric,
        spans_m=pair.rays.spans_at(look.truth_m) if pair.rays else None,
        height=_height(pair),
        fit=fit,
        turned=look.turned,
        offset=look.offset,
    )


def blocks_of(frames: int) -> Iterator[tuple[int, int]]:
    """Runs of at most `BLOCK` frames, as (start, stop)."""
    return ((start, min(start + BLOCK, frames)) for start in range(0, frames, BLOCK))


def read_both(
    pair: Pair, start: int, stop: int, form: Callable[[DepthClip], DepthClip] = disparity
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The estimate in a form, true disparity (at the estimate's size), and where both are valid."""
    estimated = pair.estimated(start, stop)
    truth = pair.truth(start, stop).require(DepthKind.METRES)
    size = estimated.values.shape[1:]
    if truth.values.shape[1:] != size:
        smaller = ImageTransform(size=size).depth(truth.values, truth.kind)
        truth = DepthClip.of(smaller, truth.kind)
    estimate, true = form(estimated), truth.to_disparity()
    return estimate.values, true.values, estimate.valid & true.valid


def fit_clip(pair: Pair) -> tuple[Fit, Baselines]:
    """The least-squares scale and shift, in float64, and what they must beat. Raises `SourceError`
    where no pixel is valid in both."""
    low, high, total, plane = np.inf, -np.inf, np.zeros(6), PlaneFit()
    rows: list[np.ndarray] = []
    in_depth = pair.estimated(0, 1).kind is DepthKind.RELATIVE_DEPTH
    for start, stop in blocks_of(pair.frames):
        x, y, valid = read_both(pair, start, stop, as_fitted)
        if valid.any():
            low, high = min(low, float(y[valid].min())), max(high, float(y[valid].max()))
        x, y = np.where(valid, x, 0).astype(np.float64), np.where(valid, y, 0).astype(np.float64)
        rows.append(np.stack([y.sum((0, 2)), valid.sum((0, 2))]))
        plane.add(y, valid)
        y = np.where(valid, 1 / np.where(valid, y, 1), 0) if in_depth else y
        total += [valid.sum(), x.sum(), y.sum(), (x * x).sum(), (x * y).sum(), (y * y).sum()]
    if not total[0]:
        raise SourceError(f"{pair.key} {pair.camera}: no pixel is valid in both depths")
    sums, counts = np.sum(rows, axis=0)
    mean = sums.sum() / counts.sum() if in_depth else total[2] / total[0]
    means = np.where(counts > 0, sums / np.maximum(counts, 1), mean)
    best_plane = np.clip(plane.solved(), low, high)
    scale, shift, r2 = solved(total)
    return Fit(scale, shift, low, high, mean, r2, in_depth), Baselines(means, best_plane)


class _Sums:
    """Sums over a clip, accumulated block by block."""

    def __init__(self, fit: Fit, average: Baselines) -> None:
        self.fit, self.average = fit, average
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def add(
        self,
        estimated: Float32[np.ndarray, "n H W"],
        truth: Float32[np.ndarray, "n H W"],
        valid: Bool[np.ndarray, "n H W"],
        near: Bool[np.ndarray, "n H W"] | None,
    ) -> None:
        true = 1 / np.where(valid, truth, np.float32(1))
        depth = self.fit.depth(estimated)
        error = np.abs(depth - true) / true
        factor = np.maximum(depth / true, true / depth)
        self._count("abs_rel", error, valid)
        self._count("squared", (depth - true) ** 2, valid)
        self._count("delta1", factor < 1.25, valid)
        self._count("edges", error, valid & edges(true, valid))
        self._count("constant", np.abs(1 / self.fit.mean - true) / true, valid)
        by_row = (1 / self.average.rows).astype(np.float32)[:, None]
        self._count("rows", np.abs(by_row - true) / true, valid)
        plane = (1 / self.average.plane).astype(np.float32)
        self._count("plane", np.abs(plane - true) / true, valid)
        if near is not None:
            self._count("gripper", error, valid & near)
        self._flicker(depth, true, valid)

    def _flicker(self, depth: np.ndarray, true: np.ndarray, valid: np.ndarray) -> None:
        if self._last is not None:
            pairs = zip(self._last, (depth, true, valid), strict=True)
            depth, true, valid = (np.concatenate(blocks) for blocks in pairs)
        change = np.abs(np.diff(true, axis=0)) / true[1:]
        static = valid[1:] & valid[:-1] & (change < STILL)
        self._count("flicker", np.abs(np.diff(depth, axis=0)) / true[1:], static)
        self._last = depth[-1:], true[-1:], valid[-1:]

    def _count(self, name: str, values: np.ndarray, mask: np.ndarray) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + float(values.sum(dtype=float, where=mask))
        self.counts[name] = self.counts.get(name, 0) + int(mask.sum())

    def mean(self, name: str) -> float:
        return self.sums[name] / self.counts[name]

    def mean_if_any(self, name: str) -> float | None:
        return self.mean(name) if self.counts.get(name) else None


@dataclass(frozen=True)
class _Look:
    """What some frames of a clip show before any alignment."""

    turned: dict[str, float]  # rank correlation, by orientation
    scale: DepthScale | None
    metric: bool
    truth_m: float
    offset: Offset | None

    @classmethod
    def at(cls, pair: Pair) -> _Look:
        """Looks at frames that are evenly spread, or the first with valid pixels if none has."""
        x, y, valid = _frames(pair, _looked_at(pair))
        if not valid.any():
            with_pixels = (n for n in range(pair.frames) if read_both(pair, n, n + 1)[2].any())
            x, y, valid = _frames(pair, islice(with_pixels, LOOKED_AT))
        turned = {}
        for name, turn in TURNS.items():
            mask = (valid & turn(valid))[:, ::STRIDE, ::STRIDE]
            turned[name] = _rank_correlation(
                turn(x)[:, ::STRIDE, ::STRIDE][mask], y[:, ::STRIDE, ::STRIDE][mask]
            )
        metric = pair.estimated(0, 1).kind is DepthKind.METRES
        with np.errstate(divide="ignore"):
            scale = scale_of(1 / x, 1 / y, valid) if metric else None
        return cls(turned, scale, metric, float(1 / np.median(y[valid])), offset_of(x, y, valid))


def _height(pair: Pair) -> DepthScale | None:
    """True depth over what the camera's height says, by the planes of some frames."""
    if pair.height_m is None or pair.rays is None:
        return None
    logs = []
    for step in _looked_at(pair):
        truth = pair.truth(step, step + 1).to_disparity()
        metres = distance(truth.values[0], truth.valid[0], pair.rays)
        logs += [math.log(metres / pair.height_m)] if metres else []
    return of_medians(logs)


def _looked_at(pair: Pair) -> list[int]:
    return np.unique(np.linspace(0, pair.frames - 1, LOOKED_AT).astype(int)).tolist()


def _frames(pair: Pair, steps: Iterable[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frames = [read_both(pair, step, step + 1) for step in steps]
    estimated, truth, valid = map(np.concatenate, zip(*frames, strict=True))
    return estimated, truth, valid


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation; 0 if one of the two is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    ranks = [np.unique(values, return_inverse=True)[1].astype(float) for values in (x, y)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
