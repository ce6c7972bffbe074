import resource
import shutil

import numpy as np
import pytest
import zarr

from depthtok.errors import CorruptPart
from depthtok.stores.arrays import (
    STREAM_CHUNK,
    STREAM_SHARD,
    ArraySpec,
    ArrayWriter,
    map_table,
    read_rows,
    stream_files,
)
from depthtok.testing import tree_digest

STREAM = ArraySpec("uint16", (4, 4), stream=True)
TABLE = ArraySpec("float32", (3,))


def rows(count: int, spec: ArraySpec = STREAM, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, (count, *spec.row)).astype(spec.dtype)


def write(directory, spec, blocks, name="a"):
    writer = ArrayWriter(directory, name, spec)
    for block in blocks:
        writer.append(block)
    writer.close()


@pytest.mark.parametrize("count", [0, 1, STREAM_CHUNK, STREAM_SHARD, STREAM_SHARD + 1, 700])
@pytest.mark.parametrize("spec", [STREAM, TABLE])
def test_rows_come_back_however_they_were_cut(tmp_path, count, spec):
    values = rows(count, spec)
    cuts = np.sort(np.random.default_rng(count).integers(0, count + 1, 5))
    write(tmp_path / "one", spec, [values])
    write(tmp_path / "many", spec, np.split(values, cuts))
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "many")
    np.testing.assert_array_equal(read_rows(tmp_path / "one", "a", 0, None), values)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "one" / "a", mode="r")[:], values)
    if not spec.stream:
        np.testing.assert_array_equal(map_table(tmp_path / "one", "a"), values)


@pytest.mark.parametrize("spec", [STREAM, TABLE])
@pytest.mark.parametrize("seed", range(8))
def test_rows_taken_back_were_never_there(tmp_path, spec, seed):
    rng = np.random.default_rng(seed)
    writer, rows_kept = ArrayWriter(tmp_path / "broken", "a", spec), []
    for episode in range(6):
        values, before = rows(int(rng.integers(1, 900)), spec, episode), writer.rows
        for block in np.array_split(values, int(rng.integers(1, 5))):
            writer.append(block)
        if rng.random() < 0.5:
            writer.truncate(before)
        else:
            rows_kept.append(values)
    writer.close()
    write(tmp_path / "whole", spec, rows_kept)
    assert tree_digest(tmp_path / "broken") == tree_digest(tmp_path / "whole")


def test_zeros_are_written(tmp_path):
    write(tmp_path, STREAM, [np.zeros((STREAM_SHARD * 2, 4, 4), np.uint16)])
    write(tmp_path, TABLE, [np.zeros((5, 3), np.float32)], name="b")
    files = tree_digest(tmp_path)
    assert {"a/c/0/0/0", "a/c/1/0/0", "b/c/0/0"} <= set(files)


def test_rows_without_columns(tmp_path):
    write(tmp_path, ArraySpec("float32", (0,)), [np.empty((5, 0), np.float32)])
    assert map_table(tmp_path, "a").shape == (5, 0)


def test_a_table_is_mapped_and_cannot_be_written(tmp_path):
    write(tmp_path, TABLE, [rows(5, TABLE)])
    with pytest.raises(ValueError, match="read-only"):
        map_table(tmp_path, "a")[0] = 1


def test_rows_of_another_kind_are_our_mistake(tmp_path):
    writer = ArrayWriter(tmp_path, "a", TABLE)
    with pytest.raises(AssertionError):
        writer.append(np.zeros((1, 3), np.float64))
    with pytest.raises(AssertionError):
        writer.append(np.zeros((1, 4), np.float32))


def test_every_flipped_bit_of_a_chunk_is_noticed(tmp_path):
    values = rows(2 * STREAM_CHUNK)
    write(tmp_path / "a", STREAM, [values])
    chunk, rng = tmp_path / "a" / "a" / "c" / "0" / "0" / "0", np.random.default_rng(0)
    good = chunk.read_bytes()
    for _ in range(100):
        data = bytearray(good)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        chunk.write_bytes(data)
        with pytest.raises(CorruptPart):
            read_rows(tmp_path / "a", "a", 0, None)


def test_the_files_of_rows():
    names = ["a/zarr.json", *(f"a/c/{n}/0/0" for n in range(4)), "ab/zarr.json", "ab/c/0/0/0"]

    def holding(start, stop):
        return [name for name in names if stream_files("a", start, stop)(name)]

    assert holding(0, None) == names[:5]
    assert holding(0, STREAM_SHARD) == names[:2]
    assert holding(STREAM_SHARD - 1, STREAM_SHARD + 1) == names[:3]
    assert holding(3 * STREAM_SHARD, 3 * STREAM_SHARD + 1) == [names[0], names[4]]


def test_memory_does_not_grow_with_a_stream(tmp_path):
    spec = ArraySpec("uint16", (64, 64), stream=True)
    block = np.zeros((STREAM_SHARD // 2, *spec.row), np.uint16)  # 1 MiB

    def stream(blocks: int) -> int:
        write(tmp_path / "a", spec, (block for _ in range(blocks)))
        shutil.rmtree(tmp_path / "a")
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = stream(8)
    assert stream(80) - before < 16_000  # KiB; the rows are 80 MiB
