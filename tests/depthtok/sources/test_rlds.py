"""RLDS directories: opening them, and reading the committed sample bit by bit."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from depthtok.errors import CorruptRecord, SourceError, SourceUnavailable
from depthtok.sources.features import Feature
from depthtok.sources.pixels import PixelFormat
from depthtok.sources.rlds import INFO, RldsDirectory
from depthtok.sources.write import RldsWriter

SAMPLE = Path(__file__).parents[2] / "data/rlds/oxe_depth_encodings"


@pytest.fixture(scope="module")
def sample():
    return RldsDirectory.open(SAMPLE)


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(SAMPLE / "1.0.0", tmp_path / "renamed"))


def _episodes(data):
    return [e for shard in data.splits["train"].shards for e in data.records(shard)]


def _edit(directory: Path, **changes):
    info = json.loads((directory / INFO).read_text())
    info["splits"][0] |= changes.pop("split", {})
    (directory / INFO).write_text(json.dumps({k: v for k, v in (info | changes).items() if v}))


def test_the_sample_is_what_tensorflow_datasets_decodes(sample):
    golden = np.load(SAMPLE / "golden.npz")
    episodes = _episodes(sample)
    assert len(golden) == len(episodes) * len(sample.features)
    for number, episode in enumerate(episodes):
        for path, feature in sample.features.items():
            want = golden[f"{number}/{path}"]
            if feature.kind == "text":
                assert episode.text(path) == (
                    [item.decode() for item in want] if feature.per_step else want.item().decode()
                )
                continue
            have = episode.values(path)
            assert (have.dtype, have.shape) == (want.dtype, want.shape), path
            assert have.tobytes() == want.tobytes(), path


def test_every_frame_is_one_read_and_one_decode(sample):
    import google_crc32c

    pictures = [path for path in sample.features if "depth" in path or "image" in path]
    assert len(pictures) == 9
    for episode in _episodes(sample):
        file = os.open(episode.shard, os.O_RDONLY)
        for path in pictures:
            layout = PixelFormat.of(sample.features[path])
            spans, values = episode.spans(path), episode.values(path)
            assert (spans.offset.dtype, spans.length.dtype) == (np.uint64, np.uint32)
            for step in range(len(episode)):
                data = os.pread(file, int(spans.length[step]), int(spans.offset[step]))
                assert google_crc32c.value(data) == spans.crc32c[step]
                assert np.array_equal(layout.decode(data).reshape(values[step].shape), values[step])
        os.close(file)


def test_episodes_open_by_offset(sample):
    for shard in sample.splits["train"].shards:
        for episode in sample.records(shard):
            again = sample.record(shard, episode.offset, episode.index)
            assert again == episode
            assert len(again) == len(episode) == 2
            assert again.text("steps/language_instruction") == episode.text(
                "steps/language_instruction"
            )


def test_all_ways_to_name_the_directory(sample, copy, tmp_path):
    for path in (SAMPLE, SAMPLE / "1.0.0", SAMPLE.parent, str(SAMPLE), copy, tmp_path):
        data = RldsDirectory.open(path)
        assert (data.name, data.version) == ("oxe_depth_encodings", "1.0.0")
        assert [shard.episodes for shard in data.splits["train"].shards] == [1, 1]
        assert data.splits["train"].episodes == 2
        assert "true depth maps" in data.description


def test_wrong_directories(copy, tmp_path):
    shutil.copytree(copy, tmp_path / "second/1.0.0")
    (tmp_path / "empty").mkdir()
    for path, problem in [
        (tmp_path / "absent", "No such file"),
        (copy / INFO, "is a file, not an RLDS directory"),
        (tmp_path / "empty", "is not an RLDS data set"),
        (tmp_path / ("x" * 300), "too long"),
        (tmp_path / "a\0b", "null"),
        (tmp_path, "has 2 data sets"),
    ]:
        with pytest.raises(SourceError, match=problem) as caught:
            RldsDirectory.open(path)
        assert caught.value.remedy


@pytest.mark.parametrize("name", [INFO, "features.json"])
@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        b'{"splits": 3, "name": "x", "version": "1"}',
        b'{"featuresDict": {"features": {"steps": {"sequence": 1}}}}',
        b'{"pythonClassName": "x", "featuresDict": []}',
        b'{"type": "old", "content": {}}',
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    ],
)
def test_broken_json_is_a_source_error(copy, name, content):
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        RldsDirectory.open(copy)
    assert name in caught.value.problem
    assert caught.value.remedy
    if content and content.startswith(b"version"):
        assert "git lfs pull" in caught.value.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"fileFormat": "array_record"},
        {"split": {"shardLengths": ["0"]}},
        {"split": {"shardLengths": ["-1"]}},
        {"split": {"shardLengths": ["many"]}},
        {"split": {"shardLengths": 3}},
        {"split": {"numBytes": "x"}},
        {"name": "../../etc"},
        {"name": "/etc"},
        {"name": ["x"]},
        {"name": ".."},
        {"version": "1\x000"},
        {"version": ""},
        {"split": {"name": "../x"}},
        {"split": {"filepathTemplate": "../{DATASET}-{SHARD_X_OF_Y}"}},
        {"split": {"filepathTemplate": "/etc/passwd"}},
        {"split": {"filepathTemplate": "a/../../{SHARD_INDEX}"}},
        {"split": {"filepathTemplate": "a\\..\\b"}},
        {"split": {"filepathTemplate": "{DATASET.__class__}"}},
        {"split": {"filepathTemplate": "{UNKNOWN}-{SHARD_INDEX}"}},
        {"split": {"filepathTemplate": "a\x00b"}},
        {"split": {"filepathTemplate": 7}},
    ],
)
def test_hostile_or_wrong_descriptions_are_refused(copy, changes):
    _edit(copy, **changes)
    with pytest.raises(SourceError):
        RldsDirectory.open(copy)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (None, "oxe_depth_encodings-train.tfrecord-00001-of-00002"),
        (
            "{SPLIT}/{DATASET}.{FILEFORMAT}-{SHARD_INDEX}",
            "train/oxe_depth_encodings.tfrecord-00001",
        ),
        ("data-{SHARD_INDEX}x{NUM_SHARDS}", "data-00001x00002"),
        ("fixed.{FILEFORMAT}-{SHARD_X_OF_Y}", "fixed.tfrecord-00001-of-00002"),
    ],
)
def test_filepath_templates(copy, template, name):
    _edit(copy, split={"filepathTemplate": template})
    data = RldsDirectory.open(copy)
    assert data.splits["train"].shards[1].path == copy / name


def test_errors_of_an_episode_name_their_place(sample):
    episode = _episodes(sample)[1]
    with pytest.raises(SourceError, match="no feature 'steps/imag'") as caught:
        episode.values("steps/imag")
    assert caught.value.remedy
    with pytest.raises(SourceError, match="no numeric values"):
        episode.values("steps/language_instruction")
    with pytest.raises(SourceError, match="is not text per step"):
        episode.text("steps/action")


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("steps/action", {"shape": (9,)}),
        ("steps/action", {"dtype": "int32"}),
        ("steps/action", {"encoding": "zlib"}),
        ("steps/observation/image", {"shape": (64, 65, 3)}),
        ("steps/observation/depth_u16_zlib", {"dtype": "uint8"}),
        ("steps/observation/depth_f32_bytes", {"shape": (64, 63, 1)}),
        ("steps/observation/depth_i32_tensor", {"shape": (64, 63, 1)}),
        ("episode_metadata/file_path", {"kind": "tensor", "dtype": "float32", "encoding": "none"}),
        ("steps/absent", {}),
    ],
)
def test_features_that_do_not_fit_the_record(sample, path, changes):
    from dataclasses import replace

    feature = sample.features.get(path, Feature(path, "tensor", "float32", (), "none"))
    features = sample.features | {path: replace(feature, **changes)}
    data = replace(sample, features=features)
    for shard in data.splits["train"].shards:
        for episode in data.records(shard):
            with pytest.raises(CorruptRecord, match=f"{shard.path.name}: record 0 at byte 0"):
                episode.values(path)


def _toy(path: Path, features: list[Feature], *episodes) -> RldsDirectory:
    writer = RldsWriter(path / "toy/1.0.0", "toy", "1.0.0", {f.path: f for f in features})
    writer.write("train", episodes, 2)
    return RldsDirectory.open(writer.finish())


def test_steps_are_counted_without_is_first(tmp_path):
    image = np.zeros((5, 4, 4, 3), np.uint8)
    for feature, values in [
        (Feature("steps/image", "image", "uint8", (4, 4, 3), "png"), image),
        (Feature("steps/text", "text", "str"), list("abcde")),
        (Feature("steps/x", "tensor", "int64", (2, 2), "none"), np.ones((5, 2, 2), np.int64)),
        (Feature("steps/z", "tensor", "uint32", (2,), "zlib"), np.ones((5, 2), np.uint32)),
    ]:
        root = tmp_path / feature.path.replace("/", "-")
        assert len(_episodes(_toy(root, [feature], {feature.path: values}))[0]) == 5


def test_episodes_of_no_and_one_step(tmp_path):
    features = [
        Feature("steps/is_first", "scalar", "bool", (), "none"),
        Feature("steps/image", "image", "uint8", (4, 4, 3), "png"),
        Feature("steps/depth", "tensor", "int32", (4, 4), "none"),
    ]

    def episode(steps):
        return {
            "steps/is_first": np.arange(steps) == 0,
            "steps/image": np.zeros((steps, 4, 4, 3), np.uint8),
            "steps/depth": -np.arange(steps * 16).reshape(steps, 4, 4),
        }

    empty, one = _episodes(_toy(tmp_path, features, episode(0), episode(1)))
    assert (len(empty), len(one)) == (0, 1)
    assert empty.values("steps/image").shape == (0, 4, 4, 3)
    assert empty.values("steps/depth").shape == (0, 4, 4)
    assert len(empty.spans("steps/depth").offset) == len(empty.spans("steps/image").offset) == 0
    assert np.array_equal(one.values("steps/depth"), episode(1)["steps/depth"])


def test_memory_is_that_of_one_record(tmp_path):
    import tracemalloc

    feature = Feature("steps/blob", "tensor", "uint8", (1 << 20,), "bytes")
    episode = {"steps/blob": np.zeros((4, 1 << 20), np.uint8)}
    data = _toy(tmp_path, [feature], *[episode] * 6)
    tracemalloc.start()
    for shard in data.splits["train"].shards:
        for _ in data.records(shard):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * (4 << 20)


def test_a_missing_shard_does_not_stop_the_others(copy):
    data = RldsDirectory.open(copy)
    first, second = data.splits["train"].shards
    first.path.unlink()
    with pytest.raises(SourceUnavailable, match=first.path.name):
        list(data.records(first))
    assert len(list(data.records(second))) == 1
