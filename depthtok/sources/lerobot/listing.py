"""Which episodes a LeRobot data set has, and in which files each lies: columns, not objects, so
that a list of many episodes stays small."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from depthtok.disk.bytes_of import local_file
from depthtok.disk.lfs import require_fetched
from depthtok.disk.regular import listed, require_file, require_given
from depthtok.errors import SourceError
from depthtok.frames.parquet import arrow
from depthtok.remote.errors import Refused
from depthtok.remote.location import Location
from depthtok.remote.whole import holding
from depthtok.sources.lerobot.info import Info
from depthtok.sources.shards import status_of

AGAIN = "download it again"


@dataclass(frozen=True)
class Videos:
    """Of one camera, by episode: chunk and file of its video, and when it begins there, s."""

    chunk: Int64[np.ndarray, " E"]
    file: Int64[np.ndarray, " E"]
    begins: Float64[np.ndarray, " E"]


@dataclass(frozen=True)
class Listing:
    """All episodes, by ascending index; chunk and file are those of their parquet."""

    index: Int64[np.ndarray, " E"]
    length: Int64[np.ndarray, " E"]
    chunk: Int64[np.ndarray, " E"]
    file: Int64[np.ndarray, " E"]
    videos: Mapping[str, Videos]

    def is_listed(self, index: int) -> bool:
        """Whether there is an episode of this index."""
        row = int(np.searchsorted(self.index, index))
        return row < len(self.index) and int(self.index[row]) == index


def read_listing(root: Path, info: Info) -> Listing:
    """The episodes that the metadata list. Raises `SourceError` where they cannot be read."""
    columns = _v3_columns(root, info) if info.is_v3 else _v2_columns(root, info)
    order = np.argsort(columns["index"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    index = columns["index"].astype(np.int64)
    if len(np.unique(index)) < len(index) or (len(index) and index.min() < 0):
        raise SourceError(f"{root}: an episode is listed twice", remedy=AGAIN)
    if isinstance(root, Location) and not root.lists and len(index) < info.episodes:
        raise SourceError(
            f"{root}: meta/episodes lists {len(index)} of {info.episodes} episodes, as far as its "
            "files can be guessed: a web server does not list them",
            remedy="download the data set, or give it as s3:// or hf://",
        )
    integers = {name: columns[name].astype(np.int64) for name in ("length", "chunk", "file")}
    videos = {
        key: Videos(
            columns[f"{key}/chunk"].astype(np.int64),
            columns[f"{key}/file"].astype(np.int64),
            columns[f"{key}/begins"].astype(np.float64),
        )
        for key in info.videos
    }
    return Listing(index, **integers, videos=videos)


def _v3_columns(root: Path, info: Info) -> dict[str, np.ndarray]:
    names = {"index": "episode_index", "length": "length"}
    names |= {"chunk": "data/chunk_index", "file": "data/file_index"}
    for key in info.videos:
        names[f"{key}/chunk"] = f"videos/{key}/chunk_index"
        names[f"{key}/file"] = f"videos/{key}/file_index"
        names[f"{key}/begins"] = f"videos/{key}/from_timestamp"
    paths = _v3_files(root, info)
    if not paths:
        raise SourceError(f"{root} has no meta/episodes/*/*.parquet", remedy=AGAIN)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for path in paths:
        table = read_table(path, list(names.values()))
        for name, column in names.items():
            columns[name].append(_numbers(table, column, path))
    return {name: np.concatenate(values) for name, values in columns.items()}


def _numbers(table, column: str, path: Path) -> np.ndarray:
    """A column of numbers, one an episode. Raises `SourceError` where one is missing."""
    values = table[column].to_numpy() if column in table.column_names else None
    if values is None or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        lacks = "has no column" if values is None else "has an episode without a number in"
        raise SourceError(f"{path} {lacks} {column!r}", remedy=AGAIN)
    return values


def _v3_files(root: Path, info: Info) -> list[Path]:
    """The files that list the episodes."""
    folder = root / "meta" / "episodes"
    try:
        folders = listed(folder, "chunk-*")
    except Refused:
        if not isinstance(root, Location) or root.lists:
            raise  # else they are asked for one by one, as LeRobot numbers them
        paths: list[Path] = []
        while True:
            chunk, file = divmod(len(paths), info.chunks_size)
            path = folder / f"chunk-{chunk:03d}" / f"file-{file:03d}.parquet"
            if status_of(path) is None:
                return paths
            paths.append(path)
    return [path for chunk in folders for path in listed(chunk, "*.parquet")]


def _v2_columns(root: Path, info: Info) -> dict[str, np.ndarray]:
    rows = json_lines(root / "meta" / "episodes.jsonl")
    pairs = ((int(row["episode_index"]), int(row["length"])) for row in rows)
    try:
        index, length = np.fromiter(pairs, np.dtype((np.int64, 2))).T.copy()
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SourceError(
            f"{root}/meta/episodes.jsonl is not as LeRobot writes it ({error!r})", remedy=AGAIN
        ) from error
    chunk = index // info.chunks_size
    columns = {"index": index, "length": length, "chunk": chunk, "file": index}
    for key in info.videos:
        columns |= {f"{key}/chunk": chunk, f"{key}/file": index, f"{key}/begins": 0 * index}
    return columns


def read_tasks(root: Path, info: Info) -> dict[int, str]:
    """The texts of the tasks, by index. Raises `SourceError` where their file is no list of them,
    or has two texts for one."""
    rows = _v3_tasks(root) if info.is_v3 else _v2_tasks(root)
    tasks: dict[int, str] = {}
    for index, text in rows:
        if tasks.setdefault(index, text) != text:
            raise SourceError(
                f"{root}/meta: task {index} is both {tasks[index]!r} and {text!r}", remedy=AGAIN
            )
    return tasks


def _v2_tasks(root: Path) -> Iterator[tuple[int, str]]:
    path = root / "meta" / "tasks.jsonl"
    try:
        for row in json_lines(path):
            yield int(row["task_index"]), str(row["task"])
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"{path} is not as LeRobot writes it ({error!r})", remedy=AGAIN
        ) from error


def _v3_tasks(root: Path) -> Iterator[tuple[int, str]]:
    table = read_table(root / "meta" / "tasks.parquet")
    text = next((n for n in ("task", "__index_level_0__") if n in table.column_names), None)
    if text is None or "task_index" not in table.column_names:
        raise SourceError(f"{root}/meta/tasks.parquet has no column of tasks", remedy=AGAIN)
    yield from zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True)


def read_table(path: Path, columns: list[str] | None = None):
    """A small parquet file as a table. Raises `SourceError`, `MissingPackage`."""
    pyarrow = arrow()
    with holding([path]) as (path_now,), local_file(path_now) as file:
        require_file(file)
        try:
            return pyarrow.parquet.ParquetFile(file).read(columns=columns)
        except (OSError, pyarrow.ArrowException) as error:
            require_given(path, error)
            require_fetched(path)
            raise SourceError(f"{path} cannot be read: {error}", remedy=AGAIN) from error


def json_lines(path: Path) -> Iterator[dict]:
    """The objects of a .jsonl file. Raises `SourceError`."""
    require_file(path)
    try:
        for line in io.BytesIO(path.read_bytes()):
            if line.strip():
                yield json.loads(line)
    except (OSError, ValueError) as error:
        require_given(path, error)
        raise SourceError(f"{path} cannot be read: {error}", remedy=AGAIN) from error
