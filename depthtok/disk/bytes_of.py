"""A file to read, on a disk or elsewhere: at any offset, as the readers of shards do, or by a name
on this machine, for packages that open files themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from depthtok.disk.regular import open_file, unavailable
from depthtok.remote.location import Location


@runtime_checkable
class Bytes(Protocol):
    """The bytes of one file. `etag` is "" for a file on a disk."""

    @property
    def size(self) -> int: ...

    @property
    def etag(self) -> str: ...

    def read(self, length: int, offset: int) -> bytes:
        """The bytes from `offset` on; fewer where the file ends."""
        ...


class FileBytes:
    """The bytes of a file on a disk."""

    etag = ""

    def __init__(self, number: int) -> None:
        self._number = number
        self.size = os.fstat(number).st_size

    def read(self, length: int, offset: int) -> bytes:
        """The bytes from `offset` on; fewer where the file ends. Raises `OSError`."""
        return os.pread(self._number, length, offset)


_: type[Bytes] = FileBytes


@contextmanager
def bytes_of(path: Path, *, scattered: bool = False) -> Iterator[Bytes]:
    """The bytes of a file; `scattered`: a few here and there will be read, and not all in order.
    Raises `SourceUnavailable` for any `OSError`."""
    if isinstance(path, Location):
        from depthtok.remote.stream import streaming

        with streaming(path, scattered=scattered) as stream:
            yield stream
        return
    try:
        file = open_file(path)
    except OSError as error:
        raise unavailable(path, error, "cannot be opened") from error
    try:
        yield FileBytes(file)
    except OSError as error:
        raise unavailable(path, error, "cannot be read") from error
    finally:
        os.close(file)


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """The path itself; of what lies elsewhere that of a whole copy on this machine, which stays
    there while the block runs. Raises `SourceUnavailable` and `OutputError` of the copy."""
    if isinstance(path, Location):
        from depthtok.remote.whole import whole_file

        with whole_file(path) as file:
            yield file
    else:
        yield path
