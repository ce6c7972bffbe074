"""Frames of video files, each by its time stamp: exact in any order, decoded once in their order.

A row: time stamp in the file's time base (40 bits), number of the file (24 bits above), size in
bytes and CRC32C of the packet with this time stamp. A picture is RGB; with the setting `depth` the
codes of a depth video become metres (`depth_codes.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from depthtok.disk.images import ImageFiles
from depthtok.errors import CorruptRecord, SourceError
from depthtok.frames.depth_codes import DepthCodes
from depthtok.frames.kinds import Pixels, Rows, file_numbers, positions
from depthtok.frames.pool import Pool
from depthtok.frames.video_decoder import VideoDecoder
from depthtok.frames.video_index import packets

NAME, VERSION, NEEDS = "video", 1, "0.3"

Convert = Callable[..., np.ndarray]  # of a decoded frame
MANY = 16  # frames asked for at once, from which on a decoder of several threads reads them
THREADS = 4


@dataclass
class VideoSource:
    """The frames of one view; `convert` makes an array [H, W, C] of a decoded frame."""

    shape: tuple[int | None, ...]
    convert: Convert
    decoders: Pool[VideoDecoder] = field(default_factory=lambda: Pool(VideoDecoder))
    threaded: Pool[VideoDecoder] = field(default_factory=lambda: Pool(_threaded))

    @classmethod
    def of(cls, view: Pixels, images: ImageFiles) -> VideoSource:
        """The source of a view."""
        settings = view.frames_by.settings
        if "depth" in settings:
            return cls(view.format.shape, DepthCodes.from_json(settings["depth"]).metres)
        return cls(view.format.shape, bgr if view.channels == "bgr" else rgb)

    def frames(self, files: Sequence[Path], rows: Rows) -> Iterator[np.ndarray]:
        """As `FrameSource.frames`. Frames between those that are asked for are decoded, but not
        converted. Raises `CorruptRecord` for a frame of another shape than the declared one."""
        numbers = file_numbers(rows).tolist()
        stamps, checks = positions(rows), [(size, crc) for _, _, size, crc in rows.tolist()]
        pool = self.threaded if len(rows) >= MANY else self.decoders
        with pool.in_turn() as decoder_of:
            for number, stamp, check in zip(numbers, stamps, checks, strict=True):
                path = files[number]
                frame = self.convert(decoder_of(path, stamp).frame(stamp, check))
                if any(
                    size not in (None, side)
                    for size, side in zip(self.shape, frame.shape, strict=True)
                ):
                    raise CorruptRecord(
                        f"{path}: a frame has shape {frame.shape}, not {self.shape} as declared"
                    )
                yield frame

    def check(self, files: Sequence[Path], rows: Rows) -> Iterator[SourceError]:
        """As `FrameSource.check`; reads each file once."""
        numbers = file_numbers(rows)
        for number in np.unique(numbers).tolist():
            wanted = rows[numbers == number]
            try:
                index = packets(files[number])
            except CorruptRecord as error:
                yield error
                continue
            if not len(index.pts):
                yield CorruptRecord(f"{files[number]} has no frames")
                continue
            at = np.minimum(np.searchsorted(index.pts, positions(wanted)), len(index.pts) - 1)
            same = index.pts[at] == positions(wanted)
            same &= (index.size[at] == wanted[:, 2]) & (index.crc32c[at] == wanted[:, 3])
            if bad := int((~same).sum()):
                yield CorruptRecord(
                    f"{files[number]}: {bad} of {len(wanted)} frames changed since they were "
                    "indexed"
                )


def _threaded(path: Path) -> VideoDecoder:
    return VideoDecoder(path, min(THREADS, os.cpu_count() or 1))


def rgb(frame) -> UInt8[np.ndarray, "H W 3"]:
    """A decoded frame as RGB."""
    return frame.to_ndarray(format="rgb24")


def bgr(frame) -> UInt8[np.ndarray, "H W 3"]:
    """The same of a video whose red and blue changed places before it was encoded."""
    return frame.to_ndarray(format="bgr24")
