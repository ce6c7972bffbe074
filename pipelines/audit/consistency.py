"""How far an estimator agrees with itself, where no true depth is known.

Depth of a scene does not depend on how its image is shown: estimates of mirrored, cropped and
smaller frames must be those of the frames as they are, after the mirror, crop and size are undone.
How far they are not is `sqrt(1 - r^2)` over the pixels of a clip, r being the correlation of what
is left of both disparities after each one's best plane over the image: 0 where one is a scale (and
a plane) of the other, 1 where they have nothing else in common. The planes are taken out since an
answer that ignores the image, a floor that is nearer further down, agrees with itself perfectly.
Where nothing moves in the image, neighbouring frames must have the same depth: the mean change of
disparity there, as a share of its standard deviation over the clip.

All of these are necessary and none is sufficient. Estimators are ranked by the mirror, which
foretold the order by true depth best (docs/results.md); the others are shown. It is also said how
much of the disparity that plane explains.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from depthtok.data import DepthBlock, DepthClip, DepthEstimator, EpisodeKey, FrameClip
from depthtok.errors import SourceError
from depthtok.resized import at_size
from depthtok.stores.episodes import EpisodeStore
from pipelines.audit.altered import ALTERATIONS, AS_IS, AlteredClip
from pipelines.audit.bootstrap import Interval, interval
from pipelines.audit.plane import PlaneFit

UNCHANGED = 3  # of 255: changes of colour up to this are the image's compression
FLATNESS = 1e-4  # of the spread of disparity: relief below this is rounding
AGREEMENTS = ("mirror", "crop", "scale")
FIGURES = (*AGREEMENTS, "neighbours", "plane")


@dataclass(frozen=True)
class ClipConsistency:
    """The figures of one clip; `neighbours` is None where every pixel changes or it is one frame.

    `plane` is the share of the variance of disparity that a plane over the image explains.
    """

    key: EpisodeKey
    camera: str
    frames: int
    mirror: float
    crop: float
    scale: float
    neighbours: float | None
    plane: float


@dataclass(frozen=True)
class SelfConsistency:
    """The clips of one estimator; how many frames of all kinds it saw, and in how many seconds."""

    clips: Sequence[ClipConsistency]
    frames: int
    seconds: float

    @property
    def frames_per_s(self) -> float:
        """Of the estimator alone, in this process."""
        return self.frames / max(self.seconds, 1e-9)

    def intervals(self) -> dict[str, Interval | None]:
        """Every figure's mean over clips, with its interval by bootstrap over episodes."""
        return {figure: interval(self.by_episode(figure)) for figure in FIGURES}

    def by_episode(self, figure: str) -> dict[str, list[float]]:
        """A figure's values by episode."""
        values: dict[str, list[float]] = {}
        for clip in self.clips:
            if (value := getattr(clip, figure)) is not None:
                values.setdefault(str(clip.key), []).append(value)
        return values


def chosen_clips(episodes: EpisodeStore, cameras: Sequence[str], count: int) -> list[FrameClip]:
    """At most `count` clips, evenly spread over the episodes and taking cameras in turn. Raises
    `SourceError` where there are no frames."""
    every = [
        (number, camera)
        for camera in cameras
        for number in range(len(episodes))
        if not episodes.episode(number).absent(camera)
    ]
    if not every:
        raise SourceError(f"{episodes.path} has no frames of {', '.join(cameras)}")
    order = np.unique(np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int))
    return [episodes.episode(every[i][0]).frames(every[i][1]) for i in order.tolist()]


