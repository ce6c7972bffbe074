"""Reads RLDS directories, as written by tensorflow-datasets, without TensorFlow.

`<name>/<version>/` contains features.json, dataset_info.json and the shards. One record of a shard
is one episode. The two JSON files are not trusted: files that they name are only looked for inside
the directory, and every count is checked against the shards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote

from depthtok.disk.regular import require_no_special
from depthtok.errors import CorruptRecord, SourceError
from depthtok.remote.location import Location, located
from depthtok.sources.episode import RawEpisode
from depthtok.sources.features import Feature, read_features, read_json
from depthtok.sources.foreign import folder_remedy, foreign_file, foreign_folder, is_lerobot
from depthtok.sources.framing import ShardDigest
from depthtok.sources.shards import INFO, TEMPLATE, Naming, Shard, shards_of
from depthtok.sources.tfrecord import FETCH_AGAIN, CorruptPayload, OnBad, read_record, read_records

FEATURES = "features.json"
TFRECORD = "tfrecord"


@dataclass(frozen=True)
class Split:
    """The shards of one split, in order; `num_bytes` is their payload according to the data set.

    `notes` say where the files and the data set's description of them differ.
    """

    name: str
    shards: tuple[Shard, ...]
    num_bytes: int
    notes: tuple[str, ...] = ()

    @cached_property
    def episodes(self) -> int:
        """The number of episodes in all shards."""
        return sum(shard.episodes for shard in self.shards)


@dataclass(frozen=True)
class RldsDirectory:
    """A data set on disk. `name` and `version` are from its own metadata."""

    path: Path
    name: str
    version: str
    description: str
    features: dict[str, Feature]
    splits: dict[str, Split]

    @classmethod
    def open(cls, path: Path | str) -> RldsDirectory:
        """The data set in a version directory, or in a directory with exactly one inside.

        Reads the two JSON files and the names of the shards; the shards only where they must be
        counted. Raises `SourceError`.
        """
        root = _version_directory(located(path))
        info = read_json(root / INFO)
        name, version = (_name(info.get(key), key, root) for key in ("name", "version"))
        _require_tfrecord(info, root)
        try:
            splits = {split["name"]: _split(split, name, root) for split in info["splits"]}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(
                f"{root / INFO} is not a description by tensorflow-datasets ({error!r})",
                remedy="download the file again",
            ) from error
        splits = {split.name: split for split in splits.values() if split.shards}
        if not any(split.episodes for split in splits.values()):
            raise SourceError(
                f"{root / INFO} lists no episodes: the data set is empty, or was not finished",
                remedy="finish building the data set, or download its shards",
            )
        features = read_features(root / FEATURES)
        return cls(root, name, version, str(info.get("description", "")), features, splits)

    @property
    def notes(self) -> list[str]:
        """Where the files of the splits and the description of them differ."""
        return [note for split in self.splits.values() for note in split.notes]

    def records(
        self, shard: Shard, on_bad: OnBad | None = None, framing: ShardDigest | None = None
    ) -> Iterator[RawEpisode]:
        """The episodes of a shard in order, one in memory at a time, checksums verified.

        Raises `CorruptRecord` at the first bad record, after the good ones before it, and at the
        end if the shard has fewer or more episodes than stated. With `on_bad`, a bad payload in an
        intact frame is reported to it, by index, and the episodes after it are read. `framing` is
        filled with what is read.
        """
        count = end = 0

        def counted(index: int, error: CorruptPayload) -> None:
            nonlocal count
            count = index + 1
            if on_bad is not None:
                on_bad(index, error)

        for record in read_records(shard.path, counted if on_bad else None, framing):
            count, end = record.index + 1, record.end
            if count > shard.episodes:
                raise _count_error(shard, f"there is one more at byte {record.offset}")
            yield RawEpisode(shard.path, record.index, record.offset, record.data, self.features)
            del record
        if count < shard.episodes:
            raise _count_error(shard, f"record {count} at byte {end} is missing")

    def record(self, shard: Shard, offset: int, index: int) -> RawEpisode:
        """The episode whose record begins at byte `offset`, number `index` of its shard."""
        record = read_record(shard.path, offset, index)
        return RawEpisode(shard.path, index, offset, record.data, self.features)


def _count_error(shard: Shard, reason: str) -> CorruptRecord:
    return CorruptRecord(
        f"{shard.path}: {INFO} states {shard.episodes} records, but {reason}", remedy=FETCH_AGAIN
    )


def is_rlds(path: Path) -> bool:
    """Whether there is a data set in this directory, or up to three levels below."""
    names = {FEATURES, INFO}
    return path.is_dir() and any(
        file.name in names for depth in range(4) for file in path.glob("*/" * depth + "*.json")
    )


def _version_directory(path: Path) -> Path:
    """The directory with the two JSON files: `path`, or the only one up to three levels below."""
    require_no_special(path)
    if isinstance(path, Location) and (path / INFO).is_file():
        return path  # a web server lists no folder
    try:
        if {INFO, FEATURES} & {entry.name for entry in path.iterdir()}:
            return path
        below = {file.parent for depth in (1, 2, 3) for file in path.glob("*/" * depth + INFO)}
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(error, NotADirectoryError) and path.is_file():
            raise foreign_file(path) from error
        raise SourceError(
            f"{path} is not a readable directory ({error})",
            remedy="give a data set: a directory of RLDS (<name>/<version>, with features.json) or "
            "of LeRobot (with meta/), a file or directory of HDF5",
        ) from error
    roots = sorted(below)
    if not roots and is_lerobot(path):
        raise foreign_folder(path)
    if not roots:
        raise SourceError(
            f"{path} is not an RLDS data set: there is no {INFO} in it or below it",
            remedy=folder_remedy(path)
            or f"give the directory with {INFO} and {FEATURES}, such as <name>/<version>",
        )
    if len(roots) > 1:
        names = ", ".join(str(root.relative_to(path)) for root in roots[:8])
        raise SourceError(f"{path} has {len(roots)} data sets", remedy=f"choose one of: {names}")
    return roots[0]


def _name(value: object, key: str, root: Path) -> str:
    """The name `value`. Raises `SourceError` unless it is a single path component."""
    if not isinstance(value, str) or value in ("", ".", "..") or re.search(r"[/\\\x00]", value):
        raise SourceError(
            f"{root / INFO}: {key} {value!r} is not a name", remedy="download the file again"
        )
    return value


def _require_tfrecord(info: dict, root: Path) -> None:
    """Raises `SourceError` unless the shards are there as TFRecord, alone or beside others."""
    file_format, others = info.get("fileFormat") or TFRECORD, info.get("alternativeFileFormats")
    if file_format == TFRECORD or (isinstance(others, list) and TFRECORD in others):
        return
    remedy = (
        "`pip install apache-beam mlcroissant`, then `tfds convert_format --num_workers=1 "
        f"--out_file_format={TFRECORD} --dataset_version_dir={root.resolve()}`"
    )
    if file_format == "array_record":  # which tfds writes and cannot convert
        script = f"python -m depthtok.sources.array_record {quote(str(root))} OUT"
        remedy = f"`pip install array_record`, then `{script}`"
    raise SourceError(
        f"{root} is stored as {file_format!r}; only {TFRECORD!r} can be read",
        remedy=f"write it anew: {remedy}",
    )


def _split(split: dict, dataset: str, root: Path) -> Split:
    """One split by its entry in dataset_info.json. Raises `SourceError`, `ValueError`."""
    name = _name(split["name"], "the name of a split", root)
    lengths = [int(length) for length in split.get("shardLengths") or []]
    if any(length < 0 for length in lengths):
        raise ValueError(f"negative shardLengths of split {name}")
    naming = Naming(root, split.get("filepathTemplate") or TEMPLATE, dataset, name)
    shards, notes = shards_of(naming, lengths)
    return Split(name, shards, int(split.get("numBytes", 0)), tuple(notes))
