"""Videos that are cut, damaged or turned, and those that only look so."""

import errno
import os
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")

from depthtok.errors import CorruptRecord, SourceUnavailable  # noqa: E402
from depthtok.sources.video_file import decoded, look, require_readable  # noqa: E402
from tests.shares import fails_from_now_on  # noqa: E402

FRAMES = 48
FAST = {"movflags": "faststart"}
NO_CUTS = {"sc_threshold": "0"}  # noise is taken for a new scene, in I frames alone
SOUND = {  # name: codec, and how it is written
    "mpeg4.mp4": ("mpeg4", FAST, {}),
    "b-frames.mp4": ("libx264", FAST, {"bf": "2", **NO_CUTS}),
    "hevc.mp4": ("libx265", FAST, {"x265-params": "log-level=none"}),
    "vfr.mp4": ("libx264", FAST, {"uneven": True}),
    "index-last.mov": ("libx264", {}, {}),
    "mpeg4.mkv": ("mpeg4", {}, {}),
    "b-frames.mkv": ("libx264", {}, {"bf": "3", **NO_CUTS}),
    "vfr.mkv": ("libx264", {}, {"uneven": True}),
    "lossless.mkv": ("ffv1", {}, {}),
    "vp8.webm": ("libvpx", {}, {}),
    "alt-ref.webm": ("libvpx", {}, {"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "vp9.webm": ("libvpx-vp9", {}, {}),
    "mpeg4.avi": ("mpeg4", {}, {}),
    "b-frames.avi": ("mpeg4", {}, {"bf": "2", **NO_CUTS}),
    "mjpeg.avi": ("mjpeg", {}, {}),
}
UNSTATED = {
    "live.mkv": ("mpeg4", {"live": "1"}, {}),
    "live.webm": ("libvpx", {"live": "1"}, {}),
    "fragments.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}, {}),
}


def write(path, codec, options, settings, *, frames=FRAMES, prepare=lambda stream: None):
    """A film of noise over a grey that rises."""
    rng, settings = np.random.default_rng(0), dict(settings)
    uneven = settings.pop("uneven", False)
    with av.open(str(path), "w", options=options) as box:
        stream = box.add_stream(codec, rate=10, options=settings)
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size, stream.bit_rate = 8, 2_000_000
        if uneven:
            stream.codec_context.time_base = Fraction(1, 1000)
        prepare(stream)
        time = 0
        for number in range(frames):
            image = rng.integers(0, 60, (64, 96, 3), np.uint8) + np.uint8(4 * number)
            image[:16, :24] = (255, 0, 0)  # red at the upper left
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if uneven:
                time += int(rng.integers(20, 200))
                frame.pts, frame.time_base = time, Fraction(1, 1000)
            box.mux(stream.encode(frame))
        box.mux(stream.encode())
    return path


def read(path):
    notes = {}
    return list(decoded(path, notes)), notes


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A function that gives a film by its name, written once."""
    folder = tmp_path_factory.mktemp("films")

    def film(name):
        path = folder / name
        return path if path.exists() else write(path, *{**SOUND, **UNSTATED}[name])

    return film


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_are_read_whole(films, name):
    frames, notes = read(films(name))
    assert len(frames) == FRAMES
    assert notes == {}
    assert {frame.shape for frame in frames} == {(64, 96, 3)}
    assert look(films(name)).size == (64, 96)


@pytest.mark.parametrize("share", [0.3, 0.61, 0.9])
@pytest.mark.parametrize("name", SOUND)
def test_files_that_were_cut_are_damaged(films, tmp_path, name, share):
    data = films(name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CorruptRecord, match=r"breaks off|ends early|cannot be decoded|not a video"):
        read(path)


def test_a_cut_between_two_frames_is_damage_too(films, tmp_path):
    """So that no frame is half there: every packet is whole, and the last ones are missing."""
    for name in ("mpeg4.mp4", "mpeg4.mkv", "mpeg4.avi", "b-frames.avi", "vp8.webm"):
        with av.open(str(films(name))) as video:
            starts = sorted(packet.pos for packet in video.demux(video=0) if packet.size)
        for remaining in (1, 2, 20):
            path = tmp_path / name
            path.write_bytes(films(name).read_bytes()[: starts[-remaining]])
            with pytest.raises(CorruptRecord, match=r"ends early|breaks off"):
                read(path)


def test_the_last_bytes_of_frames_count(films, tmp_path):
    """Of B frames the last one stored is not the last one shown: no duration tells."""
    content, path = films("b-frames.mkv").read_bytes(), tmp_path / "cut.mkv"
    cues = content.rindex(bytes.fromhex("1c53bb6b"))  # behind the frames
    path.write_bytes(content[: cues - 8])
    with pytest.raises(CorruptRecord, match="breaks off after 47 frames"):
        read(path)
    path.write_bytes(content[:cues])
    assert len(read(path)[0]) == FRAMES


def test_an_mp4_cut_in_the_description_at_its_end_is_damaged(films, tmp_path):
    content = films("index-last.mov").read_bytes()
    path = tmp_path / "cut.mov"
    for end in range(content.rindex(b"trak"), len(content), 16):
        path.write_bytes(content[:end])
        assert look(path).size in (None, (64, 96))
        try:
            frames = len(read(path)[0])
        except CorruptRecord:
            continue
        assert frames in (0, FRAMES)


def test_the_message_counts(films, tmp_path):
    data = films("mpeg4.mp4").read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptRecord, match=r"half.mp4 breaks off, .* after \d\d of 48 frames"):
        read(path)
    data = films("mpeg4.mkv").read_bytes()
    path = tmp_path / "half.mkv"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptRecord, match=r"ends early: 2\.\d+ of 4\.800 s are there"):
        read(path)


@pytest.mark.parametrize("name", ["mpeg4.mp4", "b-frames.mp4", "b-frames.mkv", "mjpeg.avi"])
def test_damage_inside_is_an_error(films, tmp_path, name):
    data = bytearray(films(name).read_bytes())
    rng = np.random.default_rng(1)
    for position in rng.integers(len(data) // 3, len(data) * 2 // 3, 40):
        data[position] ^= 0x55
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CorruptRecord):
        read(path)


@pytest.mark.parametrize("name", UNSTATED)
def test_a_container_that_states_nothing_is_noted(films, name):
    frames, notes = read(films(name))
    assert len(frames) == FRAMES
    assert "not stated" in notes["length"]


def test_an_edit_list_that_leaves_frames_out_is_no_damage(films, tmp_path):
    data = bytearray(films("b-frames.mp4").read_bytes())
    at = data.index(b"elst") + 12  # after version, flags and count: duration in ms
    data[at : at + 4] = (2000).to_bytes(4, "big")
    path = tmp_path / "trimmed.mp4"
    path.write_bytes(data)
    frames, notes = read(path)
    assert (len(frames), notes) == (20, {})


def with_sound(path, seconds):
    """Video of 3 s, and sound of `seconds`."""
    with av.open(str(path), "w") as box:
        video = box.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = box.add_stream("aac", rate=48000)
        packets = []
        for number in range(30):
            image = np.full((64, 96, 3), 8 * number, np.uint8)
            packets += video.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
        for number in range(int(seconds * 50)):
            silence = np.zeros((2, 960), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48000, 960 * number
            packets += sound.encode(frame)
        packets += [*video.encode(), *sound.encode()]
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            box.mux(packet)
    return path


@pytest.mark.parametrize("seconds", [2, 7])
@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_sound_may_be_longer_or_shorter(tmp_path, kind, seconds):
    path = with_sound(tmp_path / f"film.{kind}", seconds)
    frames, notes = read(path)
    assert (len(frames), notes) == (30, {})
    if kind == "mkv":
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
        with pytest.raises(CorruptRecord, match="ends early"):
            read(path)


def corner(frame):
    """Where the red is."""
    height, width = frame.shape[:2]
    for name, (y, x) in {
        "upper left": (4, 4),
        "upper right": (4, width - 5),
        "lower left": (height - 5, 4),
        "lower right": (height - 5, width - 5),
    }.items():
        if frame[y, x, 0] > 150 and frame[y, x, 1] < 100:
            return name
    return None


ONE = 65536
TURNS = {  # display matrix, as phones write it: where the red corner is to be seen, and EXIF's way
    "clockwise": ((0, ONE, -ONE, 0), "upper right", 6),
    "counterclockwise": ((0, -ONE, ONE, 0), "lower left", 8),
    "half": ((-ONE, 0, 0, -ONE), "lower right", 3),
    "mirrored": ((-ONE, 0, 0, ONE), "upper right", 2),
    "transposed": ((0, ONE, ONE, 0), "upper left", 5),
}


@pytest.mark.parametrize("turn", TURNS)
def test_display_matrices_are_applied(tmp_path, turn):
    (a, b, c, d), offset, way = TURNS[turn]
    path = write(tmp_path / "film.mp4", "mpeg4", {}, {}, frames=5)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix after 40 bytes
    matrix = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join((n % 2**32).to_bytes(4, "big") for n in matrix)
    path.write_bytes(data)
    frames, notes = read(path)
    assert [corner(frame) for frame in frames] == [offset] * 5
    assert notes == {"turned": {str(way): 5}}
    assert frames[0].shape[:2] == look(path).size == ((96, 64) if b else (64, 96))


def test_a_depth_video_is_no_picture(tmp_path):
    def grey(stream):
        stream.pix_fmt = "gray16le"

    path = tmp_path / "depth.mkv"
    with av.open(str(path), "w") as box:
        stream = box.add_stream("ffv1", rate=10)
        stream.width, stream.height = 96, 64
        grey(stream)
        image = np.full((64, 96), 1500, np.uint16)
        box.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray16le")))
        box.mux(stream.encode())
    assert look(path).depth
    with pytest.raises(CorruptRecord, match="is a depth video"):
        read(path)
    monochrome = tmp_path / "grey.mkv"
    with av.open(str(monochrome), "w") as box:
        stream = box.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "gray"
        image = np.full((64, 96), 90, np.uint8)
        box.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        box.mux(stream.encode())
    assert not look(monochrome).depth  # a camera without colour
    assert read(monochrome)[0][0].shape == (64, 96, 3)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOENT, errno.EACCES])
def test_a_file_system_that_fails_is_not_a_broken_video(tmp_path, number):
    with pytest.raises(SourceUnavailable, match=os.strerror(number)):
        require_readable(tmp_path / "a.mp4", OSError(number, os.strerror(number)))


def test_what_ffmpeg_says_of_broken_videos_too_is_decided_by_the_file(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"cut")
    said = OSError(errno.EIO, "Input/output error")
    require_readable(tmp_path / "a.mp4", said)
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(SourceUnavailable, match="No such file"):
        require_readable(tmp_path / "a.mp4", said)


@pytest.mark.parametrize("name", ["mpeg4.mp4", "mpeg4.mkv", "mpeg4.avi"])
def test_what_a_share_keeps_back_for_a_moment_ends_the_run_and_is_no_damage(tmp_path, name):
    write(tmp_path / name, *SOUND[name])
    frames = decoded(tmp_path / name, {})
    next(frames)
    fails_from_now_on(tmp_path / name)
    with pytest.raises(SourceUnavailable, match="could not be read for a moment, and can now"):
        list(frames)
    assert len(list(decoded(tmp_path / name, {}))) == FRAMES