def self_consistency(
    estimator: DepthEstimator, clips: Sequence[FrameClip], frames: int
) -> SelfConsistency:
    """Runs an estimator on at most `frames` frames from the middle of each clip, four times.

    Raises `SourceError` where it fails for a clip, or gives depth without any relief.
    """
    figures, seconds, count = [], 0.0, 0
    for clip in clips:
        length = min(frames, len(clip))
        start = (len(clip) - length) // 2
        views = [AlteredClip(clip, how, start, length) for how in (AS_IS, *ALTERATIONS)]
        began = time.monotonic()
        depth = _estimated(estimator, views)
        seconds, count = seconds + time.monotonic() - began, count + len(views) * length
        figures.append(_figures(clip, views[0].read(0, length), depth))
    return SelfConsistency(figures, count, seconds)


def _estimated(estimator: DepthEstimator, views: Sequence[AlteredClip]) -> list[DepthClip]:
    """The disparity of each view."""
    blocks: list[list[DepthBlock]] = [[] for _ in views]
    for block in estimator.estimate(views):
        blocks[block.clip].append(block)
    complete = []
    for view, pieces in zip(views, blocks, strict=True):
        depths = [piece.depth.to_disparity() for piece in pieces if piece.depth is not None]
        if len(depths) != len(pieces) or sum(map(len, depths)) != len(view):
            reason = next((piece.error for piece in pieces if piece.error), "no depth came")
            raise SourceError(f"{view.key} {view.camera.name}, {view.alteration.name}: {reason}")
        values, valid = (
            np.concatenate([getattr(d, n) for d in depths]) for n in ("values", "valid")
        )
        complete.append(DepthClip(values, valid, depths[0].kind))
    return complete


def _figures(
    clip: FrameClip, frames: UInt8[np.ndarray, "n H W 3"], depth: Sequence[DepthClip]
) -> ClipConsistency:
    as_is, *altered = depth
    apart = []
    for how, other in zip(ALTERATIONS, altered, strict=True):
        expected = how.depth(as_is)
        size = expected.values.shape[1:]
        apart.append(_disagreement(expected, at_size(other, (size[0], size[1]))))
    mirror, crop, scale = apart
    still, plane = _neighbours(frames, as_is), _plane(as_is)
    name = clip.camera.name
    return ClipConsistency(clip.key, name, len(frames), mirror, crop, scale, still, plane)


def _disagreement(a: DepthClip, b: DepthClip) -> float:
    """`sqrt(1 - r^2)` of both reliefs over pixels that are valid in both; 1 where they do not
    correlate, or one has none."""
    both = a.valid & b.valid
    if not both.any():
        return 1.0
    reliefs = []
    for clip in (a, b):
        relief, values = _relief(clip)[both], clip.values[both].astype(np.float64)
        rounding = max(FLATNESS * values.std(), FLATNESS**2 * np.abs(values).max())
        if relief.std() <= rounding:
            return 1.0
        reliefs.append(relief)
    x, y = reliefs
    r = float(np.corrcoef(x, y)[0, 1])
    return float(np.sqrt(max(1 - max(r, 0.0) ** 2, 0.0)))


def _neighbours(frames: UInt8[np.ndarray, "n H W 3"], depth: DepthClip) -> float | None:
    """The mean change of disparity where the image does not change, over its spread."""
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).max(-1)
    still = (change <= UNCHANGED) & depth.valid[1:] & depth.valid[:-1]
    spread = float(depth.values[depth.valid].std()) if depth.valid.any() else 0.0
    if not still.any() or spread == 0:
        return None
    return float(np.abs(np.diff(depth.values, axis=0))[still].mean(dtype=np.float64)) / spread


def _relief(depth: DepthClip) -> Float[np.ndarray, "n H W"]:
    """Disparity less the clip's best plane over the image."""
    values = np.where(depth.valid, depth.values, 0).astype(np.float64)
    plane = PlaneFit()
    plane.add(values, depth.valid)
    return values - plane.solved()


def _plane(depth: DepthClip) -> float:
    """The share of the variance of disparity that a plane explains; 1 for a constant."""
    spread = float(depth.values[depth.valid].var(dtype=float)) if depth.valid.any() else 0.0
    return 1 - float((_relief(depth)[depth.valid] ** 2).mean()) / spread if spread else 1.0
