"""The wire format: properties over our own encoder, hand-made bytes, and garbage."""

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from depthtok.errors import CorruptRecord
from depthtok.sources.example import (
    BYTES,
    FLOATS,
    INTS,
    decode_varints,
    encode_example,
    encode_varints,
    parse_example,
    varint_boundaries,
)

names = st.text(min_size=1, max_size=12)
floats = hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32))
ints = hnp.arrays(np.int64, st.integers(0, 40))
blobs = st.lists(st.binary(max_size=300), max_size=6)


def _varint(value: int) -> bytes:
    """The format's definition, one byte at a time."""
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _chunk(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _example(name: str, feature: bytes) -> bytes:
    return _chunk(1, _chunk(1, _chunk(1, name.encode()) + _chunk(2, feature)))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(names, st.one_of(floats, ints, blobs), max_size=5))
def test_what_is_encoded_is_parsed(columns):
    parsed = parse_example(encode_example(columns))
    assert set(parsed) == set(columns)
    for name, values in columns.items():
        column = parsed[name]
        if isinstance(values, list):
            assert column.items() == values
        elif values.dtype == np.float32:
            assert column.floats().tobytes() == values.tobytes()
        else:
            assert np.array_equal(column.ints(), values)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.int64, st.integers(0, 60)), st.integers(1, 7))
def test_varints_are_those_of_the_definition(values, every):
    data = b"".join(_varint(int(value)) for value in values)
    assert encode_varints(values) == data
    assert np.array_equal(decode_varints(data), values)
    ends, count = varint_boundaries(data, 0, len(data), every)
    sizes = np.cumsum([len(_varint(int(value))) for value in values], dtype=np.uint64)
    assert count == len(values)
    assert ends.tolist() == sizes[every - 1 :: every].tolist()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32"])
def test_varints_reach_the_limits_of_every_dtype(dtype):
    limits = np.iinfo(dtype)
    values = np.array([limits.min, limits.max, 0, 1], dtype)
    have = decode_varints(encode_varints(values), dtype=dtype)
    assert have.dtype == values.dtype
    assert np.array_equal(have, values)


def test_varints_over_several_blocks():
    values = np.random.default_rng(0).integers(-5, 1 << 20, 700_000)
    data = encode_varints(values)
    assert len(data) > 1 << 20
    assert np.array_equal(decode_varints(data), values)
    ends, count = varint_boundaries(data, 0, len(data), 1000)
    assert count == len(values)
    for start, stop, block in zip(
        ends[:-1], ends[1:], values[1000:].reshape(-1, 1000), strict=True
    ):
        assert np.array_equal(decode_varints(data, int(start), int(stop)), block)


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x01\xff", b"\x80" * 10 + b"\x01", b"\x80" * (3 << 20)]
)
def test_varints_that_do_not_end(data):
    with pytest.raises(CorruptRecord):
        decode_varints(data)


def test_unpacked_lists_and_split_packed_lists():
    unpacked = b"".join(b"\x0d" + struct.pack("<f", value) for value in (1.5, -2.0))
    packed = _chunk(1, struct.pack("<2f", 3.0, 4.0))
    column = parse_example(_example("a", _chunk(FLOATS, unpacked + packed + unpacked)))["a"]
    assert column.floats().tolist() == [1.5, -2.0, 3.0, 4.0, 1.5, -2.0]
    unpacked = b"".join(b"\x08" + _varint(value) for value in (1, -2, 300))
    packed = _chunk(1, b"".join(map(_varint, (5, -6))))
    column = parse_example(_example("a", _chunk(INTS, packed + unpacked)))["a"]
    assert column.ints().tolist() == [5, -6, 1, -2, 300]


def test_merging_is_that_of_protocol_buffers():
    first = _example("a", _chunk(BYTES, _chunk(1, b"x")))
    again = _example("a", _chunk(BYTES, _chunk(1, b"y")) + _chunk(BYTES, _chunk(1, b"z")))
    other = _example("b", _chunk(BYTES, _chunk(1, b"n")) + _chunk(INTS, _chunk(1, b"\x07")))
    columns = parse_example(first + again + other)
    assert columns["a"].items() == [b"y", b"z"]  # the later entry of a map wins; lists extend
    assert columns["b"].ints().tolist() == [7]  # the later kind wins


def test_unknown_fields_are_passed_over():
    extra = _varint(9 << 3) + _varint(1 << 40) + _varint(10 << 3 | 5) + b"1234"
    extra += _varint(11 << 3 | 1) + b"12345678" + _chunk(12, b"anything")
    data = extra + _example("a", extra + _chunk(BYTES, extra + _chunk(1, b"x") + extra)) + extra
    assert parse_example(data)["a"].items() == [b"x"]


def test_an_empty_feature_has_no_values():
    column = parse_example(_example("a", b""))["a"]
    assert column.items() == []
    assert column.floats().size == column.ints().size == 0


def test_another_kind_than_asked_for():
    column = parse_example(encode_example({"a": [b"x"]}), "file: record 3")["a"]
    with pytest.raises(CorruptRecord, match="file: record 3: has a bytes list, but a float"):
        column.floats()


def _read_all(data: bytes) -> None:
    for column in parse_example(data).values():
        {BYTES: column.items, FLOATS: column.floats}.get(column.kind, column.ints)()


def _never_another_error(data: bytes) -> None:
    with contextlib.suppress(CorruptRecord):
        _read_all(data)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_nothing_but_corrupt(data):
    _never_another_error(data)
    _never_another_error(_example("a", data))
    for kind in (BYTES, FLOATS, INTS):
        _never_another_error(_example("a", _chunk(kind, data)))


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_damaged_examples_are_nothing_but_corrupt(data):
    good = bytearray(
        encode_example({"a": [b"one", b"two"], "b": np.arange(5), "c": np.ones(4, np.float32)})
    )
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    _never_another_error(bytes(good[: data.draw(st.integers(0, len(good)))]))
