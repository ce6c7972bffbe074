"""One open video, from which frames are taken by their time stamps.

A frame is decoded from the key frame before it. A frame that comes before that key frame in time
although it is stored after it (open groups) is not trusted: its other half is not decoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import google_crc32c

from depthtok.disk.bounds import too_large
from depthtok.errors import CorruptRecord
from depthtok.sources.video_file import be_strict, frame_stream, open_video, require_readable

Check = tuple[int, int]  # size in bytes and CRC32C of a packet
AHEAD = 2  # frames that are rather decoded than skipped, if a key frame lies beyond them
HELD = 256  # checks of packets whose frames did not come out yet


class VideoDecoder:
    """Not for several threads at once. `position` is the time stamp of the last frame that came
    out. With several `threads` frames in their order come sooner; each frame that is looked for
    costs a third more CPU time."""

    position: float
    _began: float  # time stamp of the key frame with which decoding began
    _group: int  # its time of decoding
    _sent: int | None  # the last time of decoding
    _checks: dict[int, Check]  # of packets whose frames did not come out yet
    _frames: Iterator

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path, self._threads = path, threads
        self._open()

    def _open(self) -> None:
        """Opens the file, to be decoded from its beginning."""
        self._opened = ExitStack()
        self._video = self._opened.enter_context(open_video(self.path))
        self._stream = frame_stream(self.path, self._video)
        self._stream.codec_context.thread_count = self._threads
        be_strict(self._stream)
        if reason := too_large(self._stream.height, self._stream.width):
            raise CorruptRecord(f"{self.path} has frames that are too large: {reason}")
        self._begin(None)

    def close(self) -> None:
        """Closes the file."""
        self._opened.close()

    def frame(self, stamp: int, check: Check):
        """The frame with this time stamp. Raises `CorruptRecord` if there is none, or if its packet
        is another than `check` says, and `SourceUnavailable`."""
        import av

        try:
            frame = self._found(stamp)
        except CorruptRecord:
            frame = self._found_anew(stamp)
        except av.FFmpegError as error:
            require_readable(self.path, error)
            frame = self._found_anew(stamp)
        if self._checks.pop(stamp, None) != check:
            raise CorruptRecord(
                f"{self.path}: the frame at time stamp {stamp} changed since it was indexed",
                remedy="restore the file, or run `depthtok convert` again: it makes the parts of "
                "changed files anew",
            )
        return frame

    def _found_anew(self, stamp: int):
        """The same of the file opened anew: what a share kept back for a moment is there, what is
        damaged fails again. Raises `CorruptRecord`."""
        import av

        try:
            self.close()
            self._open()
            return self._found(stamp)
        except av.FFmpegError as error:
            require_readable(self.path, error)
            raise CorruptRecord(f"{self.path} cannot be decoded: {error}") from error

    def _found(self, stamp: int):
        """The frame with this time stamp, its packet unchecked. Raises `CorruptRecord` if there is
        none, and what PyAV raises."""
        if self._is_elsewhere(stamp):
            self._seek(stamp)
        while (frame := self._next_until(stamp)) is None:
            if self._began == -math.inf:
                raise CorruptRecord(f"{self.path} has no frame at time stamp {stamp}")
            self._seek_earlier()
        return frame

    def _next_until(self, stamp: int):
        """The frame with this time stamp; None where it does not come, or is not to be trusted."""
        if stamp < self._began:
            return None
        for frame in self._frames:
            if frame.pts is None:
                raise CorruptRecord(f"{self.path} has frames without time stamps")
            self.position = frame.pts
            if frame.is_corrupt:
                raise CorruptRecord(f"{self.path} has a damaged frame at time stamp {frame.pts}")
            if frame.pts == stamp:
                return frame
            self._checks.pop(frame.pts, None)
            if frame.pts > stamp:
                return None
        return None

    def _is_elsewhere(self, stamp: int) -> bool:
        """Whether to seek: backwards, or where there is a key frame beyond some frames."""
        if stamp <= self.position:
            return True
        entries, last = self._stream.index_entries, -1
        if self._sent is not None:
            last = entries.search_timestamp(self._sent, backward=True, any_frame=True)
        return entries.search_timestamp(stamp, backward=True) - last > AHEAD

    def _seek(self, stamp: int) -> None:
        """Goes to the last key frame whose time of decoding is not after `stamp`."""
        self._video.seek(stamp, stream=self._stream, backward=True)
        first = next((p for p in self._video.demux(self._stream) if p.size), None)
        if first is None or first.pts is None or first.dts is None:
            self.close()
            self._open()
        else:
            self._begin(first)

    def _seek_earlier(self) -> None:
        """Goes to the key frame before the one that decoding began with, or to the beginning."""
        began = self._began
        self._seek(self._group - 1)
        if self._began >= began:
            self.close()
            self._open()

    def _begin(self, first) -> None:
        """Decodes from the packet `first`, which was read already, or from the beginning."""
        self.position = -math.inf
        self._began = -math.inf if first is None else first.pts
        self._group = 0 if first is None else first.dts
        self._sent, self._checks = None, {}
        self._frames = self._decoded(first)

    def _decoded(self, first) -> Iterator:
        """The frames, in the order of their time stamps."""
        packets = self._video.demux(self._stream)
        for packet in packets if first is None else chain([first], packets):
            if packet.is_corrupt:
                raise CorruptRecord(f"{self.path} breaks off, or is damaged, at {packet.pts}")
            if packet.size:
                self._sent = packet.dts
                self._checks[packet.pts] = packet.size, google_crc32c.value(bytes(packet))
                if len(self._checks) > HELD:
                    self._checks = {k: v for k, v in self._checks.items() if k > self.position}
            yield from packet.decode()
