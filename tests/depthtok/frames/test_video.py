"""Frames of videos by their time stamps, against plain PyAV: every frame, in any order."""

from itertools import count
from pathlib import Path

import av
import google_crc32c as crc32c
import numpy as np
import pytest

from depthtok.disk.images import ImageFiles
from depthtok.errors import CorruptRecord, SourceUnavailable
from depthtok.frames.video import VideoSource
from depthtok.frames.video_decoder import VideoDecoder
from depthtok.frames.video_index import packets
from depthtok.sources.pixels import PixelFormat
from depthtok.stores.stored_episode import View
from pipelines.export.clips import ordinary_threads
from tests.lerobot_sets import write_video
from tests.shares import fails_from_now_on

FRAMES, RATE = 23, 10
CODECS = {
    "h264": ("libx264", {"g": "7", "bf": "3", "sc_threshold": "0"}),
    "h264 open groups": ("libx264", {"g": "6", "bf": "2", "x264-params": "open-gop=1"}),
    "h264 one group": ("libx264", {"g": "250", "bf": "0"}),
    "hevc": ("libx265", {"x265-params": "keyint=8:bframes=3:open-gop=1:log-level=none"}),
    "av1": ("libsvtav1", {"g": "2", "preset": "12"}),
}


def moving(number: int) -> np.ndarray:
    frame = np.full((48, 64, 3), 40, np.uint8)
    frame[10:30, 2 * number : 2 * number + 12] = (250 - 7 * number, 10 * number, 90)
    return frame


@pytest.fixture(scope="module", params=sorted(CODECS))
def video(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    codec, options = CODECS[request.param]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        with ordinary_threads():
            out.start_encoding()
        for number in range(FRAMES):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(moving(number))))
        out.mux(stream.encode())
    return path


def decoded(path: Path) -> dict[float, np.ndarray]:
    """By time, s: what plain PyAV gives, from the first frame to the last."""
    with av.open(str(path)) as file:
        frames = file.decode(video=0)
        return {float(f.pts * f.time_base): f.to_ndarray(format="rgb24") for f in frames}


def source() -> VideoSource:
    return VideoSource.of(
        View("front", "rgb", PixelFormat("raw", "uint8", (48, 64, 3))), ImageFiles()
    )


def test_every_frame_is_the_one_that_its_time_means(video):
    reference = decoded(video)
    times = np.array(sorted(reference))
    assert np.allclose(times, np.arange(FRAMES) / RATE)
    rows = packets(video).rows(np.arange(FRAMES) / RATE, 5)
    files = [Path("no such file")] * 5 + [video]
    in_order = list(source().frames(files, rows))
    for time, frame in zip(times, in_order, strict=True):
        np.testing.assert_array_equal(frame, reference[time])

    scattered = source()  # one decoder, going back and forth
    for step in np.random.default_rng(0).permutation(FRAMES).tolist() * 2:
        (frame,) = scattered.frames(files, rows[step : step + 1])
        np.testing.assert_array_equal(frame, reference[times[step]])
    for start in range(FRAMES):  # a fresh one begins anywhere
        third = list(source().frames(files, rows[start::3]))
        np.testing.assert_array_equal(third, [reference[time] for time in times[start::3]])


def test_a_time_between_two_frames_means_neither(video):
    index = packets(video)
    near = index.rows(np.array([0.3001, 0.9999]), 0)
    np.testing.assert_array_equal(near, index.rows(np.array([0.3, 1.0]), 0))
    for times, problem in (
        ([0.1, 0.25], r"no frame at 0.2500 s \(step 1\)"),
        ([2.3], "no frame at 2.3"),
        ([0.5, 0.5], "same frame"),
    ):
        with pytest.raises(CorruptRecord, match=problem):
            index.rows(np.array(times), 0)


def test_changed_bytes_are_found_with_and_without_decoding(video, tmp_path):
    rows = packets(video).rows(np.arange(FRAMES) / RATE, 0)
    assert list(source().check([video], rows)) == []
    with av.open(str(video)) as file:
        at = [p.pos + p.size // 2 for p in file.demux(video=0) if p.size][11]
    data = bytearray(video.read_bytes())
    data[at] ^= 0xFF
    (tmp_path / "other.mp4").write_bytes(data)
    (error,) = source().check([tmp_path / "other.mp4"], rows)
    assert f"1 of {FRAMES} frames changed" in error.problem
    with pytest.raises(CorruptRecord, match=r"other\.mp4"):
        list(source().frames([tmp_path / "other.mp4"], rows))


def test_a_video_that_was_cut_lacks_its_last_frames_only(video, tmp_path):
    undamaged = packets(video)
    data = video.read_bytes()
    with av.open(str(video)) as file:
        last = max(p.pos for p in file.demux(video=0) if p.size)
    if data.index(b"moov") > last:
        (tmp_path / "cut.mp4").write_bytes(data[:last])
        with pytest.raises(CorruptRecord, match=r"cut\.mp4"):
            packets(tmp_path / "cut.mp4")
    assert len(undamaged.pts) == FRAMES


def test_no_more_decoders_stay_open_than_are_allowed(video):
    rows = packets(video).rows(np.arange(FRAMES) / RATE, 0)
    shared = source()
    readers = [shared.frames([video], rows) for _ in range(12)]
    for reader in readers:
        next(reader)
    for reader in readers:
        reader.close()
    assert len(shared.threaded.idle) == 8


def test_what_could_not_be_read_for_a_while_is_read_anew(video, monkeypatch):
    rows = packets(video).rows(np.arange(FRAMES) / RATE, 0)
    shared = source()
    reading = shared.frames([video], rows[:5])
    next(reading)

    def away(decoder, packets):
        raise SourceUnavailable("the share is away", remedy="look at it")

    with monkeypatch.context() as patched:
        patched.setattr(VideoDecoder, "_is_elsewhere", away)
        with pytest.raises(SourceUnavailable, match="away"):
            next(reading)
    assert not shared.decoders.idle
    reference = decoded(video)
    (frame,) = shared.frames([video], rows[1:2])
    np.testing.assert_array_equal(frame, reference[1 / RATE])


@pytest.fixture
def large(tmp_path) -> Path:
    """More than is read at once."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(60)]
    write_video(tmp_path / "large.mp4", noise)
    return tmp_path / "large.mp4"


def test_what_a_share_keeps_back_for_a_moment_is_no_damage(large, monkeypatch):
    whole = packets(large)
    rows = whole.rows(np.arange(60) / RATE, 0)
    reading = source().frames([large], rows[[0, 50]])
    next(reading)
    fails_from_now_on(large)
    np.testing.assert_array_equal(next(reading), decoded(large)[50 / RATE])

    calls, real = count(1), crc32c.value

    def value(data: bytes) -> int:
        if next(calls) == 10:
            fails_from_now_on(large)
        return real(data)

    monkeypatch.setattr(crc32c, "value", value)
    np.testing.assert_array_equal(packets(large).pts, whole.pts)
