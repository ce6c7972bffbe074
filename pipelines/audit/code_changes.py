"""What estimated depth does to codes: how often a static cell's code changes from frame to frame,
and how many codes equal those of true depth.

A cell is static between two frames where at least half of its pixels have true depth in both, and
none of these changes by `STILL` or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float32

from depthtok.data import DepthClip
from pipelines.audit.audit import STILL, Pair, blocks_of
from vqvae.codec import Codec

SHARE = 0.5  # of a cell's pixels that must be valid


@dataclass(frozen=True)
class CodeChanges:
    """Shares of codes in one clip; None where no cell is static."""

    flips: float | None  # of the estimate's codes of static cells: differ from the frame before
    true_flips: float | None  # the same of the codes of true depth
    same: float  # of all codes: equal to those of true depth


def code_changes(pair: Pair, codec: Codec) -> CodeChanges:
    """The figures of one clip. Raises `SourceError` for depth that has no codes: a clip without a
    range, a frame without valid pixels, another size than the codebook's."""
    rule = codec.codebook.normalisation
    spans = [
        rule.range_of(clip(0, 1).to_disparity().quantiles) for clip in (pair.estimated, pair.truth)
    ]
    same = cells = static_cells = 0
    changes = np.zeros(2, np.int64)
    for start, stop in blocks_of(pair.frames):
        first = max(start - 1, 0)
        clips = [clip(first, stop) for clip in (pair.estimated, pair.truth)]
        codes = np.stack(
            [codec.encode(c.to_disparity(), s) for c, s in zip(clips, spans, strict=True)]
        )
        new = codes[:, start - first :]
        same, cells = same + int((new[0] == new[1]).sum()), cells + new[0].size
        static = static_between(clips[1], codec.codebook.grid)
        changes += ((codes[:, 1:] != codes[:, :-1]) & static).sum((1, 2, 3))
        static_cells += int(static.sum())
    if not static_cells:
        return CodeChanges(None, None, same / cells)
    flips, true_flips = (changes / static_cells).tolist()
    return CodeChanges(flips, true_flips, same / cells)


def static_between(truth: DepthClip, grid: tuple[int, int]) -> Bool[np.ndarray, "n h w"]:
    """Which cells stand still from each frame of true depth to the next."""
    before, after = truth.values[:-1], truth.values[1:]
    valid = truth.valid[:-1] & truth.valid[1:]
    change = np.abs(after - before) / np.where(valid, after, np.float32(1))
    moves = _by_cell((valid & (change >= STILL)).astype(np.float32), grid) > 0
    return ~moves & (_by_cell(valid.astype(np.float32), grid) >= SHARE)


def _by_cell(
    pixels: Float32[np.ndarray, "n H W"], grid: tuple[int, int]
) -> Float32[np.ndarray, "n h w"]:
    """The mean of every cell."""
    h, w = grid
    cells = rearrange(pixels, "n (h y) (w x) -> n h w (y x)", h=h, w=w)
    return cells.mean(-1, dtype=np.float32)
