from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from depthtok.data import DepthClip, DepthKind
from depthtok.errors import SourceError
from depthtok.stores.depth import StoredDepth
from pipelines.annotate.ahead import disparity_blocks


class Clip(StoredDepth):
    """A clip of metres in memory that may break at a frame."""

    def __init__(self, frames: int, broken: int | None = None) -> None:
        ramp = np.arange(1, frames + 1, dtype=np.float32)
        values = np.broadcast_to(ramp[:, None, None], (frames, 2, 2))
        log = SimpleNamespace(read=[])
        vars(self).update(frames=frames, values=values, broken=broken, log=log)

    def stored(self, start: int, stop: int) -> np.ndarray:
        self.log.read.append(start)
        if self.broken is not None and start <= self.broken < stop:
            raise SourceError("broken")
        return self.values[start:stop]

    def unpacked(self, rows: np.ndarray) -> DepthClip:
        return DepthClip.of(rows, DepthKind.METRES)


@pytest.mark.parametrize("frames", [0, 1, 4, 5, 9])
@pytest.mark.parametrize("read", [4, 8])
def test_blocks_are_the_clip_as_disparity(frames, read):
    clip = Clip(frames)
    blocks = list(disparity_blocks(clip, read, 4))
    assert clip.log.read == list(range(0, frames, read))
    assert [len(block) for block in blocks] == [min(4, frames - s) for s in range(0, frames, 4)]
    for block, start in zip(blocks, range(0, frames, 4), strict=True):
        np.testing.assert_array_equal(block.values, np.float32(1) / clip.values[start : start + 4])


def test_one_read_is_ahead_and_no_more():
    clip = Clip(12)
    blocks = disparity_blocks(clip, 2, 2)
    next(blocks)
    blocks.close()
    assert clip.log.read in ([0, 2], [0])


def test_what_reading_raises_comes_in_its_turn():
    blocks = disparity_blocks(Clip(8, broken=5), 4, 2)
    assert [len(next(blocks)) for _ in range(2)] == [2, 2]
    with pytest.raises(SourceError, match="broken"):
        next(blocks)
