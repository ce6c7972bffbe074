"""The parts of an export: names, cuts, ranges of packets, encoded clips, statistics, schemas."""

import json
import os
import sys
import tomllib
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from depthtok.data import Camera
from depthtok.errors import ConfigError, SourceError
from depthtok.frames.depth_codes import codes_of
from depthtok.meaning import Meaning
from depthtok.stores.statistics import quantiles
from pipelines.export import packets, statistics
from pipelines.export.clips import depth_codec, rgb_codec, write_clip
from pipelines.export.config import ExportConfig
from pipelines.export.layout import EpisodeRecords, file_path, runs
from pipelines.export.names import keys_of
from pipelines.export.schema_text import CameraFeatures, ColumnKeys, schema_text
from pipelines.export.tables import cut, write_rows

RATE = Fraction("12.5")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as video:
        return list(video.decode(video=0))


def test_codes_are_called_without_image():
    keys = keys_of(["image", "wrist_image", "wrist", "images-2", "top/left"])
    assert [k.codes.removeprefix("observation.depth_codes.") for k in keys.values()] == [
        *("main", "wrist", "wrist_2", "2", "top_left")
    ]
    assert keys["wrist_image"].rgb == "observation.images.wrist_image"
    assert keys["top/left"].depth == "observation.depth.top_left"


def test_files_are_cut_before_they_are_too_large():
    assert cut([4, 4, 4, 9, 1, 1], 8) == [range(2), range(2, 3), range(3, 4), range(4, 6)]
    assert cut([], 8) == []
    assert runs(["a", "a", "b", "a"]) == [range(2), range(2, 3), range(3, 4)]
    assert file_path("x-{chunk_index:03d}/{file_index:03d}", 2003) == "x-002/003"


INDEX = packets.PacketIndex(
    pts=np.array([0, 3, 1, 2, 4, 5, 8, 6, 7, 9]),
    dts=np.arange(10),
    key=np.array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0], bool),
    check=np.zeros((10, 2), np.int64),
    codec="h264",
    pixels="yuv420p",
)


@pytest.mark.parametrize(
    ("stamps", "span"),
    [
        (range(5), range(5)),
        (range(5, 10), range(5, 10)),
        (range(10), range(10)),
        (range(4), None),  # frame 4 would need the frames before it
        (range(1, 5), None),  # no key frame
        (range(0, 10, 2), None),
        (range(5, 11), None),
    ],
)
def test_only_whole_groups_of_packets_are_copied(stamps, span):
    assert INDEX.range_of(stamps) == span


def test_an_open_group_is_not_copied():
    """A frame that is stored after a key frame, and shown before it, needs those before both."""
    index = packets.PacketIndex(
        np.array([0, 2, 1, 5, 3, 4]),
        np.arange(6),
        np.array([1, 0, 0, 1, 0, 0], bool),
        np.zeros((6, 2), np.int64),
        "h264",
        "yuv420p",
    )
    assert index.range_of(range(3)) == range(3)  # nothing in it needs what follows
    assert index.range_of(range(3, 6)) is None
    assert index.range_of(range(5, 6)) is None


@pytest.mark.parametrize("codec", ["av1", "h264"])
@pytest.mark.parametrize("size", [(34, 62), (64, 96), (180, 320)])
def test_a_clip_has_its_frames_at_its_times_and_the_same_bytes_again(codec, size, tmp_path):
    config = ExportConfig(codec=codec, crf=12)
    rows, columns = np.mgrid[: size[0], : size[1]]
    frames = [
        np.stack([rows + 9 * n, columns, rows + columns], 2).clip(0, 255).astype(np.uint8)
        for n in range(7)
    ]
    for name in "ab":
        write_clip(tmp_path / name, iter(frames), RATE, rgb_codec(config))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    for number, (picture, frame) in enumerate(zip(decoded(tmp_path / "a"), frames, strict=True)):
        assert picture.time == pytest.approx(number / 12.5, abs=1e-6)
        assert np.abs(picture.to_ndarray(format="rgb24").astype(int) - frame).mean() < 6


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 96), (180, 320)])
def test_a_depth_clip_is_lossless_and_has_the_same_bytes_again(size, tmp_path, rng):
    frames = [rng.integers(0, 4096, size).astype(np.uint16) for _ in range(5)]
    for name in "ab":
        write_clip(tmp_path / name, iter(frames), RATE, depth_codec(ExportConfig()))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    for picture, frame in zip(decoded(tmp_path / "a"), frames, strict=True):
        np.testing.assert_array_equal(codes_of(picture), frame)


