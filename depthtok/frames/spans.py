"""Frames whose encoded bytes lie in one file, as they are: in shards of RLDS, and packed in a part.

A row: offset (low, high 32 bits), length in bytes, CRC32C of the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depthtok.disk.images import ImageFiles
from depthtok.errors import SourceError
from depthtok.frames.kinds import Pixels, Rows, one_by_one

AHEAD = 64  # frames that are fetched at the same time, where they lie elsewhere


@dataclass(frozen=True)
class SpanSource:
    """Reads spans: of files elsewhere by the blocks of the cache, and not by whole copies."""

    view: Pixels
    images: ImageFiles

    def encoded(self, files: Sequence[Path], rows: Rows) -> Iterator[bytes]:
        """The bytes of every frame, checked."""
        spans = [(low | high << 32, length, crc) for low, high, length, crc in rows.tolist()]
        for number, span in enumerate(spans):
            if number % AHEAD == 0:
                soon = spans[number : number + 2 * AHEAD]
                self.images.expect(files[0], [(offset, length) for offset, length, _ in soon])
            yield self.images.read(files[0], *span)

    def frames(self, files: Sequence[Path], rows: Rows) -> Iterator[np.ndarray]:
        """As `FrameSource.frames`."""
        return (self.view.decode(data) for data in self.encoded(files, rows))

    def check(self, files: Sequence[Path], rows: Rows) -> Iterator[SourceError]:
        """As `FrameSource.check`."""
        return one_by_one(self.encoded, files, rows)
