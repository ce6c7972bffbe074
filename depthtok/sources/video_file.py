"""One video file: its size and rate, and its frames, upright and complete, or an error.

A file that was cut short mostly still plays to where it ends. What was read is compared with what
the container says: mp4 and mov by their index, avi by its frame count, Matroska and WebM by the
sizes of their clusters and their duration. A container that says nothing (a live stream) is noted.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depthtok.disk.bounds import too_large
from depthtok.disk.bytes_of import local_file
from depthtok.disk.digests import file_sha256
from depthtok.disk.lfs import require_fetched
from depthtok.disk.regular import reading, require_file, unavailable
from depthtok.errors import CorruptRecord, MissingPackage, SourceUnavailable
from depthtok.sources.matroska import breaks_off
from depthtok.sources.upright import STORED, of_matrix, swaps_sides, turned

CUT = "copy or record it again; what there is can be kept with: ffmpeg -i IN OUT"
SMALLER = "make a smaller copy: ffmpeg -i IN -vf scale=1920:-2 OUT"
AMBIGUOUS = (errno.EIO, errno.EPERM)  # demuxers say EIO at an early end, decoders -1 for an error
STRICT = {"mjpeg": "explode", "ffv1": "explode"}
"""Decoders that hide damage unless they are told not to. Others flag or raise it by themselves,
or (VP8, VP9, HEVC) cannot tell most of it."""
_MATRIX = "DISPLAYMATRIX"


@dataclass(frozen=True)
class Look:
    """`size` (height and width, px) of the upright frames and `rate` in Hz; None if unreadable or
    unknown. `depth`: a pixel is one number of more than 8 bits, so that this is not a picture.
    `frames` is their approximate number, if known."""

    size: tuple[int, int] | None = None
    rate: float | None = None
    depth: bool = False
    frames: int | None = None


def look(path: Path) -> Look:
    """The `Look` of a video, by its header and its first frame. Raises `MissingPackage`, and
    `SourceUnavailable` for a file that cannot be read now."""
    av = require_av()
    try:
        with open_video(path) as video:
            stream = frame_stream(path, video)
            if is_depth(stream):
                return Look(depth=True)
            rate = stream.average_rate
            size = (stream.height, stream.width)
            if too_large(*size):
                return Look()
            frame = next(video.decode(stream), None)
            if frame is not None and swaps_sides(way_of(frame)):
                size = size[::-1]
            count = stream.frames or round((video.duration or 0) / 1e6 * (rate or 0))
            return Look(size, float(rate) if rate else None, frames=count or None)
    except (OSError, CorruptRecord, av.FFmpegError) as error:
        require_readable(path, error)
        return Look()


def frame_stream(path: Path, video):
    """The stream of a video's frames. Raises `CorruptRecord` where there is none, or its
    description is lost."""
    if not video.streams.video:
        raise CorruptRecord(f"{path} has no video frames", remedy="leave it out")
    stream = video.streams.video[0]
    if stream.codec_context is None:  # of mp4, whose description comes last
        raise CorruptRecord(f"{path} breaks off in the description of its frames", remedy=CUT)
    return stream


def be_strict(stream) -> None:
    """Lets the decoder of a stream tell damage, before its first frame."""
    if mode := STRICT.get(stream.codec_context.name):
        stream.codec_context.options = {"err_detect": mode}


def is_depth(stream) -> bool:
    """Whether a stream holds one number a pixel of more than 8 bits, as depth videos do."""
    pixels = stream.codec_context.format
    if pixels is None:
        return False
    return len(pixels.components) == 1 and pixels.components[0].bits > 8


def way_of(frame) -> int:
    """How a decoded frame is to be turned: see `upright.py`. Raises `CorruptRecord`."""
    for data in frame.side_data:
        if data.type.name == _MATRIX:
            return of_matrix(np.frombuffer(bytes(data)[:36], np.int32).tolist())
    return STORED


def decoded(path: Path, notes: dict[str, object]) -> Iterator[np.ndarray]:
    """The frames of a video, uint8 [H, W, 3], upright.

    After the last one, `notes` has how many of them were `turned` which way, and `length` if it
    could not be checked. Raises `CorruptRecord` for a file that cannot be decoded whole,
    `SourceUnavailable`, `MissingPackage`.
    """
    try:
        yield from _decoded(path, notes)
    except CorruptRecord as error:
        if _is_whole(path):
            raise SourceUnavailable(
                f"{path} could not be read for a moment, and can now ({error.problem})",
                remedy="run the same command again: what is done is kept",
            ) from error
        raise


def _is_whole(path: Path) -> bool:
    """Whether all of a video can be decoded: what is damaged fails each time, a share does not."""
    try:
        for _ in _decoded(path, {}):
            pass
    except CorruptRecord:
        return False
    return True


def _decoded(path: Path, notes: dict[str, object]) -> Iterator[np.ndarray]:
    """As `decoded`, where any failure is one of the file."""
    av = require_av()
    with open_video(path) as video:
        stream = frame_stream(path, video)
        if is_depth(stream):
            raise CorruptRecord(f"{path} is a depth video, not a picture", remedy="leave it out")
        if reason := too_large(stream.height, stream.width):
            raise CorruptRecord(f"{path} has frames that are too large: {reason}", remedy=SMALLER)
        be_strict(stream)
        ledger = _Ledger(path, video, stream)
        ways: dict[int, int] = {}
        try:
            for frame in ledger.frames():
                way = way_of(frame)
                ways[way] = ways.get(way, 0) + 1
                yield turned(frame.to_ndarray(format="rgb24"), way)
        except av.FFmpegError as error:
            require_readable(path, error)
            raise ledger.broken(f"cannot be decoded: {error}") from error
        ledger.require_whole()
    if not ledger.stated:
        notes["length"] = "not stated by the container: it may have been cut"
    if ways.keys() - {STORED}:
        notes["turned"] = {str(way): count for way, count in sorted(ways.items())}


class _Ledger:
    """Counts what is read of a video, to compare it with what its container states."""

    def __init__(self, path: Path, video, stream) -> None:
        self.path, self.video, self.stream = path, video, stream
        self.kind = video.format.name
        self.stated = bool(video.duration if "matroska" in self.kind else stream.frames)
        """Whether the container states its length."""
        self.packets = self.decoded = self.discarded = 0
        self.end = self.end_decoded = self.end_of_all = 0.0  # s
        self.ticks = 0  # of the stream's time base, in the order of decoding
        self.gap = 0.0  # s, the largest between frames
        self._last_time: float | None = None
        self._last_has_duration = True

    def frames(self) -> Iterator:
        """The decoded frames. Raises `CorruptRecord` for damage that is flagged."""
        for packet in self.video.demux():
            self._note_packet(packet)
            if packet.stream_index != self.stream.index:
                continue
            if packet.is_corrupt:
                raise self.broken("breaks off, or is damaged")
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise self.broken("has a damaged frame")
                if reason := too_large(frame.height, frame.width):
                    raise self.broken(f"has a frame that is too large ({reason})")
                self._note_frame(frame)
                yield frame

    def broken(self, what: str) -> CorruptRecord:
        """The error for damage after the frames decoded so far."""
        total = f" of {self.stream.frames}" if self.stream.frames else ""
        return CorruptRecord(f"{self.path} {what} after {self.decoded}{total} frames", remedy=CUT)

    def _note_packet(self, packet) -> None:
        if not packet.size:
            return
        unit = float(packet.time_base) if packet.time_base else 0.0
        length = packet.duration or 0
        if packet.pts is not None:
            self.end_of_all = max(self.end_of_all, (packet.pts + length) * unit)
        if packet.stream_index != self.stream.index:
            return
        self.packets += 1
        self.discarded += packet.is_discard
        if packet.pts is not None:
            self.end = max(self.end, (packet.pts + length) * unit)
        if packet.dts is not None:
            self.ticks = max(self.ticks, packet.dts + length)
        self._last_has_duration = length > 0

    def _note_frame(self, frame) -> None:
        self.decoded += 1
        if frame.time is not None:
            if self._last_time is not None:
                self.gap = max(self.gap, frame.time - self._last_time)
            self._last_time = frame.time
            length = (getattr(frame, "duration", 0) or 0) * float(frame.time_base or 0)
            self.end_decoded = max(self.end_decoded, frame.time + length)

    def require_whole(self) -> None:
        """Raises `CorruptRecord` where less was read than the container states."""
        if "mov" in self.kind:
            indexed = len(self.stream.index_entries)
            expected = max(indexed, self.packets) - self.discarded
            if self.packets < indexed or self.decoded < self.packets - self.discarded:
                raise self._ends_early(f"{self.decoded} of {expected} frames")
        elif self.kind == "avi" and self.stated:
            expected = self.stream.frames * self._frame_ticks()
            if self.ticks < expected:
                raise self._ends_early(f"{self.decoded} of {self.stream.frames} frames")
        elif "matroska" in self.kind:
            if self.stated:
                self._require_duration()
            if breaks_off(self.path):  # what is missing may lie between others, in time
                raise self.broken("breaks off")

    def _frame_ticks(self) -> float:
        rate, unit = self.stream.average_rate, self.stream.time_base
        return float(1 / (rate * unit)) if rate and unit else 1.0

    def _require_duration(self) -> None:
        """By time, because Matroska counts no frames. Its duration covers all tracks; a tag may
        state that of the video alone."""
        mean = self.end / max(self.packets, 1)
        slack = (0.5 * mean if self._last_has_duration else 1.5 * max(mean, self.gap)) + 0.002
        duration = self.video.duration / 1e6  # in av's time base
        video_duration = _seconds(self.stream.metadata.get("DURATION")) or duration
        if self.end < video_duration - slack and self.end_of_all < duration - slack:
            raise self._ends_early(f"{self.end:.3f} of {video_duration:.3f} s")
        if self.end_decoded < self.end - slack - 0.5 * mean:
            raise self._ends_early(f"frames for {self.end_decoded:.3f} of {self.end:.3f} s")

    def _ends_early(self, what: str) -> CorruptRecord:
        return CorruptRecord(f"{self.path} ends early: {what} are there", remedy=CUT)


def _seconds(text: str | None) -> float | None:
    """ "HH:MM:SS.fraction" in seconds; None for another text."""
    try:
        hours, minutes, seconds = (text or "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


@contextmanager
def open_video(path: Path) -> Iterator:
    """The container of a video, wherever it lies; closed when the block ends. Raises
    `CorruptRecord`, `SourceUnavailable`, `MissingPackage`."""
    av = require_av()
    with local_file(path) as file:
        require_file(file)
        try:
            video = av.open(str(file))
        except (av.FFmpegError, OSError) as error:
            require_readable(path, error)
            require_fetched(path)
            raise CorruptRecord(f"{path} is not a video: {error}", remedy="replace it") from error
        with video:
            yield video


def require_readable(path: Path, error: Exception) -> None:
    """Raises `SourceUnavailable` if `error` came from the file system. FFmpeg raises some of these
    for broken videos too: then the file is read to find out."""
    if not isinstance(error, OSError):
        return
    if error.errno not in AMBIGUOUS:
        raise unavailable(path, error, "cannot be read") from error
    with reading(path):
        file_sha256(path)


def require_av():
    """The module `av`. Raises `MissingPackage`."""
    try:
        import av
    except ImportError:
        raise MissingPackage(
            "reading videos needs the package `av` (PyAV)",
            remedy="pip install 'depthtok[video]', or give folders of images",
        ) from None
    return av
