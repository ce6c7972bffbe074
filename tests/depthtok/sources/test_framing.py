"""A shard's framing tells whether any of its bytes is another, without reading payloads."""

import os

import pytest

from depthtok.disk import bytes_of
from depthtok.errors import CorruptRecord, SourceUnavailable
from depthtok.sources.framing import ShardDigest, framing_of, is_same
from depthtok.sources.tfrecord import frame, read_records

PAYLOADS = [b"first" * 40, b"", b"x" * 1000]


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "toy-train.tfrecord-00000-of-00001"
    path.write_bytes(b"".join(map(frame, PAYLOADS)))
    return path


def as_read(path, stop_after=None):
    """The framing as reading the records gives it; what is damaged is passed over."""
    shard_digest, count = ShardDigest(), 0
    try:
        for _ in read_records(path, lambda index, error: None, shard_digest):
            count += 1
            if count == stop_after:
                break
    except CorruptRecord:
        pass
    shard_digest.complete(path)
    return shard_digest.to_json()


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


SPOILT = {
    "whole": lambda data: data,
    "empty": lambda data: b"",
    "payload": lambda data: flipped(data, 30),
    "length": lambda data: flipped(data, 216 + 2),
    "cut in a payload": lambda data: data[:-9],
    "cut in a header": lambda data: data[:216] + data[216:222],
    "cut in a footer": lambda data: data[:-2],
    "more behind": lambda data: data + b"abc",
    "pointer": lambda data: b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("kind", SPOILT)
def test_reading_and_walking_give_the_same(shard, kind):
    shard.write_bytes(SPOILT[kind](shard.read_bytes()))
    made_from = as_read(shard)
    walked = framing_of(shard).to_json()
    assert (walked["size"], walked["digest"]) == (made_from["size"], made_from["digest"])
    assert is_same(shard, made_from)
    assert made_from.get("damaged") == ([0] if kind == "payload" else None)


@pytest.mark.parametrize("stop_after", [1, 2])
def test_records_that_were_not_read_count_too(shard, stop_after):
    assert as_read(shard, stop_after) == as_read(shard)


def test_every_change_is_another_digest(shard):
    digests = [as_read(shard)["digest"]]
    for payloads in ([b"FIRST" * 40, b"", b"x" * 1000], [b"", b"first" * 40, b"x" * 1000]):
        shard.write_bytes(b"".join(map(frame, payloads)))
        digests.append(as_read(shard)["digest"])
    assert len(set(digests)) == 3


def test_a_record_that_was_damaged_and_is_mended_in_place_is_a_change(shard):
    good = shard.read_bytes()
    shard.write_bytes(flipped(good, 30))
    damaged = as_read(shard)
    assert is_same(shard, damaged)
    shard.write_bytes(good)
    assert not is_same(shard, damaged)
    assert is_same(shard, as_read(shard))


def test_no_payload_is_read(shard, monkeypatch):
    made_from, pread, read = as_read(shard), os.pread, []

    def counted(file, size, offset):
        read.append(size)
        return pread(file, size, offset)

    monkeypatch.setattr(bytes_of.os, "pread", counted)
    assert is_same(shard, made_from)
    assert read == [12, 16, 16, 16]


def test_a_file_that_cannot_be_read_is_not_another_file(tmp_path):
    with pytest.raises(SourceUnavailable, match="cannot be opened now"):
        is_same(tmp_path / "gone", {"size": 1, "digest": ""})
