"""The video of one camera in one episode: encoded by PyAV, the same bytes every time.

Every encoder has one thread, and begins anew with each episode, so that an episode can be put
behind any other without being decoded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from depthtok.errors import SourceError
from depthtok.frames.depth_codes import PIXELS
from depthtok.frames.parquet import arrow
from pipelines.export.config import ExportConfig

TICKS = 512
"""Of a stream's time base in the time of one frame."""

_X265 = "lossless=1:log-level=error:pools=none:frame-threads=1:bframes=0:info=0"


@dataclass(frozen=True)
class VideoCodec:
    """An encoder of FFmpeg's, its options, and the pixels that it is given."""

    encoder: str
    pixels: str
    options: dict[str, str]
    even: bool  # whether sides must be even

    @property
    def lerobot_name(self) -> str:
        """The codec's own name, which files and LeRobot have."""
        return {"libsvtav1": "av1", "libx264": "h264", "libx265": "hevc"}[self.encoder]


def rgb_codec(config: ExportConfig) -> VideoCodec:
    """What encodes pictures: as LeRobot does it by default, but for the number of threads."""
    options = {"g": str(config.key_frames), "crf": str(config.crf)}
    if config.codec == "h264":
        return VideoCodec("libx264", "yuv420p", {**options, "bf": "0"}, even=True)
    speed = {"preset": "12", "svtav1-params": "fast-decode=0:lp=1"}
    return VideoCodec("libsvtav1", "yuv420p", {**options, **speed}, even=True)


def depth_codec(config: ExportConfig) -> VideoCodec:
    """What encodes 12-bit codes without loss."""
    options = {"g": str(config.key_frames), "preset": "superfast", "x265-params": _X265}
    return VideoCodec("libx265", PIXELS, options, even=False)


def require_encoders(codecs: Iterable[VideoCodec]) -> None:
    """Raises `SourceError` where PyAV here lacks an encoder, or its 12 bits; `MissingPackage`
    without PyAV or pyarrow."""
    from depthtok.sources.video_file import require_av

    av = require_av()
    arrow()
    for codec in codecs:
        try:
            formats = [form.name for form in av.Codec(codec.encoder, "w").video_formats or ()]
        except ValueError:
            formats = []
        if codec.pixels not in formats:
            raise SourceError(
                f"PyAV {av.__version__} cannot encode {codec.pixels} with {codec.encoder}",
                remedy="install PyAV from PyPI, whose FFmpeg has it; leave --depth out, or choose "
                "another --set codec",
            )


def write_clip(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W"]],
    rate: Fraction,
    codec: VideoCodec,
) -> None:
    """Encodes frames into a new file. Raises `SourceError` for frames that it cannot take."""
    import av

    os.environ.setdefault("SVT_LOG", "1")  # the encoder writes to stderr of its own accord
    with av.open(str(path), "w", format="mp4") as out:
        stream: av.VideoStream | None = None
        for number, frame in enumerate(frames):
            height, width = frame.shape[:2]
            if stream is None:
                if codec.even and (height % 2 or width % 2):
                    raise SourceError(
                        f"frames of {height} x {width} px cannot be encoded: sides must be even",
                        remedy="leave this camera out, or export with --format rlds",
                    )
                added = out.add_stream(codec.encoder, rate=rate, options=codec.options)
                assert isinstance(added, av.VideoStream), added
                stream = added
                stream.height, stream.width, stream.pix_fmt = height, width, codec.pixels
                stream.codec_context.thread_count = 1
                _open(out, codec, (height, width))
            if (height, width) != (stream.height, stream.width):
                raise SourceError(
                    f"frame {number} has {height} x {width} px, those before it "
                    f"{stream.height} x {stream.width}",
                    remedy="a video has frames of one size: export with --format rlds",
                )
            picture = _picture(frame, codec.pixels)
            picture.pts, picture.time_base = number, 1 / rate
            out.mux(stream.encode(picture))
        if stream is not None:
            out.mux(stream.encode())


def _open(out, codec: VideoCodec, size: tuple[int, int]) -> None:
    """Opens the encoder of a file. Raises `SourceError` for a size that it does not take."""
    import av

    try:
        with ordinary_threads():
            out.start_encoding()
    except av.error.ArgumentError as error:
        raise SourceError(
            f"frames of {size[0]} x {size[1]} px cannot be encoded by {codec.encoder}",
            remedy="leave this camera or --depth out, or export with --format rlds",
        ) from error


@contextmanager
def ordinary_threads() -> Iterator[None]:
    """An encoder is opened within, without what SVT-AV1 does where root runs it.

    It makes the calling thread and its own ones real-time (SCHED_FIFO, 99); all that the process
    starts later would be, and two pools of such threads that wait by spinning lock a machine up.
    """
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getscheduler(0)
    try:
        yield
    finally:
        for thread in [int(task.name) for task in Path("/proc/self/task").iterdir()]:
            with suppress(ProcessLookupError):
                if os.sched_getscheduler(thread) == os.SCHED_FIFO != before:
                    os.sched_setscheduler(thread, before, os.sched_param(0))


def _picture(frame: np.ndarray, pixels: str):
    """A frame for the encoder."""
    import av

    if frame.dtype == np.uint8:
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    height, width = frame.shape
    picture = av.VideoFrame(width, height, pixels)
    plane = picture.planes[0]
    rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
    rows[:height, :width] = frame
    plane.update(rows.tobytes())
    return picture
