"""The arrays of a part, as Zarr v3. The only file that imports zarr.

Two layouts. A *table* is one uncompressed chunk, so that the file can be memory-mapped in place.
A *stream* is compressed in small chunks inside larger shards, and is written a shard at a time, so
that memory does not grow with its length. Every chunk carries a CRC32C; every chunk is written,
also one of zeros, so that a missing file can never read as data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from depthtok.disk.digests import REPAIR
from depthtok.disk.regular import require_given
from depthtok.errors import CorruptPart
from depthtok.json_values import JsonObject
from depthtok.signals import uninterrupted

STREAM_CHUNK = 8  # rows decoded together: a short run of frames
STREAM_SHARD = 256  # rows in one file: 32 MiB of 256x256 16-bit depth before compression


@dataclass(frozen=True)
class ArraySpec:
    """An array that grows by rows: `dtype`, the shape of one row, and how it lies on disk.

    There is one row for every frame of a part, or, `per_episode`, one for every episode. `axes`
    names the dimensions of a row, and `attributes` says what the values are, for other readers of
    Zarr: without names, none are written.
    """

    dtype: str
    row: tuple[int, ...] = ()
    stream: bool = False
    per_episode: bool = False
    axes: tuple[str, ...] | None = None
    attributes: JsonObject = field(default_factory=dict)

    @property
    def dimensions(self) -> list[str] | None:
        """The names of all dimensions; None where they have none."""
        if self.axes is None:
            return None
        assert len(self.axes) == len(self.row), f"{self.axes} do not name {self.row}"
        return ["episode" if self.per_episode else "frame", *self.axes]

    def nameless(self) -> ArraySpec:
        """The same array as stores had it before dimensions were named."""
        return replace(self, axes=None, attributes={})


ArraySpecs = Mapping[str, ArraySpec]


def group_json(attributes: Mapping[str, object]) -> str:
    """The `zarr.json` of a group."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


@runtime_checkable
class Rows(Protocol):
    """What is used of a `zarr.Array`: zarr is imported only where it is needed."""

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...

    def __setitem__(self, rows: slice, values: np.ndarray, /) -> None: ...

    def resize(self, shape: tuple[int, ...], /) -> None: ...


class ArrayWriter:
    """Writes one array of a part, row after row."""

    def __init__(self, directory: Path, name: str, spec: ArraySpec) -> None:
        self.rows = 0
        self._directory, self._name, self._spec = directory, name, spec
        self._pending: list[np.ndarray] = []
        self._flushed = 0
        self._array: Rows | None = None
        if spec.stream:
            with uninterrupted():
                self._array = _create(directory, name, spec, 0)

    def append(self, values: np.ndarray) -> None:
        """Adds rows of exactly the array's dtype and row shape."""
        values = np.asarray(values)
        assert values.dtype == self._spec.dtype, f"{self._name}: {values.dtype}"
        assert values.shape[1:] == self._spec.row, f"{self._name}: {values.shape}"
        self._pending.append(values)
        self.rows += len(values)
        while self._array is not None and self.rows - self._flushed >= STREAM_SHARD:
            self._flush(self._array, STREAM_SHARD)

    def truncate(self, rows: int) -> None:
        """Takes back all rows from `rows` on."""
        if rows == self.rows:
            return
        if self._array is not None and rows < self._flushed:
            start = rows // STREAM_SHARD * STREAM_SHARD
            with uninterrupted():
                head = self._array[start:rows]
                self._array.resize((start, *self._spec.row))
            self._flushed, self._pending = start, [head]
        else:
            self._pending = [self._gather()[: rows - self._flushed]]
        self.rows = rows

    def close(self) -> None:
        """Writes what is left; the array is complete after this."""
        if self._array is not None:
            if self.rows > self._flushed:
                self._flush(self._array, self.rows - self._flushed)
            return
        with uninterrupted():  # zarr writes in a thread of its own, which would go on alone
            array = _create(self._directory, self._name, self._spec, self.rows)
            if self.rows:
                array[:] = self._gather()

    def _gather(self) -> np.ndarray:
        if not self._pending:
            return np.empty((0, *self._spec.row), self._spec.dtype)
        return np.concatenate(self._pending)

    def _flush(self, array: Rows, rows: int) -> None:
        pending = self._gather()
        with uninterrupted():
            array.resize((self._flushed + rows, *self._spec.row))
            array[self._flushed : self._flushed + rows] = pending[:rows]
        self._flushed += rows
        self._pending = [pending[rows:]]


def _create(directory: Path, name: str, spec: ArraySpec, rows: int) -> Rows:
    import zarr
    from numcodecs import blosc
    from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

    # Threads would store blocks in order of completion: other bytes from run to run.
    blosc.use_threads = False
    packed = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
    return zarr.create_array(  # type: ignore[return-value]  # rows are arrays, never scalars
        store=str(directory),
        name=name,
        shape=(rows, *spec.row),
        dtype=spec.dtype,
        serializer=BytesCodec(endian="little"),
        filters=None,
        fill_value=0,
        dimension_names=spec.dimensions,
        attributes=json.loads(json.dumps(dict(spec.attributes))) or None,
        config={"write_empty_chunks": True},
        chunks=(STREAM_CHUNK if spec.stream else max(rows, 1), *spec.row),
        shards=(STREAM_SHARD, *spec.row) if spec.stream else None,
        compressors=[packed, Crc32cCodec()] if spec.stream else [Crc32cCodec()],
    )


def read_rows(directory: Path, name: str, start: int, stop: int | None) -> np.ndarray:
    """Rows of an array, decoded, CRC32C checked. The caller has checked the files. Raises
    `CorruptPart` where they cannot be decoded."""
    import zarr

    try:
        return np.asarray(zarr.open_array(store=str(directory), path=name, mode="r")[start:stop])
    except (ValueError, RuntimeError, OSError, KeyError) as error:
        require_given(directory / name, error)
        raise CorruptPart(f"{directory / name}: {error}", remedy=REPAIR) from error


def map_table(directory: Path, name: str) -> np.ndarray:
    """A table as a read-only memory map, without zarr. The caller has checked its digest."""
    described = json.loads((directory / name / "zarr.json").read_text())
    shape, dtype = tuple(described["shape"]), described["data_type"]
    if 0 in shape:
        return np.empty(shape, dtype)
    chunk = directory / name / "c" / "/".join("0" * len(shape))
    mapped = np.memmap(chunk, dtype=np.dtype(dtype).newbyteorder("<"), mode="r", shape=shape)
    return mapped.view(np.ndarray)  # plain arrays index faster than memmap objects


def stream_files(name: str, start: int, stop: int | None) -> Callable[[str], bool]:
    """A test for file names: does it hold rows `start` to `stop` of a stream, or describe that?"""
    first = start // STREAM_SHARD
    last = math.inf if stop is None else (stop - 1) // STREAM_SHARD

    def holds(file: str) -> bool:
        if not file.startswith(f"{name}/c/"):
            return file == f"{name}/zarr.json"
        return first <= int(file.removeprefix(f"{name}/c/").partition("/")[0]) <= last

    return holds
