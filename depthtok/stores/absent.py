"""Cameras that an episode does not have: their picture is one flat colour from the first frame to
the last, mostly black. A camera that goes dark for a while, or shows a still scene, is there.

`suspect` needs sizes and checksums only, which an index has anyway; `blank` decodes a suspect;
`Looks` decides over frames that are decoded for another reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock

import numpy as np
from jaxtyping import Integer, UInt8

from depthtok.errors import CorruptRecord
from depthtok.sources.pixels import PixelFormat

FLAT = 8
"""Levels of 255 that the values of a channel may span, over all pixels of all frames, in a picture
of one colour: what codecs and a covered lens add to black."""

HEADER = 704  # bytes: a JPEG's header with its standard tables has 623
BLOCK = 16  # px: side of a JPEG's largest unit
FLAT_BLOCK = 8
"""Bytes that a block of one colour takes at most. A JPEG spends 6 bits on a flat 8x8 square of
luma and 4 on one of chroma: 7 bytes without subsampling, 4 with (a PNG needs fewer). Pictures
with anything on them take many times that."""


def largest_flat(height: int, width: int) -> int:
    """Bytes that a picture of one colour takes at most, as JPEG or PNG, and hardly any other."""
    return HEADER + -(-height // BLOCK) * -(-width // BLOCK) * FLAT_BLOCK


def suspect(
    lengths: Integer[np.ndarray, " T"],
    checks: Integer[np.ndarray, " T"],
    size: Sequence[int | None],
) -> bool:
    """Whether an episode's frames may all be one flat colour, by their encoded bytes: all are the
    same, or all as small as such pictures are. `size` begins with height and width, px."""
    if not len(lengths):
        return False
    if (lengths == lengths[0]).all() and (checks == checks[0]).all():
        return True
    height, width = size[:2]
    if height is None or width is None:
        return False
    return int(lengths.max()) <= largest_flat(height, width)


def blank(frames: Sequence[bytes], format: PixelFormat) -> bool:
    """Whether the encoded frames of an episode, looked at until one shows something, are one flat
    colour. A frame that cannot be decoded is not flat."""
    looks = Looks()
    try:
        for data in _spread(list(dict.fromkeys(frames))):
            looks.add(format.decode(data)[None])
            if looks.textured:
                return False
    except CorruptRecord:
        return False
    return looks.frames > 0


def _spread(items: list[bytes]) -> Iterator[bytes]:
    """All items: the first one, the middle one, the quarters, the eighths, ..."""
    visited: set[int] = set()
    step = len(items)
    while len(visited) < len(items):
        step = max(1, step // 2)
        for index in range(0, len(items), step):
            if index not in visited:
                visited.add(index)
                yield items[index]


class Looks:
    """How far the values of each channel reach, over frames in any order. Threads may share it."""

    def __init__(self) -> None:
        self.frames = 0
        self.textured = False  # seen so far: more than one colour
        self._low = self._high = np.empty(0, np.uint8)
        self._lock = Lock()

    def add(self, frames: UInt8[np.ndarray, "n H W C"]) -> None:
        """Counts more frames, and looks at them unless an earlier one had texture."""
        with self._lock:
            self.frames += len(frames)
        if self.textured or not len(frames):
            return
        low, high = _span(frames[:1])
        if int((high - low).max()) <= FLAT:  # most pictures are settled by their first frame
            low, high = _span(frames)
        with self._lock:
            if self._low.size:
                low, high = np.minimum(low, self._low), np.maximum(high, self._high)
            self._low, self._high = low, high
            self.textured = self.textured or int((high - low).max()) > FLAT


def _span(
    frames: UInt8[np.ndarray, "n H W C"],
) -> tuple[UInt8[np.ndarray, " C"], UInt8[np.ndarray, " C"]]:
    """The least and the largest value of every channel; one axis at a time is far faster."""
    low, high = frames, frames
    for _ in range(3):
        low, high = low.min(axis=0), high.max(axis=0)
    return low, high
