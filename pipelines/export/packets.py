"""Packets of videos that are copied, not decoded: from a data set's video to a clip, and from
clips to one file.

A range of packets can be copied where it begins with a key frame and holds exactly the frames of
an episode, so that none of them, and none after them, needs a frame outside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import dropwhile, islice
from pathlib import Path

import google_crc32c
import numpy as np
from jaxtyping import Bool, Int64

from depthtok.disk.files import commit_file
from depthtok.errors import CorruptRecord
from depthtok.sources.video_file import frame_stream, open_video, require_readable
from pipelines.export.clips import TICKS

READABLE = {"h264": "yuv420p", "hevc": "yuv420p", "av1": "yuv420p"}
"""By codec, the pixels of videos that LeRobot reads."""

SAME_RATE = Fraction(1, 10**6)
"""Rates that differ by less, relatively, are one, written with more or fewer digits."""


@dataclass(frozen=True)
class ClipFacts:
    """What is known of a video file. `delay`: by how many frames the order of decoding runs ahead
    of the order of showing. Files of equal `parameters` can be put together."""

    frames: int
    bytes: int
    delay: int
    parameters: str

    def to_json(self) -> dict[str, object]:
        """A plain dictionary."""
        return dict(vars(self))


@dataclass(frozen=True)
class PacketIndex:
    """The packets of a video in the order of decoding; `codec` and `pixels` are what they hold."""

    pts: Int64[np.ndarray, " n"]
    dts: Int64[np.ndarray, " n"]
    key: Bool[np.ndarray, " n"]
    check: Int64[np.ndarray, "n 2"]  # size in bytes, CRC32C
    codec: str
    pixels: str

    def range_of(self, stamps: Iterable[int]) -> range | None:
        """The packets of the frames with these ascending time stamps; None where they cannot be
        taken out alone."""
        wanted = np.fromiter(stamps, np.int64)
        first = np.flatnonzero(self.pts == wanted[0])
        if READABLE.get(self.codec) != self.pixels or len(first) != 1 or not self.key[first[0]]:
            return None
        span = range(int(first[0]), int(first[0]) + len(wanted))
        inside = np.sort(self.pts[span.start : span.stop])
        ends = span.stop == len(self.key) or (span.stop < len(self.key) and self.key[span.stop])
        return span if ends and np.array_equal(inside, wanted) else None


def video_rate(fps: float) -> Fraction | None:
    """Frames per second exactly as they are written in decimals; where the time base of that does
    not fit FFmpeg's 32 bits, as for 29.97002997002997, the fraction that is meant: 30000/1001. None
    where there is none."""
    written = Fraction(repr(float(fps)))
    for rate in (written, written.limit_denominator(1001)):
        base = 1 / (rate * TICKS) if rate else Fraction(2**31)
        fits = max(base.numerator, base.denominator, rate.denominator) < 2**31
        if fits and abs(rate - written) <= SAME_RATE * written:
            return rate
    return None


def index(path: Path) -> PacketIndex:
    """Reads a video once. Raises `CorruptRecord`, `SourceUnavailable`."""
    rows: list[tuple[int, int, bool, int, int]] = []
    with open_video(path) as video:
        stream = frame_stream(path, video)
        for packet in _packets(path, video, stream):
            shown, sent = (-1 if stamp is None else stamp for stamp in (packet.pts, packet.dts))
            crc = google_crc32c.value(bytes(packet))
            rows.append((shown, sent, packet.is_keyframe, packet.size, crc))
        codec, pixels = (
            stream.codec_context.codec.canonical_name,
            stream.codec_context.pix_fmt or "",
        )
    table = np.array(rows, np.int64).reshape(-1, 5)
    pts, dts, key = table[:, 0], table[:, 1], table[:, 2] != 0
    return PacketIndex(pts, dts, key, table[:, 3:], codec, pixels)


def cut_out(path: Path, index: PacketIndex, span: range, target: Path, rate: Fraction) -> None:
    """Copies a range of packets, in the order of decoding, into a file of their own. Raises
    `CorruptRecord` where the file does not have them."""
    import av

    with open_video(path) as video, av.open(str(target), "w", format="mp4") as out:
        stream = frame_stream(path, video)
        video.seek(int(index.dts[span.start]), stream=stream, backward=True)
        wanted = index.pts[span.start : span.stop].tolist()
        after_seek = _packets(path, video, stream)
        from_first = dropwhile(lambda packet: packet.pts != wanted[0], after_seek)
        packets = list(islice(from_first, len(wanted)))
        if [packet.pts for packet in packets] != wanted:
            raise CorruptRecord(f"{path} cannot be read from the time stamp {wanted[0]} on")
        _Writer(out, stream, rate, _delay(packets)).add(packets)


def examined(path: Path) -> ClipFacts:
    """What is to be known of a clip, to put it behind others."""
    with open_video(path) as video:
        stream = frame_stream(path, video)
        packets = list(_packets(path, video, stream))
        context = stream.codec_context
        about = (context.codec.canonical_name, context.pix_fmt, context.width, context.height)
        digest = hashlib.sha256(repr(about).encode() + (context.extradata or b""))
    size = sum(packet.size for packet in packets)
    return ClipFacts(len(packets), size, _delay(packets), digest.hexdigest())


def put_together(paths: Iterable[Path], target: Path, rate: Fraction, delay: int) -> None:
    """One file of clips of equal parameters, in their order, whose frames are shown at the rate
    without a gap. `delay` is the largest of theirs. Atomic."""
    import av

    with (
        commit_file(target) as partial,
        av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as out,
    ):
        writer: _Writer | None = None
        for path in paths:
            with open_video(path) as video:
                stream = frame_stream(path, video)
                writer = writer or _Writer(out, stream, rate, delay)
                writer.add(list(_packets(path, video, stream)))


class _Writer:
    """Muxes packets with new time stamps: one frame after the other."""

    def __init__(self, out, template, rate: Fraction, delay: int) -> None:
        self._out, self._delay, self._frames = out, delay, 0
        self._base = 1 / (rate * TICKS)
        self._stream = out.add_stream_from_template(template, opaque=True)
        self._stream.time_base = self._base

    def add(self, packets: list) -> None:
        ranks = _ranks(packets)
        for number, (packet, rank) in enumerate(zip(packets, ranks, strict=True)):
            packet.stream, packet.time_base = self._stream, self._base
            packet.pts = (self._frames + rank) * TICKS
            packet.dts = (self._frames + number - self._delay) * TICKS
            packet.duration = TICKS
            self._out.mux(packet)
        self._frames += len(packets)


def _packets(path: Path, video, stream) -> Iterator:
    """The packets with frames, in the order of decoding. Raises `CorruptRecord`."""
    import av

    try:
        for packet in video.demux(stream):
            if packet.is_corrupt:
                raise CorruptRecord(f"{path} breaks off, or is damaged, at {packet.pts}")
            if packet.size and not packet.is_discard:
                yield packet
    except av.FFmpegError as error:
        require_readable(path, error)
        raise CorruptRecord(f"{path} cannot be read: {error}") from error


def _ranks(packets: list) -> list[int]:
    """The place of each packet's frame in the order of showing."""
    order = np.argsort([packet.pts for packet in packets], kind="stable")
    ranks = np.empty(len(packets), np.int64)
    ranks[order] = np.arange(len(packets))
    return ranks.tolist()


def _delay(packets: list) -> int:
    return max((number - rank for number, rank in enumerate(_ranks(packets))), default=0)


@contextmanager
def opened_stream(path: Path) -> Iterator:
    """The stream of a video's frames."""
    with open_video(path) as video:
        yield frame_stream(path, video)
