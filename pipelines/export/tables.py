"""The parquet files of LeRobot v3.0: frames, episodes, tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from depthtok.disk.files import commit_file
from depthtok.frames.parquet import arrow

Columns = Mapping[str, np.ndarray]
"""By feature, one row a frame: [T] or [T, D]."""

BATCH = 1000
"""Rows of a table that are held as dictionaries."""


def write_frames(path: Path, episodes: Iterable[Columns]) -> None:
    """Writes a data file: a row group an episode. Atomic."""
    import pyarrow

    with commit_file(path) as partial:
        writer = None
        try:
            for columns in episodes:
                arrays = {name: _array(values) for name, values in columns.items()}
                table = pyarrow.table(arrays)
                writer = writer or arrow().parquet.ParquetWriter(partial, table.schema)
                writer.write_table(table, row_group_size=max(len(table), 1))
        finally:
            if writer:
                writer.close()


def _array(values: np.ndarray):
    """A column; of vectors as lists of one length."""
    import pyarrow

    if values.ndim == 1:
        return pyarrow.array(values)
    flat = pyarrow.array(np.ascontiguousarray(values).reshape(-1))
    return pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Writes a table whose rows have the same keys, of plain values and lists of them. Atomic.

    The rows become columns some at a time: as dictionaries they are many times as large."""
    import pyarrow

    remaining = iter(rows)
    batches = iter(lambda: list(islice(remaining, BATCH)), [])
    # a column may have no value in a batch: what it is of, another one says
    tables = [pyarrow.Table.from_pylist(batch) for batch in batches]
    table = pyarrow.concat_tables(tables, promote_options="permissive")
    with commit_file(path) as partial:
        arrow().parquet.write_table(table, partial)


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Writes the texts by their numbers, as the index of a pandas table, which LeRobot expects."""
    import pyarrow

    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": dtype}
        | {"metadata": None}
        for name, kind, dtype in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    about = {"index_columns": ["task"], "column_indexes": [], "columns": columns}
    about |= {"creator": {"library": "pyarrow", "version": ""}, "pandas_version": "2.0.0"}
    table = pyarrow.table(
        {"task_index": pyarrow.array(np.arange(len(tasks))), "task": pyarrow.array(list(tasks))}
    )
    table = table.replace_schema_metadata({"pandas": json.dumps(about)})
    with commit_file(path) as partial:
        arrow().parquet.write_table(table, partial)


def cut(sizes: Sequence[int], limit: int) -> list[range]:
    """Consecutive items in groups of at most `limit` bytes in all, or of one item."""
    groups: list[range] = []
    start, total = 0, 0
    for number, size in enumerate(sizes):
        if number > start and total + size > limit:
            groups.append(range(start, number))
            start, total = number, 0
        total += size
    return [*groups, range(start, len(sizes))] if len(sizes) else groups
