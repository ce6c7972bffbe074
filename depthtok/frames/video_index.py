"""A video file by its packets: their time stamps, sizes and checksums. Nothing is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import google_crc32c
import numpy as np
from jaxtyping import Float64, Int64, UInt32

from depthtok.errors import CorruptRecord
from depthtok.frames.kinds import Rows
from depthtok.sources.video_file import frame_stream, open_video, require_av, require_readable

LARGEST_STAMP = 1 << 40
NEAR = 0.25
"""Of the time between two frames: how far a time may be from the frame that it means."""


@dataclass(frozen=True)
class Packets:
    """The packets of a video's frames, in the order in which they are shown."""

    path: Path
    time_base: Fraction  # s
    pts: Int64[np.ndarray, " n"]
    size: UInt32[np.ndarray, " n"]
    crc32c: UInt32[np.ndarray, " n"]

    @cached_property
    def period(self) -> float:
        """The time from one frame to the next, s; 1 for a single frame."""
        shown = self.pts * float(self.time_base)
        return float(np.median(np.diff(shown))) if len(shown) > 1 else 1.0

    def rows(self, times: Float64[np.ndarray, " T"], number: int) -> Rows:
        """The rows of the index for the frames at these times (s) of the file of this number.

        Raises `CorruptRecord` where no frame is near enough to a time, or one is near to two.
        """
        if not len(self.pts):
            raise CorruptRecord(f"{self.path} has no frames")
        if not np.isfinite(times).all():
            step = int((~np.isfinite(times)).argmax())
            raise CorruptRecord(f"{self.path}: step {step} has the time {times[step]} s")
        shown = self.pts * float(self.time_base)
        after = np.clip(np.searchsorted(shown, times), 1, max(len(shown) - 1, 1))
        before, after = after - 1, np.minimum(after, len(shown) - 1)
        is_before = np.abs(times - shown[before]) <= np.abs(times - shown[after])
        index = np.where(is_before, before, after)
        off = np.abs(shown[index] - times)
        too_far = off > NEAR * self.period
        if too_far.any():
            step = int(too_far.argmax())
            raise CorruptRecord(
                f"{self.path} has no frame at {times[step]:.4f} s (step {step}): the nearest is at "
                f"{shown[index[step]]:.4f} s",
                remedy="the file was cut, or the data set's times are not its own: download both "
                "again",
            )
        if len(np.unique(index)) < len(index):
            raise CorruptRecord(f"{self.path}: several steps mean the same frame")
        stamps = self.pts[index].astype(np.uint64)
        low = (stamps & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        high = (stamps >> np.uint64(32)).astype(np.uint32) | np.uint32(number << 8)
        return np.stack([low, high, self.size[index], self.crc32c[index]], axis=1)


def packets(path: Path) -> Packets:
    """Reads a video file once, a damaged one twice. What cannot be read is not in the result.

    Raises `CorruptRecord` for what is no video or has no time stamps, `SourceUnavailable`.
    """
    base, rows, is_damaged = _read(path)
    if is_damaged:  # or a share kept it back for a moment: what is damaged is so again
        base, rows, _ = _read(path)
    if base is None:
        raise CorruptRecord(f"{path} has no time base")
    pts, size, crc = _columns(sorted(rows))
    if len(np.unique(pts)) < len(pts):
        raise CorruptRecord(f"{path} has several frames at one time")
    return Packets(path, base, pts.astype(np.int64), size.astype(np.uint32), crc.astype(np.uint32))


def _read(path: Path) -> tuple[Fraction | None, list[tuple[int, int, int]], bool]:
    """The time base of a video; time stamp, size and CRC32C of every packet, in the order of the
    file; and whether some could not be read."""
    av = require_av()

    rows: list[tuple[int, int, int]] = []
    is_damaged = False
    with open_video(path) as video:
        stream = frame_stream(path, video)
        base = stream.time_base
        try:
            for packet in video.demux(stream):
                is_damaged |= packet.is_corrupt
                if not packet.size or packet.is_corrupt or packet.is_discard:
                    continue
                if packet.pts is None or not 0 <= packet.pts < LARGEST_STAMP:
                    raise CorruptRecord(f"{path} has a frame with time stamp {packet.pts}")
                rows.append((packet.pts, packet.size, google_crc32c.value(bytes(packet))))
        except av.FFmpegError as error:
            require_readable(path, error)
            is_damaged = True
    return base, rows, is_damaged


def _columns(rows: Sequence[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.array(rows, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]
