"""The writer: what is written is read, whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from depthtok.disk import files
from depthtok.errors import OutputError, SourceError
from depthtok.sources.features import Feature
from depthtok.sources.rlds import INFO, RldsDirectory
from depthtok.sources.write import RldsWriter

FEATURES = {
    f.path: f
    for f in [
        Feature("steps/is_first", "scalar", "bool", (), "none"),
        Feature("steps/action", "tensor", "float32", (3,), "none"),
        Feature("steps/code", "tensor", "uint8", (2,), "none"),
        Feature("steps/precise", "tensor", "float64", (2,), "bytes"),
        Feature("steps/wide", "tensor", "uint64", (2,), "none"),
        Feature("steps/text", "text", "str"),
        Feature("steps/texts", "text", "str", (None,)),
        Feature("steps/observation/image", "image", "uint8", (8, 6, 3), "jpeg"),
        Feature("steps/observation/depth", "image", "uint16", (None, None, 1), "png"),
        Feature("steps/observation/metres", "image", "float32", (8, 6, 1), "png"),
        Feature("episode_metadata/seed", "scalar", "int64", (), "none", False),
        Feature("episode_metadata/name", "text", "str", (), "", False),
    ]
}


def _episode(number: int, steps: int) -> dict:
    rng = np.random.default_rng(number)
    ramp = np.linspace(0, 255, 8 * 6 * 3).reshape(8, 6, 3)
    return {
        "steps/is_first": np.arange(steps) == 0,
        "steps/action": rng.random((steps, 3), np.float32),
        "steps/code": rng.integers(0, 256, (steps, 2)),
        "steps/precise": rng.random((steps, 2)),
        "steps/wide": np.full((steps, 2), 2**64 - 1, np.uint64),
        "steps/text": ["öffne 抽屉"] * steps,
        "steps/texts": [("open", "öffne")[: step % 3] for step in range(steps)],
        "steps/observation/image": np.stack([ramp.astype(np.uint8)] * steps),
        "steps/observation/depth": rng.integers(0, 1 << 16, (steps, 8, 6, 1), np.uint16),
        "steps/observation/metres": rng.random((steps, 8, 6, 1), np.float32),
        "episode_metadata/seed": -number,
        "episode_metadata/name": f"épisode {number}",
    }


EPISODES = [_episode(number, steps) for number, steps in enumerate((3, 1, 4, 2, 2))]


@pytest.fixture
def writer(tmp_path):
    return RldsWriter(tmp_path / "toy/1.0.0", "toy", "1.0.0", FEATURES, "Toys.")


def _assert_same(data: RldsDirectory, split: str, episodes: list[dict]) -> None:
    read = [episode for shard in data.splits[split].shards for episode in data.records(shard)]
    for have, want in zip(read, episodes, strict=True):
        for path, feature in FEATURES.items():
            if feature.kind == "text" and feature.shape:
                assert have.texts(path) == want[path]
            elif feature.kind == "text":
                assert have.text(path) == want[path]
            elif feature.encoding == "jpeg":
                error = have.values(path).astype(int) - want[path]
                assert abs(error).mean() < 6
            else:
                assert have.values(path).dtype == feature.dtype
                assert np.array_equal(have.values(path), want[path]), path


def test_a_stream_of_episodes(writer):
    shards = writer.write("train", iter(EPISODES), 2)
    assert [(shard.index, shard.of, shard.episodes) for shard in shards] == [
        (0, 3, 2),
        (1, 3, 2),
        (2, 3, 1),
    ]
    data = RldsDirectory.open(writer.finish())
    assert (data.name, data.version, data.description) == ("toy", "1.0.0", "Toys.")
    assert data.features == FEATURES
    assert data.splits["train"].shards == tuple(shards)
    _assert_same(data, "train", EPISODES)


def test_shards_in_any_order_and_of_several_writers(writer):
    again = RldsWriter(writer.path, writer.name, writer.version, FEATURES, "Toys.")
    writer.write_shard("val", 1, 2, EPISODES[3:])
    with pytest.raises(OutputError, match="00000-of-00002"):
        writer.finish()
    assert not (writer.path / INFO).exists()
    again.write_shard("val", 0, 2, EPISODES[:3])
    writer.write("train", EPISODES, 10)
    data = RldsDirectory.open(again.finish())
    assert [shard.episodes for shard in data.splits["val"].shards] == [3, 2]
    _assert_same(data, "val", EPISODES)
    sizes = [shard.path.stat().st_size for shard in data.splits["val"].shards]
    assert data.splits["val"].num_bytes == sum(sizes) - 16 * 5


def test_equal_episodes_give_equal_bytes(writer):
    first = writer.write_shard("train", 0, 1, EPISODES).path.read_bytes()
    shuffled = [dict(reversed(episode.items())) for episode in EPISODES]
    assert writer.write_shard("train", 0, 1, shuffled).path.read_bytes() == first


@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_leaves_nothing(writer, stream):
    def episodes():
        yield from EPISODES[:3]
        raise KeyError("simulator")

    with pytest.raises(KeyError):
        writer.write("train", episodes(), 2) if stream else writer.write_shard(
            "train", 0, 1, episodes()
        )
    assert list(writer.path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("steps/action", np.zeros((3, 4))),
        ("steps/action", np.zeros((2, 3))),
        ("steps/action", [["a", "b", "c"]] * 3),
        ("steps/code", np.full((3, 2), 256)),
        ("steps/code", np.full((3, 2), -1)),
        ("steps/code", np.full((3, 2), 0.5)),
        ("steps/precise", np.zeros((3, 1))),
        ("steps/action", 0.5),
        ("steps/text", ["one", "two"]),
        ("steps/text", [1, 2, 3]),
        ("steps/text", "abc"),  # one text, of as many letters as there are steps
        ("steps/texts", "abc"),
        ("steps/texts", ["abc", "de", "f"]),
        ("steps/observation/image", np.zeros((3, 8, 7, 3), np.uint8)),
        ("steps/observation/image", np.zeros((3, 8, 6, 3)) + 0.5),
        ("steps/observation/depth", np.zeros((3, 8, 6, 2), np.uint16)),
        ("episode_metadata/seed", [1, 2]),
        ("steps/unknown", 1),
    ],
)
def test_values_that_do_not_fit_are_refused(writer, path, value):
    with pytest.raises(SourceError, match=path):
        writer.write("train", [EPISODES[0] | {path: value}], 1)
    assert list(writer.path.iterdir()) == []


def test_a_missing_value_is_refused(writer):
    with pytest.raises(SourceError, match="steps/action"):
        writer.write("train", [{k: v for k, v in EPISODES[0].items() if k != "steps/action"}], 1)


@pytest.mark.parametrize("encoding", ["jpeg", "", "gif"])
def test_images_without_a_form(tmp_path, encoding):
    feature = Feature("steps/x", "image", "uint16", (2, 2, 1), encoding)
    writer = RldsWriter(tmp_path, "toy", "1.0.0", {feature.path: feature})
    with pytest.raises(SourceError, match="steps/x"):
        writer.write("train", [{"steps/x": np.zeros((1, 2, 2, 1), np.uint16)}], 1)


def test_encoded_images_pass_through(tmp_path):
    feature = Feature("steps/x", "image", "uint8", (2, 2, 3), "jpeg")
    writer = RldsWriter(tmp_path, "toy", "1.0.0", {feature.path: feature})
    shard = writer.write("train", [{"steps/x": [b"as it is", b"two"]}], 1)[0]
    data = RldsDirectory.open(writer.finish())
    assert next(data.records(shard)).items("steps/x") == [b"as it is", b"two"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    writer = RldsWriter(tmp_path / "file/toy", "toy", "1.0.0", FEATURES)
    for attempt in (
        lambda: writer.write("train", EPISODES, 2),
        lambda: writer.write_shard("train", 0, 1, EPISODES),
        writer.finish,
    ):
        with pytest.raises(OutputError) as caught:
            attempt()
        assert caught.value.remedy


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device")
def test_a_full_disk(writer, monkeypatch):
    writer.path.mkdir(parents=True)
    partial = writer.path / "partial"
    partial.symlink_to("/dev/full")
    monkeypatch.setattr(files, "temporary_sibling", lambda path: partial)
    with pytest.raises(OutputError, match="No space left"):
        writer.write_shard("train", 0, 1, EPISODES)
    assert list(writer.path.iterdir()) == []


def test_two_numbers_of_shards_are_not_mixed(writer):
    writer.write("train", EPISODES, 2)
    writer.write("train", EPISODES, 3)
    with pytest.raises(OutputError, match="two are mixed"):
        writer.finish()


def test_the_description_is_plain_json(writer):
    writer.write("train", EPISODES, 2)
    info = json.loads((writer.finish() / INFO).read_text())
    assert info["splits"][0]["shardLengths"] == ["2", "2", "1"]
