"""Files that are to lie in a repository, and whether those there are the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from depthtok.copies.packed import object_name, pack, packed_size
from depthtok.stores.parts import Part

BLOCK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A file of a repository: bytes, its SHA-256 where it is a large one, and git's name of it."""

    name: str
    size: int
    sha256: str
    blob: str


@runtime_checkable
class Outgoing(Protocol):
    """A file that is to lie in a repository under `name`."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int | None: ...  # bytes; None where that is not known before it is written

    def is_there(self, entry: Entry) -> bool:
        """Whether the repository's file of this name is this one already."""
        ...

    def content(self, scratch: Path) -> Path | bytes:
        """The file, or the bytes, to send; what has to be made is made in the folder `scratch`."""
        ...


@dataclass(frozen=True)
class OutgoingFile:
    """A file as it lies on the disk."""

    name: str
    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def is_there(self, entry: Entry) -> bool:
        return entry.size == self.size and _is_of(entry, self.path)

    def content(self, scratch: Path) -> Path:
        return self.path


@dataclass(frozen=True)
class OutgoingBytes:
    """A small file that is nowhere on the disk as it is to be sent."""

    name: str
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def is_there(self, entry: Entry) -> bool:
        return entry.size == self.size and _is_of(entry, self.data)

    def content(self, scratch: Path) -> bytes:
        return self.data


@dataclass(frozen=True)
class OutgoingPart:
    """A part of a store as one object (`depthtok.copies.packed`), whose name has its digest."""

    part: Part

    @property
    def name(self) -> str:
        return object_name(self.part)

    @property
    def size(self) -> int | None:
        return packed_size(self.part)

    def is_there(self, entry: Entry) -> bool:
        return entry.size == self.size

    def content(self, scratch: Path) -> Path:
        file = scratch / Path(self.name).name
        pack(self.part, file)
        return file


def _is_of(entry: Entry, content: Path | bytes) -> bool:
    """Whether the Hub's digest is that of these bytes."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    digest = hashlib.sha256() if entry.sha256 else hashlib.sha1(b"blob %d\0" % size)
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest() == (entry.sha256 or entry.blob)
