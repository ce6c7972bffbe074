"""Reading plain files: what the file system says of one is nobody's failure."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from depthtok.files import file_sha256
from depthtok.sources.tfrecord import unavailable

AMBIGUOUS = (errno.EIO, errno.EPERM)
"""What FFmpeg says of broken videos too: of an early end, and where a decoder gives up with -1."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the file system says of a file is raised as `SourceUnavailable`."""
    try:
        yield
    except OSError as error:
        raise unavailable(path, error, "cannot be read") from error


def read(path: Path) -> bytes:
    """All bytes of a file. Raises `SourceUnavailable`."""
    with reading(path):
        return path.read_bytes()


def require_readable(path: Path, error: Exception) -> None:
    """Raises `SourceUnavailable` where it was the file system that failed. What FFmpeg also says of
    broken videos proves nothing, so that the file itself is tried."""
    if not isinstance(error, OSError):
        return
    if error.errno not in AMBIGUOUS:
        raise unavailable(path, error, "cannot be read") from error
    with reading(path):
        file_sha256(path)
