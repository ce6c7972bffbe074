"""Pictures inside a parquet file, as LeRobot keeps them: PNG or JPEG bytes in a column.

A row: number of the file's row (40 bits), number of the file (24 bits above), length in bytes,
CRC32C of the bytes. Pages of a parquet are compressed together, so that a single picture costs
those before it in its row group: in order each page is read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from depthtok.disk.bytes_of import local_file
from depthtok.disk.images import ImageFiles
from depthtok.disk.lfs import require_fetched
from depthtok.disk.regular import require_file, require_given, unavailable
from depthtok.errors import CorruptRecord, MissingPackage, SourceError
from depthtok.frames.kinds import Pixels, Rows, file_numbers, one_by_one, positions
from depthtok.frames.pool import Pool
from depthtok.json_values import value_of

NAME, VERSION, NEEDS = "parquet", 1, "0.3"
BATCH = 16  # rows that are decompressed together


def arrow():
    """pyarrow, with its parquet. Raises `MissingPackage`."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingPackage(
            "reading parquet files needs the package `pyarrow`",
            remedy="pip install 'depthtok[lerobot]'",
        ) from None
    return pyarrow


@contextmanager
def open_parquet(path: Path) -> Iterator:
    """A parquet file, wherever it lies, of which little is held in memory; closed when the block
    ends. Raises `CorruptRecord`, `SourceUnavailable`, `MissingPackage`."""
    pyarrow = arrow()
    with local_file(path) as file:
        require_file(file)
        try:
            opened = pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
        except (OSError, pyarrow.ArrowException) as error:
            raise unreadable(path, error) from error
        with opened:
            yield opened


def unreadable(path: Path, error: Exception) -> CorruptRecord:
    """The error for a parquet that cannot be read. Raises `SourceUnavailable` instead where the
    file system does not give it."""
    if isinstance(error, FileNotFoundError):
        raise unavailable(path, error, "cannot be read") from error
    require_given(path, error)
    require_fetched(path)
    return CorruptRecord(f"{path} cannot be read: {error}", remedy="download it again")


def picture_bytes(column):
    """The bytes of the pictures in a column, as LeRobot keeps them: structs of `bytes` and `path`;
    nulls of a column of anything else."""
    import pyarrow

    number = column.type.get_field_index("bytes") if pyarrow.types.is_struct(column.type) else -1
    if number < 0 or column.type[number].type not in (pyarrow.binary(), pyarrow.large_binary()):
        return pyarrow.nulls(len(column))
    return column.field(number)


class ColumnReader:
    """Reads one column forwards. Not for several threads at once."""

    def __init__(self, path: Path, column: str) -> None:
        self.path, self._column = path, column
        self._opened = ExitStack()
        self._file = self._opened.enter_context(open_parquet(path))
        meta = self._file.metadata
        counts = [meta.row_group(k).num_rows for k in range(meta.num_row_groups)]
        self._ends = np.cumsum([0, *counts])[1:]
        self._first, self._batches = 0, iter(())
        self._batch: Sequence = ()
        self._row = -1

    @property
    def position(self) -> float:
        """The last row that was read."""
        return self._row

    def close(self) -> None:
        """Closes the file."""
        self._opened.close()

    def row(self, row: int) -> bytes:
        """The bytes in a row. Raises `CorruptRecord`."""
        import pyarrow

        try:
            while not self._first <= row < self._first + len(self._batch):
                self._advance(row)
            data = self._batch[row - self._first].as_py()
        except (OSError, pyarrow.ArrowException, KeyError) as error:
            raise unreadable(self.path, error) from error
        self._row = row
        if not isinstance(data, bytes):
            raise CorruptRecord(f"{self.path}: row {row} of {self._column} holds no picture")
        return data

    def _advance(self, row: int) -> None:
        """Reads the next batch, from the row group of `row` where that is another one."""
        if row >= int(self._ends[-1]) if len(self._ends) else True:
            raise CorruptRecord(f"{self.path} has no row {row}")
        group = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._ends[group - 1]) if group else 0
        behind = self._first + len(self._batch)
        if not len(self._batch) or row < self._first or behind <= start:
            self._first, self._batch = start, ()
            self._batches = self._file.iter_batches(BATCH, [group], [self._column])
            behind = start
        batch = next(self._batches, None)
        if batch is None:
            raise CorruptRecord(f"{self.path} ends before row {row}")
        self._first, self._batch = behind, picture_bytes(batch.column(self._column))


@dataclass
class ParquetSource:
    """The pictures of one view."""

    view: Pixels
    readers: Pool[ColumnReader]

    @classmethod
    def of(cls, view: Pixels, images: ImageFiles) -> ParquetSource:
        """The source of a view, whose setting `column` names it in the files."""
        column = value_of(view.frames_by.settings, "column", str)
        return cls(view, Pool(lambda path: ColumnReader(path, column)))

    def encoded(self, files: Sequence[Path], rows: Rows) -> Iterator[bytes]:
        """The bytes of every frame, checked. Raises `CorruptRecord`."""
        pictures = zip(
            file_numbers(rows).tolist(), positions(rows), rows[:, 2:].tolist(), strict=True
        )
        with self.readers.in_turn() as reader_of:
            for number, row, check in pictures:
                path = files[number]
                data = reader_of(path, row).row(row)
                if [len(data), google_crc32c.value(data)] != check:
                    raise CorruptRecord(
                        f"{path}: the picture in row {row} changed since it was indexed",
                        remedy="restore the file, or run `depthtok convert` again: it makes the "
                        "parts of changed files anew",
                    )
                yield data

    def frames(self, files: Sequence[Path], rows: Rows) -> Iterator[np.ndarray]:
        """As `FrameSource.frames`."""
        return (self.view.decode(data) for data in self.encoded(files, rows))

    def check(self, files: Sequence[Path], rows: Rows) -> Iterator[SourceError]:
        """As `FrameSource.check`."""
        return one_by_one(self.encoded, files, rows)
