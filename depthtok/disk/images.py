"""Images inside larger files: their bytes are read from where they lie, and checked."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import google_crc32c

from depthtok.disk.regular import open_file
from depthtok.errors import CorruptRecord, SourceUnavailable
from depthtok.remote.blocks import BlockCache, BlockedObject, block_cache
from depthtok.remote.location import Location

OPEN_FILES = 128
OPEN_REMOTE = 16_384  # shards: what is kept of each is its etag


class ImageFiles:
    """Reads spans of files; the most recent files stay open. Threads may share it."""

    def __init__(self) -> None:
        self._opened = lru_cache(OPEN_FILES)(OpenFile)
        self._remote = lru_cache(OPEN_REMOTE)(_blocked)

    def read(self, path: Path, offset: int, length: int, crc32c: int) -> bytes:
        """The `length` bytes at `offset`. Raises `CorruptRecord` unless they have this CRC32C, and
        `SourceUnavailable` where the file system does not give them."""
        if isinstance(path, Location):
            return self._read_remote(path, offset, length, crc32c)
        try:
            file = self._opened(path)  # held, or another thread's reads could close it
            data = os.pread(file.number, length, offset)
        except OSError as error:
            self._opened.cache_clear()  # a stale handle must not outlive the trouble
            raise SourceUnavailable(
                f"{path} cannot be read now ({error.strerror or error})",
                remedy="see that the file is there and may be read, then run the same command "
                "again: what is done is kept",
            ) from error
        return _checked(data, path, offset, length, crc32c)

    def expect(self, path: Path, spans: Sequence[tuple[int, int]]) -> None:
        """Says which spans (start and stop) will be read soon: what lies elsewhere is fetched."""
        if isinstance(path, Location):
            shard, cache = self._remote(path)
            cache.expect(shard, spans)

    def _read_remote(self, path: Location, offset: int, length: int, crc32c: int) -> bytes:
        shard, cache = self._remote(path)
        data = cache.read(shard, offset, offset + length)
        if google_crc32c.value(data) != crc32c:  # the disk of the cache may be at fault
            cache.forget(shard, offset, offset + length)
            data = cache.read(shard, offset, offset + length)
        return _checked(data, path, offset, length, crc32c)


def _checked(data: bytes, path: Path, offset: int, length: int, crc32c: int) -> bytes:
    """The bytes. Raises `CorruptRecord` unless they have this CRC32C."""
    if google_crc32c.value(data) != crc32c:
        raise CorruptRecord(
            f"{path}: the {length} bytes at {offset} changed since they were indexed",
            remedy="restore the file, or run `depthtok convert` again: it makes the parts of "
            "changed shards anew",
        )
    return data


def _blocked(location: Location) -> tuple[BlockedObject, BlockCache]:
    """An object in a bucket by its blocks, and where they are kept."""
    cache = block_cache(location.limits)
    return BlockedObject(location, cache), cache


class OpenFile:
    """A file that stays open, for reading, as long as somebody holds this."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, open_file(path)
        weakref.finalize(self, os.close, self.number)
