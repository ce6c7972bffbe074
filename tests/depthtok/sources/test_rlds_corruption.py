"""Damaged shards: every case is seen and named, and the good records before it are read."""

import json
import random
import shutil

import numpy as np
import pytest

from depthtok.errors import CorruptRecord, SourceUnavailable
from depthtok.sources.features import Feature
from depthtok.sources.rlds import INFO, RldsDirectory
from depthtok.sources.write import RldsWriter

CASES = 120  # of cuts, and of flips
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 4096\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two shards of four short episodes."""
    features = {
        f.path: f
        for f in [
            Feature("steps/is_first", "scalar", "bool", (), "none"),
            Feature("steps/image", "image", "uint8", (8, 8, 3), "jpeg"),
            Feature("steps/state", "tensor", "float32", (5,), "none"),
        ]
    }
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("whole") / "toy/1.0.0"
    writer = RldsWriter(path, "toy", "1.0.0", features)
    episodes = [
        {
            "steps/is_first": np.arange(steps) == 0,
            "steps/image": rng.integers(0, 256, (steps, 8, 8, 3), np.uint8),
            "steps/state": rng.random((steps, 5), np.float32),
        }
        for steps in (3, 1, 2, 4, 2, 1, 1, 3)
    ]
    writer.write("train", episodes, 4)
    return RldsDirectory.open(writer.finish())


@pytest.fixture
def damaged(whole, tmp_path):
    data = RldsDirectory.open(shutil.copytree(whole.path, tmp_path / "toy"))
    return data, data.splits["train"].shards[0], data.splits["train"].shards[1]


def _offsets(data, shard) -> list[int]:
    return [episode.offset for episode in data.records(shard)]


def _read(data, shard) -> tuple[list[int], str]:
    """Offsets of the good records, and the problem."""
    good = []
    try:
        for episode in data.records(shard):
            episode.values("steps/image")
            good.append(episode.offset)
    except CorruptRecord as error:
        return good, error.problem if error.remedy else ""
    return good, ""


def _assert_named(problem: str, shard, index: int | None = None) -> None:
    assert shard.path.name in problem
    assert "byte" in problem
    if index is not None:
        assert f"record {index} at byte" in problem


def test_cuts(damaged):
    data, shard, other = damaged
    offsets, content = _offsets(data, shard), shard.path.read_bytes()
    chosen = random.Random(1)
    for _ in range(CASES):
        size = chosen.randrange(1, len(content))
        shard.path.write_bytes(content[:size])
        complete = [
            o for o, end in zip(offsets, [*offsets[1:], len(content)], strict=True) if end <= size
        ]
        good, problem = _read(data, shard)
        assert good == complete
        _assert_named(problem, shard, len(complete))
    assert len(_read(data, other)[0]) == 4


def test_flips(damaged):
    data, shard, other = damaged
    offsets, content = _offsets(data, shard), shard.path.read_bytes()
    chosen = random.Random(2)
    for _ in range(CASES):
        position, bit = chosen.randrange(len(content)), 1 << chosen.randrange(8)
        shard.path.write_bytes(
            content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :]
        )
        index = sum(offset <= position for offset in offsets) - 1
        good, problem = _read(data, shard)
        assert good == offsets[:index]
        _assert_named(problem, shard, index)
    assert len(_read(data, other)[0]) == 4


def test_runs_of_other_bytes(damaged):
    data, shard, _ = damaged
    content, chosen = shard.path.read_bytes(), random.Random(3)
    for _ in range(CASES // 2):
        position, length = chosen.randrange(len(content)), chosen.randrange(1, 64)
        wrong = bytearray(content)
        wrong[position : position + length] = chosen.randbytes(length)
        shard.path.write_bytes(wrong)
        if bytes(wrong) != content:
            _assert_named(_read(data, shard)[1], shard)


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_cuts_on_a_boundary_are_seen_by_the_count(damaged, kept):
    data, shard, _ = damaged
    offsets = _offsets(data, shard)
    shard.path.write_bytes(shard.path.read_bytes()[: offsets[kept]])
    good, problem = _read(data, shard)
    assert good == offsets[:kept]
    _assert_named(problem, shard, kept)
    assert "states 4 records" in problem


def test_more_records_than_stated(damaged):
    data, shard, other = damaged
    offsets = _offsets(data, shard)
    shard.path.write_bytes(shard.path.read_bytes() + other.path.read_bytes())
    good, problem = _read(data, shard)
    assert good == offsets
    _assert_named(problem, shard)
    assert "there is one more" in problem


@pytest.mark.parametrize(
    "content", [POINTER, b"<html>404</html>", b"\0" * 4096, b"\xff" * 100, b"PK\x03\x04" * 9]
)
def test_another_file_in_its_place(damaged, content):
    data, shard, other = damaged
    shard.path.write_bytes(content)
    good, problem = _read(data, shard)
    assert good == []
    _assert_named(problem, shard, 0)
    assert ("Git LFS pointer" in problem) == (content is POINTER)
    assert len(_read(data, other)[0]) == 4


def test_shards_that_are_no_files(damaged):
    data, shard, _ = damaged
    shard.path.unlink()
    with pytest.raises(SourceUnavailable, match=shard.path.name):
        _read(data, shard)
    shard.path.mkdir()
    with pytest.raises(SourceUnavailable, match=shard.path.name):
        _read(data, shard)
    shard.path.rmdir()
    shard.path.symlink_to(shard.path.name)
    with pytest.raises(SourceUnavailable, match=shard.path.name):
        _read(data, shard)


@pytest.mark.parametrize("stated", ["3", "5", "1000000000"])
def test_counts_that_are_not_those_of_the_shard(damaged, stated):
    data = damaged[0]
    info = json.loads((data.path / INFO).read_text())
    info["splits"][0]["shardLengths"][0] = stated
    (data.path / INFO).write_text(json.dumps(info))
    again = RldsDirectory.open(data.path)
    good, problem = _read(again, again.splits["train"].shards[0])
    assert len(good) == min(4, int(stated))
    assert f"states {stated} records" in problem


@pytest.mark.parametrize("offset", [1, 7, 100, 1 << 40])
def test_random_access_at_a_wrong_offset(damaged, offset):
    data, shard, _ = damaged
    with pytest.raises(CorruptRecord, match=f"record 2 at byte {offset}"):
        data.record(shard, offset, 2)
