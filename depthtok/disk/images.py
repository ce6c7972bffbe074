"""Images inside larger files: their bytes are read from where they lie, and checked."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import google_crc32c

from depthtok.disk.regular import open_file
from depthtok.errors import CorruptRecord, SourceUnavailable
from depthtok.remote.blocks import BlockedFile
from depthtok.remote.location import Location

OPEN_FILES = 128
OPEN_OBJECTS = 16_384  # elsewhere: what is kept of each is its etag


@runtime_checkable
class ByteFile(Protocol):
    """A file that is open for reading, wherever it lies. Threads may share it."""

    def read(self, offset: int, length: int) -> bytes:
        """The `length` bytes at `offset`; fewer where the file ends. Raises `OSError`."""
        ...


class ImageFiles:
    """Reads spans of files; the most recent files stay open. Threads may share it. `opened` is how
    a file is opened: files that lie elsewhere have another."""

    def __init__(self, opened: Callable[[Path], ByteFile] | None = None) -> None:
        self._opened = lru_cache(OPEN_FILES)(opened or OpenFile)
        self._objects = lru_cache(OPEN_OBJECTS)(BlockedFile.of)

    def read(self, path: Path, offset: int, length: int, crc32c: int) -> bytes:
        """The `length` bytes at `offset`. Raises `CorruptRecord` unless they have this CRC32C, and
        `SourceUnavailable` where the file system, or the network, does not give them."""
        try:
            file = self._file(path)  # held, or another thread's reads could close it
            data = file.read(offset, length)
            if google_crc32c.value(data) != crc32c and isinstance(file, BlockedFile):
                file.forget(offset, length)  # the disk of the cache may be at fault
                data = file.read(offset, length)
        except OSError as error:
            self._opened.cache_clear()  # a stale handle must not outlive the trouble
            raise SourceUnavailable(
                f"{path} cannot be read now ({error.strerror or error})",
                remedy="see that the file is there and may be read, then run the same command "
                "again: what is done is kept",
            ) from error
        if google_crc32c.value(data) != crc32c:
            raise CorruptRecord(
                f"{path}: the {length} bytes at {offset} changed since they were indexed",
                remedy="restore the file, or run `depthtok convert` again: it makes the parts of "
                "changed shards anew",
            )
        return data

    def expect(self, path: Path, spans: Sequence[tuple[int, int]]) -> None:
        """Says which spans (offset and length) will be read soon: where the file lies elsewhere,
        they are fetched, many at a time."""
        if isinstance(path, Location):
            self._objects(path).expect(spans)

    def _file(self, path: Path) -> ByteFile:
        return self._objects(path) if isinstance(path, Location) else self._opened(path)


class OpenFile:
    """A file that stays open, for reading, as long as somebody holds this."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, open_file(path)
        weakref.finalize(self, os.close, self.number)

    def read(self, offset: int, length: int) -> bytes:
        """As `ByteFile.read`."""
        return os.pread(self.number, length, offset)
