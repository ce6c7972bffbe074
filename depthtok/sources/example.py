"""Reading and writing serialized tf.train.Example messages without protocol buffers.

An example is a map from names to lists of bytes, float32 or int64:

    Example  1: Features      Features  1: map entry {1: name, 2: Feature}
    Feature  1: BytesList | 2: FloatList | 3: Int64List      each  1: repeated value, packed or not

`parse_example` locates each list without decoding it; an `ExampleFeature` decodes on demand.
Positions are byte offsets in the record, so that a value can later be read directly from the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from jaxtyping import Float32, Int64, UInt64

from depthtok.errors import CorruptRecord

BYTES, FLOATS, INTS = 1, 2, 3  # field numbers of the three lists in Feature
KINDS = {BYTES: "bytes", FLOATS: "float", INTS: "int64"}

_VARINT, _FIXED64, _CHUNK, _FIXED32 = 0, 1, 2, 5  # wire types
_BLOCK = 1 << 20  # bytes of varints decoded at a time


@dataclass(frozen=True, slots=True)
class ExampleFeature:
    """One list of an example. `lists` are the byte ranges of its list messages."""

    data: bytes = field(repr=False)
    kind: int  # BYTES, FLOATS or INTS; 0 if the feature is empty
    lists: tuple[tuple[int, int], ...]
    where: str = ""  # file and record, for messages

    def spans(self) -> list[tuple[int, int]]:
        """(start, stop) of every value of a bytes list."""
        self._require(BYTES)
        return self._ranges(_CHUNK)

    def items(self) -> list[bytes]:
        """The values of a bytes list."""
        data = self.data
        return [data[start:stop] for start, stop in self.spans()]

    def floats(self) -> Float32[np.ndarray, " n"]:
        """The values of a float list; read-only."""
        runs = self.packed(FLOATS)
        parts = [np.frombuffer(self.data, "<f4", (b - a) // 4, a) for a, b in runs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, "<f4")])

    def ints(self, dtype: str = "int64") -> np.ndarray:
        """The values of an int64 list as `dtype`, truncated like a C cast."""
        runs = self.packed(INTS)
        parts = [decode_varints(self.data, a, b, dtype, self.where) for a, b in runs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, dtype)])

    def packed(self, kind: int) -> list[tuple[int, int]]:
        """Byte ranges of the values of a numeric list, without tags: usually one range."""
        self._require(kind)
        runs = self._ranges(_FIXED32 if kind == FLOATS else _VARINT)
        if kind == FLOATS and any((stop - start) % 4 for start, stop in runs):
            self._corrupt("the length of a float list is not a whole number of floats")
        return runs

    def _require(self, kind: int) -> None:
        if self.kind not in (kind, 0):
            self._corrupt(f"has a {KINDS[self.kind]} list, but a {KINDS[kind]} list is declared")

    def _corrupt(self, reason: str) -> NoReturn:
        raise CorruptRecord(f"{self.where}: {reason}", remedy="the file was written incorrectly")

    def _ranges(self, single: int) -> list[tuple[int, int]]:
        """Ranges of field 1 of the lists: chunks, and single values of wire type `single`."""
        data, ranges = self.data, []
        for start, stop in self.lists:
            # Nearly all time is spent in the plain loop over "\x0a length bytes".
            position = start
            while position < stop and data[position] == 10:
                length = data[position + 1] if position + 1 < stop else 128
                position += 2
                if length >= 128:
                    length, position = _varint(data, position - 1, stop, self.where)
                end = position + length
                if end > stop:
                    self._corrupt("a value extends beyond its list")
                ranges.append((position, end))
                position = end
            for number, wire, a, b in _fields(data, position, stop, self.where):
                if number == 1 and wire not in (single, _CHUNK):
                    self._corrupt(f"wire type {wire} in a {KINDS[self.kind]} list")
                if number == 1:
                    ranges.append((a, b))
        return ranges


def parse_example(data: bytes, where: str = "example") -> dict[str, ExampleFeature]:
    """The columns of a serialized tf.train.Example. Only raises `CorruptRecord`."""
    columns: dict[str, ExampleFeature] = {}
    for features_start, features_stop in _submessages(data, 0, len(data), 1, where):
        for start, stop in _submessages(data, features_start, features_stop, 1, where):
            name, column = _entry(data, start, stop, where)
            columns[name] = column
    return columns


def _entry(data: bytes, start: int, stop: int, location: str) -> tuple[str, ExampleFeature]:
    """One entry of the map of features: its name and its column. Raises `CorruptRecord`."""
    name, kind = "", 0
    lists: list[tuple[int, int]] = []
    for number, wire, a, b in _fields(data, start, stop, location):
        if wire != _CHUNK:
            continue
        if number == 1:
            name = data[a:b].decode("utf-8", "replace")
        elif number == 2:
            for inner, inner_wire, c, d in _fields(data, a, b, location):
                if inner not in KINDS or inner_wire != _CHUNK:
                    continue
                if inner != kind:  # the last kind that is set wins; the same kind again extends it
                    kind, lists = inner, []
                lists.append((c, d))
    return name, ExampleFeature(data, kind, tuple(lists), location)


def _submessages(
    data: bytes, start: int, stop: int, field_number: int, location: str
) -> Iterator[tuple[int, int]]:
    """(start, stop) of the submessages that are field `field_number` of a message."""
    for number, wire, a, b in _fields(data, start, stop, location):
        if number == field_number and wire == _CHUNK:
            yield a, b


def _fields(
    data: bytes, position: int, stop: int, location: str
) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, stop of the value) of a message, in order."""
    while position < stop:
        tag, position = _varint(data, position, stop, location)
        wire = tag & 7
        start = position
        if wire == _CHUNK:
            length, start = _varint(data, position, stop, location)
            position = start + length
        elif wire == _VARINT:
            _, position = _varint(data, position, stop, location)
        elif wire in (_FIXED32, _FIXED64):
            position += 4 if wire == _FIXED32 else 8
        else:
            raise CorruptRecord(
                f"{location}: unknown wire type {wire} at byte {start} of the record"
            )
        if position > stop:
            raise CorruptRecord(f"{location}: a field at byte {start} extends beyond its message")
        yield tag >> 3, wire, start, position


