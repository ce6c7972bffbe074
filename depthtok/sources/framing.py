"""Whether a shard is still the one that was read, by its framing: 16 bytes a record.

The digest is over the headers and footers of all frames in order: lengths, and so offsets, and the
checksums of lengths and payloads. A shard that was written properly has another digest if any of
its bytes is another. Reading a shard gives the digest without reading more; to compute it alone
takes one read of 16 bytes a record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from depthtok.disk.bytes_of import Bytes, bytes_of
from depthtok.errors import CorruptRecord
from depthtok.remote.location import Location
from depthtok.sources.tfrecord import (
    FOOTER,
    HEADER,
    OVERHEAD,
    Framing,
    payload_length,
    read_records,
)


class ShardDigest(Framing):
    """What identifies the bytes of a shard; filled while its records are read.

    `damaged` are the records whose payload differs from its checksum: their footer does not tell
    whether the payload has been mended since.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = self.end = self.records = 0
        self.etag = ""
        self.damaged: list[int] = []
        self._broken = False

    def begin(self, size: int, etag: str) -> None:
        """Notes the size of the file, in bytes, when it is opened, and its etag if it has one."""
        self.size, self.etag = size, etag

    def add(self, header: bytes, footer: bytes, *, sound: bool) -> None:
        """Adds a frame; without a footer where nothing can be read after this header."""
        self._hash.update(header)
        self._hash.update(footer)
        if not footer:
            self._broken = True
            return
        if not sound:
            self.damaged.append(self.records)
        self.records += 1
        self.end += OVERHEAD + HEADER.unpack(header)[0]

    def complete(self, path: Path) -> None:
        """Adds the frames that were not read, by their headers and footers alone."""
        if self.end < self.size and not self._broken:
            with bytes_of(path, scattered=True) as file:
                self._walk(file)

    def _walk(self, file: Bytes) -> None:
        """Adds the headers and footers of the frames from `end` on."""
        header = file.read(HEADER.size, self.end)
        while header:  # the footer of a frame and the header of the next lie side by side
            try:
                length = payload_length(header, self.size - self.end)
            except ValueError:
                self.add(header, b"", sound=False)
                return
            between = file.read(OVERHEAD, self.end + HEADER.size + length)
            self.add(header, between[: FOOTER.size], sound=True)
            header = between[FOOTER.size :]

    def to_json(self) -> dict[str, object]:
        """Size, digest, and the etag and damaged records if there are any."""
        damaged = {"damaged": self.damaged} if self.damaged else {}
        etag = {"etag": self.etag} if self.etag else {}
        return {"size": self.size, "digest": self._hash.hexdigest(), **etag, **damaged}


def framing_of(path: Path) -> ShardDigest:
    """The framing of a shard, without reading payloads. Raises `SourceUnavailable`."""
    digest = ShardDigest()
    with bytes_of(path, scattered=True) as file:
        digest.begin(file.size, file.etag)
        digest._walk(file)
    return digest


def is_same(path: Path, made_from: Mapping[str, object]) -> bool:
    """Whether a shard is the one that `ShardDigest.to_json` described. Raises `SourceUnavailable`.

    Payloads are read only where one was damaged: it may have been mended in place. Nothing is read
    of an object with the etag of then.
    """
    if isinstance(path, Location) and made_from.get("etag"):
        described = path.describe()
        if (described.size, described.etag) == (made_from["size"], made_from["etag"]):
            return True
    current = framing_of(path).to_json()
    if (current["size"], current["digest"]) != (made_from["size"], made_from["digest"]):
        return False
    return not made_from.get("damaged") or _damaged_records(path) == made_from["damaged"]


def _damaged_records(path: Path) -> list[int]:
    """The records whose payload differs from its checksum."""
    damaged: list[int] = []
    try:
        for _ in read_records(path, lambda index, error: damaged.append(index)):
            pass
    except CorruptRecord:
        pass  # the framing ends there
    return damaged
