"""Evaluation of a network on clips with ground-truth depth, and of baselines without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32

from depthtok.data import DepthClip, DepthEstimator, DepthKind
from depthtok.errors import SourceError
from depthtok.resized import at_size
from pipelines.audit.audit import ClipAudit, Pair, audit
from pipelines.depth.truth import TrueClip

EVERY = 4  # a mean map uses every n-th frame


def evaluate(
    estimator: DepthEstimator, clips: Sequence[TrueClip], failures: dict[str, str]
) -> Iterator[ClipAudit]:
    """The audit of each clip, as soon as it is estimated. The reason why one has none is added to
    `failures`, by its name."""
    parts: list[DepthClip] = []
    for block in estimator.estimate(clips):
        clip = clips[block.clip]
        if block.error or block.depth is None:
            failures[name_of(clip)], parts = block.error or "there is no depth", []
            continue
        parts.append(at_size(block.depth, clip.depth.store.size))
        if sum(map(len, parts)) == len(clip):
            values, valid = (
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("values", "valid")
            )
            parts = []
            try:
                yield _compared(clip, DepthClip(values, valid, block.depth.kind))
            except SourceError as error:
                failures[name_of(clip)] = error.problem


def name_of(clip: TrueClip) -> str:
    """The episode and the camera of a clip."""
    return f"{clip.key} {clip.camera.name}"


def mean_maps(clips: Sequence[TrueClip]) -> dict[str, Float32[np.ndarray, "H W"]]:
    """The mean disparity (1/m) of every pixel, by camera."""
    maps = {}
    for camera in dict.fromkeys(clip.depth.camera for clip in clips):
        total = count = 0.0
        for depth in (clip.depth for clip in clips if clip.depth.camera == camera):
            for step in range(0, len(depth), EVERY):
                frame = depth.read(step, step + 1).to_disparity()
                total, count = total + frame.values[0], count + frame.valid[0]
        maps[camera] = (total / np.maximum(count, 1)).astype(np.float32)
    return maps


def evaluate_maps(
    maps: dict[str, Float32[np.ndarray, "H W"]], clips: Sequence[TrueClip]
) -> Iterator[ClipAudit]:
    """The audit of each clip with its camera's mean map as the estimate for every frame."""
    for clip in clips:
        if (mean := maps.get(clip.depth.camera)) is not None:
            still = np.broadcast_to(mean, (len(clip), *mean.shape))
            yield _compared(clip, DepthClip.of(still, DepthKind.DISPARITY))


def _compared(clip: TrueClip, estimated: DepthClip) -> ClipAudit:
    def read(start: int, stop: int) -> DepthClip:
        values, valid = estimated.values[start:stop], estimated.valid[start:stop]
        return DepthClip(values, valid, estimated.kind)

    return audit(Pair(clip.key, clip.depth.camera, len(clip), read, clip.depth.read))
