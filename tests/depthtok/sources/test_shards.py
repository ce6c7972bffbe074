"""Splits whose files and lengths disagree: used where it is certain what they are, else named."""

import json

import pytest

from depthtok.errors import SourceError
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.shards import INFO
from depthtok.testing import make_rlds

NAME = "libero_sim_depth-train.tfrecord"


@pytest.fixture
def rlds(tmp_path):
    """Shards of 2, 2 and 1 episodes."""
    return make_rlds(tmp_path / "rlds", steps=[3, 2, 4, 1, 2], shards=3)


def edit(rlds, **changes):
    info = json.loads((rlds / INFO).read_text())
    info["splits"][0] |= changes
    info["splits"][0] = {k: v for k, v in info["splits"][0].items() if v is not None}
    (rlds / INFO).write_text(json.dumps(info))


def renumber(rlds, numbers, of):
    for old, new in sorted(numbers.items(), reverse=True):
        (rlds / f"{NAME}-{old:05d}-of-00003").rename(rlds / f"{NAME}-{new:05d}-of-{of:05d}")


def read(rlds):
    """Episodes by shard, as stated and as read."""
    data = RldsDirectory.open(rlds)
    shards = data.splits["train"].shards
    there = [shard for shard in shards if shard.state == "there"]
    assert [len(list(data.records(shard))) for shard in there] == [s.episodes for s in there]
    return [shard.episodes for shard in shards], [shard.state for shard in shards], data.notes


def test_files_as_described_have_no_note(rlds):
    assert read(rlds) == ([2, 2, 1], ["there"] * 3, [])


@pytest.mark.parametrize("lengths", [None, []])
def test_without_lengths_the_files_are_counted(rlds, lengths):
    edit(rlds, shardLengths=lengths)
    counts, states, notes = read(rlds)
    assert (counts, states) == ([2, 2, 1], ["there"] * 3)
    assert notes == [
        "split 'train' has no shardLengths: counted 5 episodes in 3 files numbered -of-00003"
    ]


def test_without_lengths_a_file_that_is_not_there_is_named(rlds):
    edit(rlds, shardLengths=None)
    (rlds / f"{NAME}-00001-of-00003").unlink()
    counts, states, notes = read(rlds)
    assert (counts, states) == ([2, 0, 1], ["there", "absent", "there"])
    assert "; not there: 00001" in notes[0]


def test_without_lengths_and_files_there_is_nothing(rlds):
    edit(rlds, shardLengths=None)
    for shard in rlds.glob(f"{NAME}*"):
        shard.unlink()
    with pytest.raises(SourceError, match="no episodes"):
        RldsDirectory.open(rlds)


@pytest.mark.parametrize(
    ("numbers", "of", "states"),
    [
        ({0: 0, 1: 1, 2: 3}, 4, ["there", "there", "empty", "there"]),
        ({0: 1, 1: 4, 2: 6}, 7, ["empty", "there", *["empty"] * 2, "there", "empty", "there"]),
    ],
)
def test_an_empty_shard_that_was_not_written_is_known_to_be_empty(rlds, numbers, of, states):
    renumber(rlds, numbers, of)
    counts, shards, notes = read(rlds)
    assert shards == states
    assert [count for count in counts if count] == [2, 2, 1]
    assert f"5 episodes in 3 files numbered -of-{of:05d}: the counts agree" in notes[0]


def test_counts_that_do_not_agree_are_refused_with_the_files(rlds):
    renumber(rlds, {0: 0, 1: 1, 2: 3}, 4)
    (rlds / f"{NAME}-00001-of-00004").unlink()
    with pytest.raises(SourceError) as caught:
        RldsDirectory.open(rlds)
    assert "states 3 shards of 2, 2, 1 episodes for the split 'train'" in caught.value.problem
    assert f"{NAME}-00000-of-00004 (2 episodes), {NAME}-00003-of-00004 (1" in caught.value.problem
    assert "correct shardLengths" in caught.value.remedy


def test_files_of_two_other_builds_are_refused(rlds):
    renumber(rlds, {0: 0, 1: 1}, 4)
    renumber(rlds, {2: 0}, 2)
    with pytest.raises(SourceError, match=r"but the files there are .*-of-00002, .*-of-00004"):
        RldsDirectory.open(rlds)


def test_files_of_another_build_beside_the_right_ones_are_named(rlds):
    (rlds / f"{NAME}-00000-of-00009").write_bytes(b"old")
    counts, states, notes = read(rlds)
    assert (counts, states) == ([2, 2, 1], ["there"] * 3)
    assert "1 files numbered -of-00009" in notes[0]


def test_a_shard_of_no_episodes_needs_no_file(tmp_path):
    rlds = make_rlds(tmp_path / "rlds", steps=[2, 3], shards=2)
    edit(rlds, shardLengths=["1", "1", "0"])
    for index in (0, 1):
        (rlds / f"{NAME}-{index:05d}-of-00002").rename(rlds / f"{NAME}-{index:05d}-of-00003")
    assert read(rlds) == ([1, 1, 0], ["there", "there", "empty"], [])


def test_other_templates_are_found_too(rlds):
    edit(rlds, shardLengths=None, filepathTemplate="{SPLIT}/{SHARD_INDEX}.of.{NUM_SHARDS}")
    (rlds / "train").mkdir()
    for index in range(3):
        (rlds / f"{NAME}-{index:05d}-of-00003").rename(rlds / f"train/{index:05d}.of.00003")
    assert read(rlds)[:2] == ([2, 2, 1], ["there"] * 3)


def test_one_file_is_not_read_as_every_shard(tmp_path):
    rlds = make_rlds(tmp_path / "rlds", episodes=2, steps=2, shards=1)
    (rlds / f"{NAME}-00000-of-00001").rename(rlds / "all.tfrecord")
    edit(rlds, shardLengths=["2"], filepathTemplate="all.{FILEFORMAT}")
    assert read(rlds) == ([2], ["there"], [])
    edit(rlds, shardLengths=["2", "2"])
    with pytest.raises(SourceError, match="gives all 2 shards of the split 'train' one file"):
        RldsDirectory.open(rlds)