def _varint(data: bytes, position: int, stop: int, location: str) -> tuple[int, int]:
    """The value of one varint of at most ten bytes, and the position after it."""
    value = shift = 0
    for index in range(position, min(stop, position + 10)):
        byte = data[index]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, index + 1
        shift += 7
    raise CorruptRecord(f"{location}: an integer at byte {position} of the record does not end")


def decode_varints(
    data: bytes, start: int = 0, stop: int | None = None, dtype: str = "int64", where: str = "bytes"
) -> np.ndarray:
    """All varints of a byte range as `dtype` [n]; bool is "not zero", others wrap. Raises
    `CorruptRecord`."""
    view = np.frombuffer(data, np.uint8)[start:stop]
    if len(view) and view[-1] >= 128:
        raise CorruptRecord(f"{where}: a list of integers ends inside an integer")
    out = np.empty(int(np.count_nonzero(view < 128)), dtype)
    done = position = 0
    while position < len(view):  # in blocks: temporaries are several times larger than the data
        block = view[position : position + _BLOCK]
        ends = np.flatnonzero(block < 128)
        if len(ends) == 0:
            raise CorruptRecord(f"{where}: an integer is longer than ten bytes")
        block = block[: ends[-1] + 1]
        out[done : done + len(ends)] = _varint_block(block, ends, where).astype(dtype)
        done, position = done + len(ends), position + len(block)
    return out


def _varint_block(block: np.ndarray, ends: np.ndarray, location: str) -> Int64[np.ndarray, " n"]:
    """Decodes the varints in `block`, which end at `ends`."""
    if len(ends) == len(block):
        return block.astype(np.int64)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise CorruptRecord(f"{location}: an integer is longer than ten bytes")
    values = (block[starts] & 127).astype(np.uint64)
    for index in range(1, int(lengths.max())):
        longer = np.flatnonzero(lengths > index)
        digits = (block[starts[longer] + index] & 127).astype(np.uint64)
        values[longer] |= digits << np.uint64(7 * index)
    return values.view(np.int64)


def varint_boundaries(
    data: bytes, start: int, stop: int, every: int
) -> tuple[UInt64[np.ndarray, " n"], int]:
    """The end offsets in `data` of every `every`-th integer of a range; and the total number."""
    view = np.frombuffer(data, np.uint8)
    cuts, count = [], 0
    for position in range(start, stop, _BLOCK):
        ends = np.flatnonzero(view[position : min(stop, position + _BLOCK)] < 128)
        first = every - 1 - count % every
        cuts.append((ends[first::every] + position + 1).astype(np.uint64))
        count += len(ends)
    return np.concatenate(cuts or [np.empty(0, np.uint64)]), count


def encode_varints(values: np.ndarray) -> bytes:
    """Integers (any width, signed or not; bool) as concatenated varints."""
    values = np.asarray(values).ravel()
    values = values.astype(np.uint64 if values.dtype == np.uint64 else np.int64).view(np.uint64)
    if len(values) == 0:
        return b""
    shifts = np.arange(0, 70, 7, dtype=np.uint64)
    widest = max(1, -(-int(values.max()).bit_length() // 7))
    digits = values[:, None] >> shifts[:widest]
    continues = np.zeros(digits.shape, bool)
    continues[:, :-1] = digits[:, 1:] > 0
    used = np.ones(digits.shape, bool)
    used[:, 1:] = continues[:, :-1]
    return (
        (((digits & np.uint64(127)) | (continues.astype(np.uint64) << np.uint64(7)))[used])
        .astype(np.uint8)
        .tobytes()
    )


def encode_example(columns: Mapping[str, Iterable[bytes] | np.ndarray]) -> bytes:
    """A serialized tf.train.Example. Arrays of float32 become float lists, integers and bool int64
    lists; anything else must be an iterable of bytes. Names are sorted, so that equal data give
    equal bytes."""
    entries = []
    for name in sorted(columns):
        feature = _encode_feature(columns[name])
        entry = _chunk(1, name.encode()) + _chunk(2, feature)
        entries.append(_chunk(1, entry))
    return _chunk(1, b"".join(entries))


def _encode_feature(values: Iterable[bytes] | np.ndarray) -> bytes:
    if not isinstance(values, np.ndarray):
        return _chunk(BYTES, b"".join(_chunk(1, value) for value in values))
    if values.dtype == np.float32:
        return _chunk(FLOATS, _chunk(1, values.astype("<f4").tobytes()) if values.size else b"")
    return _chunk(INTS, _chunk(1, encode_varints(values)) if values.size else b"")


def _chunk(number: int, payload: bytes) -> bytes:
    return encode_varints(np.array([number << 3 | _CHUNK, len(payload)])) + payload
