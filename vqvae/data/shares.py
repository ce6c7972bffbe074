"""Which frames of the sources a cache of a limited size keeps.

A frame is drawn as often as its source's weight says, whatever the limit: the limit is shared by
frames times weight, at most all frames of a source, so that what is drawn often is not drawn from
a handful. One source, or several of equal weights, are spread over evenly, end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from vqvae.data.clips import ClipSource, lengths_of


@dataclass(frozen=True)
class FrameShare:
    """How many frames of a source are kept, and how often each of them is drawn, relative to those
    of the others. `numbers`: which, ascending, over its clips end to end; None: all."""

    frames: int
    weight: float
    numbers: Int64[np.ndarray, " n"] | None = None


def shares_of(
    sources: Sequence[ClipSource], limit: int, *, by_weight: bool = True
) -> list[FrameShare]:
    """What is kept of each source of at most `limit` frames in all; 0: all. Without `by_weight`, as
    former versions kept it: whatever the weights are."""
    frames = _frames(sources)
    rows = [(count, s.weight) for count, s in zip(frames.tolist(), sources, strict=True)]
    if not 0 < limit < frames.sum():
        return [FrameShare(count, weight) for count, weight in rows]
    if by_weight and weights_matter(sources, limit):
        weights = np.array([source.weight for source in sources], np.float64)
        quotas = _quotas(frames, weights, limit).tolist()
        return [
            FrameShare(
                quota,
                weight * count / max(quota, 1),  # each stands for others that are not kept
                np.linspace(0, count - 1, quota).astype(np.int64),
            )
            for quota, (count, weight) in zip(quotas, rows, strict=True)
        ]
    numbers, ends = np.linspace(0, frames.sum() - 1, limit).astype(np.int64), np.cumsum(frames)
    pieces = np.split(numbers, np.searchsorted(numbers, ends[:-1]))
    return [
        FrameShare(len(piece), weight, piece - int(end - count))
        for piece, end, (count, weight) in zip(pieces, ends, rows, strict=True)
    ]


def weights_matter(sources: Sequence[ClipSource], limit: int) -> bool:
    """Whether not all frames are kept, and which are depends on the weights."""
    frames = _frames(sources)
    weights = {s.weight for s, count in zip(sources, frames, strict=True) if count}
    return bool(0 < limit < frames.sum()) and len(weights) > 1


def _frames(sources: Sequence[ClipSource]) -> Int64[np.ndarray, " sources"]:
    return np.array([lengths_of(source.clips).sum() for source in sources], np.int64)


def _quotas(
    frames: Int64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"], limit: int
) -> Int64[np.ndarray, " n"]:
    """`limit` in proportion to frames times weight, at most the frames there are: what a source
    cannot fill goes to the others."""
    shares = frames * weights
    quotas = np.zeros_like(frames)
    open_ = shares > 0
    if frames[open_].sum() <= limit:
        return np.where(open_, frames, 0)
    while True:
        remaining = limit - int(quotas.sum())
        parts = np.where(open_, remaining * shares / shares[open_].sum(), 0.0)
        full = open_ & (parts >= frames)
        if not full.any():
            # Rounded at the edges, so that the sum stays; no part grows by a whole frame.
            edges = np.rint(np.cumsum(parts)).astype(np.int64)
            return quotas + np.diff(edges, prepend=0)
        quotas[full] = frames[full]
        open_ &= ~full
