"""Images inside larger files: their bytes are read from where they lie, and checked."""

from __future__ import annotations

import os
import weakref
from functools import lru_cache
from pathlib import Path

import google_crc32c

from depthtok.errors import CorruptRecord

OPEN_FILES = 128


class ImageFiles:
    """Reads spans of files; the most recent files stay open. Threads may share it."""

    def __init__(self) -> None:
        self._opened = lru_cache(OPEN_FILES)(OpenFile)

    def read(self, path: Path, offset: int, length: int, crc32c: int) -> bytes:
        """The `length` bytes at `offset`. Raises `CorruptRecord` unless they have this CRC32C."""
        try:
            file = self._opened(path)  # held, or another thread's reads could close it
            data = os.pread(file.number, length, offset)
        except OSError as error:
            raise CorruptRecord(
                f"cannot read {path}: {error.strerror}", remedy="restore the file"
            ) from error
        if google_crc32c.value(data) != crc32c:
            raise CorruptRecord(
                f"{path}: the {length} bytes at {offset} changed since they were indexed",
                remedy="restore the file, or run `depthtok convert` into a new store",
            )
        return data


class OpenFile:
    """A file that stays open, for reading, as long as somebody holds this."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)