def test_what_a_video_cannot_hold_is_refused(tmp_path):
    odd, even = (np.zeros((side, 32, 3), np.uint8) for side in (33, 34))
    with pytest.raises(SourceError, match="33 x 32 px cannot be encoded"):
        write_clip(tmp_path / "a", [odd], RATE, rgb_codec(ExportConfig()))
    with pytest.raises(SourceError, match="2 x 2 px cannot be encoded by libsvtav1"):
        write_clip(tmp_path / "c", [even[:2, :2]], RATE, rgb_codec(ExportConfig()))
    if sys.platform == "linux":  # what the encoder makes of its threads is undone
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
    with pytest.raises(SourceError, match="8 x 8 px cannot be encoded by libx265"):
        write_clip(tmp_path / "d", [np.zeros((8, 8), np.uint16)], RATE, depth_codec(ExportConfig()))
    frames = [even, even.transpose(1, 0, 2)]
    with pytest.raises(SourceError, match="frame 1 has 32 x 34 px, those before it 34 x 32"):
        write_clip(tmp_path / "b", frames, RATE, rgb_codec(ExportConfig()))


def test_clips_one_after_the_other(tmp_path, rng):
    clips = [rng.integers(0, 4096, (length, 32, 32)).astype(np.uint16) for length in (3, 1, 4)]
    paths = [tmp_path / f"{number}.mp4" for number in range(3)]
    for path, frames in zip(paths, clips, strict=True):
        write_clip(path, frames, RATE, depth_codec(ExportConfig()))
    facts = [packets.examined(path) for path in paths]
    assert [fact.frames for fact in facts] == [3, 1, 4]
    assert len({fact.parameters for fact in facts}) == 1
    packets.put_together(paths, tmp_path / "all.mp4", RATE, 0)
    pictures = decoded(tmp_path / "all.mp4")
    assert [p.time for p in pictures] == pytest.approx(np.arange(8) / 12.5)
    np.testing.assert_array_equal([codes_of(p) for p in pictures], np.concatenate(clips))


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (30.0, Fraction(30)),
        (29.97, Fraction(2997, 100)),
        (12.34567, Fraction(1234567, 100000)),
        (30000 / 1001, Fraction(30000, 1001)),
        (14.985014985, Fraction(15000, 1001)),
        (3.3333333333, Fraction(10, 3)),
        (0.1, Fraction(1, 10)),
    ],
)
def test_a_rate_is_one_that_video_has(fps, rate, tmp_path):
    assert packets.video_rate(fps) == rate
    frames = [np.full((64, 64), 100 * number, np.uint16) for number in range(3)]
    write_clip(tmp_path / "clip", frames, rate, depth_codec(ExportConfig()))
    clips = [tmp_path / "clip"] * 2
    packets.put_together(clips, tmp_path / "both.mp4", rate, packets.examined(clips[0]).delay)
    times = [frame.time for frame in decoded(tmp_path / "both.mp4")]
    np.testing.assert_allclose(times, np.arange(6) / fps, rtol=1e-6)


@pytest.mark.parametrize("fps", [0.0007123456789, 1e-12])
def test_some_rates_no_video_has(fps):
    assert packets.video_rate(fps) is None


def test_a_table_in_batches_is_the_same_as_at_once(tmp_path, monkeypatch):
    """Also of columns that have no value in some batches, or none at all."""
    rows = [
        {"n": n, "low": 0.5 * n if n > 3 else None, "absent": ["wrist"] * (n == 5), "none": None}
        for n in range(7)
    ]
    write_rows(tmp_path / "once", rows)
    monkeypatch.setattr("pipelines.export.tables.BATCH", 2)
    write_rows(tmp_path / "batches", iter(rows))
    once, batches = (pq.read_table(tmp_path / name) for name in ("once", "batches"))
    assert batches.schema == once.schema
    assert batches.to_pylist() == once.to_pylist() == rows


def made_records(count):
    """As `episode.json` has them, of four videos; every tenth episode failed."""
    for number in range(count):
        text = json.dumps(
            {"frames": 50, "bytes": 10**6 + number, "delay": 1, "parameters": "a" * 64}
        )
        clips = {f"video {stream}": json.loads(text) for stream in range(4)}
        record = {"clips": clips, "copied": ["image"], "beyond": {"image": number}, "key": "k"}
        yield number, {"key": f"k{number}", "failed": "broken"} if number % 10 == 3 else record


