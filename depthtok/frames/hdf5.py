"""Pictures in HDF5 demonstrations: arrays [T, H, W, C] of every `data/demo_N`.

A row: number of the frame in its demonstration (40 bits), number of the file (24 bits above), N,
CRC32C of the frame's values as they are in memory, little-endian.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from depthtok.disk.bytes_of import local_file
from depthtok.disk.images import ImageFiles
from depthtok.disk.lfs import require_fetched
from depthtok.disk.regular import TROUBLES, require_file, require_given, unavailable
from depthtok.errors import CorruptRecord, MissingPackage, SourceError
from depthtok.frames.kinds import Pixels, Rows, file_numbers, one_by_one, positions
from depthtok.frames.pool import Pool
from depthtok.json_values import value_of

NAME, VERSION, NEEDS = "hdf5", 1, "0.3"
FAILURES = (OSError, KeyError, ValueError, TypeError, RuntimeError)  # of h5py
CHUNK_CACHE = 64 << 20  # bytes of a dataset's decompressed chunks: one chunk may hold many frames
AGAIN, CANNOT = "download it again, or leave it out", "cannot be read"


@contextmanager
def open_hdf5(path: Path) -> Iterator:
    """An HDF5 file, wherever it lies; closed when the block ends. Raises `CorruptRecord`,
    `SourceUnavailable`, `MissingPackage`."""
    try:
        import h5py
    except ImportError:
        raise MissingPackage(
            "reading HDF5 demonstrations needs the package `h5py`",
            remedy="pip install 'depthtok[hdf5]'",
        ) from None
    with local_file(path) as file:
        require_file(file)
        try:
            opened = h5py.File(file, "r", rdcc_nbytes=CHUNK_CACHE)
        except OSError as error:
            raise unreadable(path, error) from error
        with opened:
            try:
                yield opened
            except (OSError, KeyError, RuntimeError) as error:  # of a file that is damaged
                raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> CorruptRecord:
    """The error for what HDF5 cannot read. Raises `SourceUnavailable` instead where the file
    system does not give it."""
    require_there(path, error)
    require_fetched(path)
    return CorruptRecord(f"{path} cannot be read: {error}", remedy=AGAIN)


def require_there(path: Path, error: Exception) -> None:
    """Raises `SourceUnavailable` for an error of h5py that comes from the file system. That may be
    a KeyError or a RuntimeError, which has the system's number only in its words."""
    if isinstance(error, FileNotFoundError):
        raise unavailable(path, error, CANNOT) from error
    require_given(path, error)
    number = re.search(r"\berrno = (\d+)", str(error))
    code = int(number[1]) if number else 0
    if code in TROUBLES:  # others, such as ENOENT, may be of a file that this one links to
        raise unavailable(path, OSError(code, os.strerror(code)), CANNOT) from error


def demo(number: int) -> str:
    """The group of a demonstration."""
    return f"data/demo_{number}"


def checked(frame: np.ndarray) -> int:
    """The CRC32C of a frame's values."""
    return google_crc32c.value(np.ascontiguousarray(frame).tobytes())


class DemoReader:
    """Reads frames of one file. Not for several threads at once."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self._key = path, key
        self._opened = ExitStack()
        self._file = self._opened.enter_context(open_hdf5(path))
        self._number, self._frames = -1, np.empty(0)
        self.position = 0.0

    def close(self) -> None:
        """Closes the file."""
        self._opened.close()

    def frame(self, number: int, step: int) -> np.ndarray:
        """Frame `step` of demonstration `number`. Raises `CorruptRecord`."""
        try:
            if number != self._number:
                self._frames = self._file[f"{demo(number)}/{self._key}"]
                self._number = number
            return np.asarray(self._frames[step])
        except (*FAILURES, IndexError) as error:
            raise unreadable(self.path, error) from error


@dataclass
class Hdf5Source:
    """The pictures of one view."""

    view: Pixels
    readers: Pool[DemoReader]

    @classmethod
    def of(cls, view: Pixels, images: ImageFiles) -> Hdf5Source:
        """The source of a view, whose setting `key` names the array in a demonstration."""
        key = value_of(view.frames_by.settings, "key", str)
        return cls(view, Pool(lambda path: DemoReader(path, key)))

    def stored(self, files: Sequence[Path], rows: Rows) -> Iterator[np.ndarray]:
        """The frames as they are in the file, checked. Raises `CorruptRecord`."""
        steps = zip(file_numbers(rows).tolist(), positions(rows), rows.tolist(), strict=True)
        with self.readers.in_turn() as reader_of:
            for number, step, row in steps:
                path = files[number]
                frame = reader_of(path, 0).frame(row[2], step)
                if checked(frame) != row[3]:
                    raise CorruptRecord(
                        f"{path}: frame {step} of {demo(row[2])} changed since it was indexed",
                        remedy="restore the file, or run `depthtok convert` again: it makes the "
                        "parts of changed files anew",
                    )
                yield frame

    def frames(self, files: Sequence[Path], rows: Rows) -> Iterator[np.ndarray]:
        """As `FrameSource.frames`."""
        for frame in self.stored(files, rows):
            shaped = frame if frame.ndim == 3 else frame[..., None]
            yield np.ascontiguousarray(shaped[..., ::-1]) if self.view.channels == "bgr" else shaped

    def check(self, files: Sequence[Path], rows: Rows) -> Iterator[SourceError]:
        """As `FrameSource.check`."""
        return one_by_one(self.stored, files, rows)
