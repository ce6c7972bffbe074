"""Framing: what is written is read, and every damaged byte is seen."""

import struct

import pytest

from depthtok.errors import CorruptRecord, SourceUnavailable
from depthtok.sources.tfrecord import OVERHEAD, frame, masked_crc32c, read_record, read_records

PAYLOADS = [b"first", b"", b"x" * 1000]


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "toy-train.tfrecord-00000-of-00001"
    path.write_bytes(b"".join(map(frame, PAYLOADS)))
    return path


def test_masked_checksum_is_the_one_of_the_format():
    # 32 zero bytes have CRC32C 0x8A9136AA (RFC 3720, B.4)
    crc = 0x8A9136AA
    assert masked_crc32c(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_records_come_back_in_order(shard):
    records = list(read_records(shard))
    assert [record.data for record in records] == PAYLOADS
    assert [record.index for record in records] == [0, 1, 2]
    assert records[-1].end == shard.stat().st_size
    for record in records:
        assert read_record(shard, record.offset, record.index) == record


def test_good_records_come_before_the_bad_one(shard):
    data = bytearray(shard.read_bytes())
    data[-500] ^= 1
    shard.write_bytes(data)
    records = []
    with pytest.raises(CorruptRecord, match=f"{shard.name}: record 2 at byte {2 * OVERHEAD + 5}"):
        records.extend(record.data for record in read_records(shard))
    assert records == PAYLOADS[:2]


def test_a_length_is_not_believed_beyond_the_file(shard):
    length = struct.pack("<Q", 1 << 62)
    shard.write_bytes(length + struct.pack("<I", masked_crc32c(length)) + b"data")
    with pytest.raises(CorruptRecord, match="the file ends inside it"):
        list(read_records(shard))


@pytest.mark.parametrize("offset", [-1, 3, 10**9])
def test_a_wrong_offset_is_no_record(shard, offset):
    with pytest.raises(CorruptRecord, match="record 7"):
        read_record(shard, offset, 7)


def test_what_is_no_file_is_named(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(SourceUnavailable, match=str(path)):
            list(read_records(path))
