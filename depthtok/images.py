"""Images inside larger files: their bytes are read from where they lie, and checked."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from pathlib import Path

import google_crc32c

from depthtok.errors import CorruptRecord

OPEN_FILES = 128


class ImageFiles:
    """Reads spans of files; the most recent files stay open."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, OpenFile] = OrderedDict()

    def read(self, path: Path, offset: int, length: int, crc32c: int) -> bytes:
        """The `length` bytes at `offset`. Raises `CorruptRecord` unless they have this CRC32C."""
        data = os.pread(self._handle(path), length, offset)
        if google_crc32c.value(data) != crc32c:
            raise CorruptRecord(
                f"{path}: the {length} bytes at {offset} changed since they were indexed",
                remedy="restore the file, or run `depthtok convert` into a new store",
            )
        return data

    def _handle(self, path: Path) -> int:
        if path not in self._open:
            try:
                self._open[path] = OpenFile(path)
            except OSError as error:
                raise CorruptRecord(
                    f"cannot open {path}: {error.strerror}", remedy="restore the file"
                ) from error
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return self._open[path].number


class OpenFile:
    """A file that stays open, for reading, as long as somebody holds this."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)