def test_records_of_episodes_are_gathered():
    records = EpisodeRecords.of(made_records(5))
    assert list(records.numbers) == [0, 1, 2, 4]
    assert [list(c.bytes) for c in records.clips.values()] == [
        [10**6 + n for n in (0, 1, 2, 4)]
    ] * 4
    assert list(records.clips["video 0"].delay) == [1] * 4
    assert records.clips["video 0"].parameters == ["a" * 64] * 4
    assert (records.copied, records.beyond) == ({"image": 4}, {"image": 7})
    assert [(failure.key, failure.reason) for failure in records.failures] == [("k3", "broken")]
    with pytest.raises(ConfigError, match="not one of 1 episodes can be exported; the first: gone"):
        EpisodeRecords.of([(0, {"key": "k", "failed": "gone"})])


@pytest.mark.unchecked
def test_millions_of_records_fit_in_memory():
    sound = ((number, record) for number, record in made_records(5000) if "clips" in record)
    tracemalloc.start()
    try:
        records = EpisodeRecords.of(sound)
        assert tracemalloc.get_traced_memory()[0] < 200 * len(records.numbers)
    finally:
        tracemalloc.stop()


def test_statistics_of_pictures_are_numpys(rng):
    frames = rng.integers(0, 256, (4, 20, 30, 3)).astype(np.uint8)
    counter = statistics.of_pictures()
    for frame in frames:
        counter.add(frame)
    figures, values = counter.figures(), frames.reshape(-1, 3) / 255
    assert figures["mean"].shape == (3, 1, 1)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(figures[name][:, 0, 0], getattr(np, name)(values, axis=0))
    median = np.quantile(values, 0.5, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(figures["q50"][:, 0, 0], median)
    assert figures["count"].tolist() == [4]


def test_depth_without_a_measurement_has_no_statistics(rng):
    table = np.linspace(0, 10, 4096, dtype=np.float32)
    counter = statistics.of_depth(table)
    counter.add(np.array([[0, 4095], [1000, 3000]], np.uint16))
    figures = counter.figures(statistics.NO_DEPTH)
    assert figures["mean"].item() == pytest.approx((table[1000] + table[3000]) / 2)
    assert figures["min"].item() == pytest.approx(table[1000])
    nothing = statistics.of_depth(table)
    nothing.add(np.zeros((2, 2), np.uint16))
    assert nothing.figures(statistics.NO_DEPTH)["count"].tolist() == [0]


def test_merged_figures_are_those_of_all_rows(rng):
    blocks = [rng.normal(size=(length, 2)) for length in (3, 10, 1)]
    merger = statistics.Merger()
    merger.add({n: np.zeros(1 if n == "count" else 2) for n in statistics.NAMES})  # of no frame
    for block in blocks:
        merger.add(statistics.of_vectors(block))
    figures, rows = merger.figures(), np.concatenate(blocks)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(figures[name], getattr(np, name)(rows, axis=0))
    weighted = sum(len(b) * np.quantile(b, 0.9, axis=0) for b in blocks) / 14
    np.testing.assert_allclose(figures["q90"], weighted)
    assert figures["count"].tolist() == [14]


def test_quantiles_are_exact(rng):
    blocks = [rng.normal(size=(length, 3)).astype(np.float32) for length in (50, 7)]
    exact = quantiles(lambda: iter(blocks), (0.1, 0.5, 0.99))
    np.testing.assert_allclose(exact, np.quantile(np.concatenate(blocks), (0.1, 0.5, 0.99), axis=0))


def test_frames_that_count_are_lerobots():
    assert statistics.sampled(5) == [0, 1, 2, 3, 4]
    assert statistics.sampled(1000)[:3] == [0, 6, 11]
    assert len(statistics.sampled(1000)) == 177


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"format": "zarr"}, "`format` cannot be 'zarr'"),
        ({"codec": "hevc"}, "`codec` cannot be 'hevc'"),
        ({"codec": "h264", "crf": 60}, "`crf` cannot be 60"),
        ({"key_frames": 0}, "`key_frames` cannot be 0"),
        ({"camera": ("a", "a")}, "give 'a' once"),
    ],
)
def test_settings_that_make_no_sense(settings, match):
    with pytest.raises(ConfigError) as raised:
        ExportConfig(**settings)
    assert match in str(raised.value)


def test_a_schema_takes_any_name():
    camera = Camera('k\u00fcche \U0001f916 "1"', 4, 4)
    features = CameraFeatures(camera, "observation.images.a")
    text = schema_text("s", Meaning((), ()), [features], ColumnKeys("task", "action", "state"))
    assert tomllib.loads(text)["camera"][0]["name"] == camera.name
