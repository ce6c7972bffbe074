"""TFRecord framing: length, checksum of the length, payload, checksum of the payload.

Both checksums are verified for every record, and a length is checked against the size of the file
before memory is allocated for it. One record is in memory at a time. A file that cannot be opened
or read is `SourceUnavailable`, which says nothing about its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol, runtime_checkable

import google_crc32c

from depthtok.disk.bytes_of import Bytes, bytes_of
from depthtok.disk.lfs import POINTER, PULL
from depthtok.errors import CorruptRecord, SourceUnavailable

HEADER = struct.Struct("<QI")  # length of the payload, masked CRC32C of these eight bytes
FOOTER = struct.Struct("<I")  # masked CRC32C of the payload
OVERHEAD = HEADER.size + FOOTER.size
FETCH_AGAIN = "download this file again: its bytes are not those that were published"

_LARGEST = (1 << 31) - 1  # a protocol buffer message cannot be larger
_MASK = 0xA282EAD8


@dataclass(frozen=True)
class Record:
    """One payload, and the offset of its frame in the file."""

    index: int
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """Offset of the next record."""
        return self.offset + OVERHEAD + len(self.data)


def masked_crc32c(data: bytes) -> int:
    """CRC32C, rotated and offset as in TFRecord files."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """The payload as framed in a file."""
    length = struct.pack("<Q", len(data))
    header = length + FOOTER.pack(masked_crc32c(length))
    return b"".join((header, data, FOOTER.pack(masked_crc32c(data))))


class CorruptPayload(CorruptRecord):
    """A corrupt payload inside an intact frame: the records after it can still be read."""


OnBad = Callable[[int, CorruptPayload], None]


@runtime_checkable
class Framing(Protocol):
    """Receives the framing of a file while it is read: see `framing.py`."""

    def begin(self, size: int, etag: str) -> None:
        """Called with the size of the file, in bytes, when it is opened, and its etag if it lies in
        a bucket."""
        ...

    def add(self, header: bytes, footer: bytes, *, sound: bool) -> None:
        """Called for each frame; without a footer where nothing can be read after this header."""
        ...


def read_records(
    path: Path, on_bad: OnBad | None = None, framing: Framing | None = None
) -> Iterator[Record]:
    """All records in order. Raises `CorruptRecord` at the first bad one, after the good ones.

    With `on_bad` a record with only a bad payload is reported to it, by index, and left out.
    """
    with bytes_of(path) as file:
        if framing:
            framing.begin(file.size, file.etag)
        index = offset = 0
        while offset < file.size:
            try:
                record = _record_at(file, path, index, offset, framing)
            except CorruptPayload as error:
                if on_bad is None:
                    raise
                on_bad(index, error)
                (length,) = struct.unpack("<Q", file.read(8, offset))
                index, offset = index + 1, offset + OVERHEAD + length
                continue
            index, offset = index + 1, record.end
            yield record
            del record  # else it would stay in memory while the next one is read


def read_record(path: Path, offset: int, index: int) -> Record:
    """The record that begins at byte `offset`; `index` is its number, for messages."""
    with bytes_of(path) as file:
        return _record_at(file, path, index, offset, None)


def payload_length(header: bytes, room: int) -> int:
    """The length that a header states, with `room` bytes from its first to the end of the file.
    Raises `ValueError`, with the reason, if it is invalid: nothing after it can be read."""
    if len(header) < HEADER.size:
        raise ValueError(f"the file ends inside a header ({len(header)} of {HEADER.size} bytes)")
    length, length_crc = HEADER.unpack(header)
    if masked_crc32c(header[:8]) != length_crc:
        raise ValueError("the checksum of its length is wrong")
    if length > room - OVERHEAD:
        raise ValueError(f"the file ends inside it (it needs {length} bytes)")
    if length > _LARGEST:
        raise ValueError(f"{length} bytes are more than a record can have")
    return length


def _record_at(file: Bytes, path: Path, index: int, offset: int, framing: Framing | None) -> Record:
    def corrupt(reason: str) -> NoReturn:
        raise CorruptRecord(
            f"{path}: record {index} at byte {offset}: {reason}", remedy=FETCH_AGAIN
        )

    if not 0 <= offset <= file.size:
        corrupt(f"the file has only {file.size} bytes")
    header = file.read(HEADER.size, offset)
    try:
        length = payload_length(header, file.size - offset)
    except ValueError as error:
        if framing:
            framing.add(header, b"", sound=False)
        if offset == 0 and file.read(len(POINTER), 0) == POINTER:
            raise CorruptRecord(
                f"{path}: record 0 at byte 0: this is a Git LFS pointer, not the data",
                remedy=PULL,
            ) from None
        corrupt(str(error))
    data = file.read(length, offset + HEADER.size)
    footer = file.read(FOOTER.size, offset + HEADER.size + length)
    if len(data) != length or len(footer) != FOOTER.size:
        raise SourceUnavailable(
            f"{path} became shorter while it was read",
            remedy="let whatever writes it finish, then run the same command again",
        )
    sound = masked_crc32c(data) == FOOTER.unpack(footer)[0]
    if framing:
        framing.add(header, footer, sound=sound)
    if not sound:
        raise CorruptPayload(
            f"{path}: record {index} at byte {offset}: the checksum of its data is wrong",
            remedy=FETCH_AGAIN,
        )
    return Record(index, offset, data)
