"""A part: the episodes of one source shard (or a piece of one), whole on disk or not there.

PART/zarr.json           a Zarr group
PART/<array>/...         its arrays
PART/manifest.json       what belongs to the part, with digests; itself digested
"""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from depthtok.data import EpisodeKey
from depthtok.disk.digests import REPAIR, DigestMemory, file_sha256
from depthtok.disk.files import slug
from depthtok.disk.regular import require_file, require_given
from depthtok.errors import CorruptPart, SourceError, as_type, as_written
from depthtok.stores.arrays import map_table, read_rows, stream_files
from depthtok.stores.manifest import MANIFEST, unpack_manifest

_NAME = re.compile(r"(?P<shard>.+-\d{5,}-of-\d{5,})\.(?P<piece>\d{3,})-of-(?P<pieces>\d{3,})")


@dataclass(frozen=True)
class PartName:
    """`train-00002-of-00010.000-of-003`: completeness can be read off the names of the parts."""

    shard: str
    piece: int = 0
    pieces: int = 1

    def __str__(self) -> str:
        return f"{self.shard}.{self.piece:03d}-of-{self.pieces:03d}"

    @classmethod
    def parse(cls, text: str) -> PartName | None:
        """The name, or None where `text` is not a part's name."""
        match = _NAME.fullmatch(text)
        return match and cls(match["shard"], int(match["piece"]), int(match["pieces"]))

    @classmethod
    def of(cls, text: str) -> PartName:
        """The same, but raises `ValueError` where `text` is not a part's name."""
        if (name := cls.parse(text)) is None:
            raise ValueError(f"{text!r} is no name of a part")
        return name


def shard_name(split: str, shard: int, shards: int) -> str:
    """The first half of a part's name."""
    return f"{slug(split)}-{shard:05d}-of-{shards:05d}"


@dataclass(frozen=True)
class ShardKey:
    """What all episodes of a part share in their keys."""

    dataset: str
    version: str
    split: str
    shard: int
    shards: int

    @classmethod
    def of(cls, key: EpisodeKey) -> ShardKey:
        """The shard of an episode."""
        return cls(key.dataset, key.version, key.split, key.shard, key.shards)

    def episode(self, index: int) -> EpisodeKey:
        """The key of the shard's episode number `index`."""
        return EpisodeKey(self.dataset, self.version, self.split, self.shard, self.shards, index)


@dataclass(frozen=True)
class Failure:
    """An episode that a stage could not process, and why."""

    key: EpisodeKey
    stage: str
    reason: str


@dataclass(frozen=True)
class PartEpisode:
    """Episode number `row` of a part: its rows in the arrays by frame start at `start`."""

    key: EpisodeKey
    row: int
    start: int
    frames: int


def require_within(key: EpisodeKey, frames: int, start: int, stop: int) -> None:
    """Raises `SourceError` for frames that an episode does not have: the rows that lie there are
    those of the next."""
    if not 0 <= start <= stop <= frames:
        raise SourceError(
            f"episode {key} has {frames} frames: there are no frames {start} to {stop}",
            remedy="ask for frames from 0 to its length",
        )


def _require_types(manifest: Mapping[str, Any]) -> None:
    """Raises `TypeError`, `ValueError` or `KeyError` for what `PartWriter` did not write."""
    texts = [manifest[name] for name in ("part", "fingerprint", "upstream")]
    key = ShardKey(**manifest["shard"])
    texts += [key.dataset, key.version, key.split]
    numbers = [key.shard, key.shards]
    index, frames = (np.asarray(manifest["episodes"][name]) for name in ("index", "frames"))
    for column in (index, frames):
        if column.shape != (len(index),) or (len(column) and column.dtype != np.int64):
            raise TypeError(f"episodes are numbered and counted by {column.dtype} {column.shape}")
        if len(column) and column.min() < 0:
            raise ValueError(f"{column.min()} is no number or count of frames of an episode")
    for entry in manifest["failed"]:
        texts += [entry["stage"], entry["reason"]]
        numbers += [entry["index"]]
    for name, (size, sha256) in manifest["files"].items():
        texts += [sha256]
        numbers += [size]
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{name} lies outside")
    meta = as_type(dict, manifest["meta"])
    texts += as_type(dict, meta.get("frames", {})).values()  # digests by view
    for indices in as_type(dict, meta.get("absent", {})).values():
        numbers += as_type(list, indices)
    for values, kind in ((texts, str), (numbers, int)):
        for value in values:
            as_type(kind, value)


class Part:
    """A committed part, read-only. Its manifest is checked when it is opened: raises
    `CorruptPart`."""

    def __init__(self, path: Path, digests: DigestMemory) -> None:
        self.path = path
        require_file(path / MANIFEST)
        try:
            data = (path / MANIFEST).read_bytes()
        except OSError as error:
            require_given(path / MANIFEST, error)
            problem = f"{path / MANIFEST} cannot be read ({error.strerror})"
            raise CorruptPart(problem, remedy=REPAIR) from error
        manifest, self.digest = unpack_manifest(data, path / MANIFEST)
        with as_written(path / MANIFEST, REPAIR):
            _require_types(manifest)
        if manifest["part"] != path.name:
            raise CorruptPart(f"{path} holds part {manifest['part']}", remedy=REPAIR)
        self.fingerprint: str = sys.intern(manifest["fingerprint"])  # the same in every part
        self.upstream: str = manifest["upstream"]
        """Digest of the source's part (or film) that it was made from; "" where there is none."""
        self.meta: dict[str, Any] = manifest["meta"]
        """What the stage noted about the whole part."""
        self.frames = np.asarray(manifest["episodes"]["frames"], np.int64)
        """Frames of each episode, int64[E]."""
        self._data = data
        self._digests = digests

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, parsed anew each time: kept, it would take several times the memory."""
        return json.loads(self._data)

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def shard(self) -> ShardKey:
        return ShardKey(**self.manifest["shard"])

    @cached_property
    def indices(self) -> np.ndarray:
        """Index in the source shard of each episode, int64[E]."""
        return np.asarray(self.manifest["episodes"]["index"], np.int64)

    @cached_property
    def starts(self) -> np.ndarray:
        """First row of each episode, int64[E]."""
        return np.cumsum(self.frames) - self.frames

    @property
    def episodes(self) -> list[PartEpisode]:
        columns = (self.indices.tolist(), self.starts.tolist(), self.frames.tolist())
        return [
            PartEpisode(self.shard.episode(index), row, start, frames)
            for row, (index, start, frames) in enumerate(zip(*columns, strict=True))
        ]

    @property
    def failures(self) -> list[Failure]:
        """Episodes left out, by this stage or one before."""
        return [
            Failure(self.shard.episode(entry["index"]), entry["stage"], entry["reason"])
            for entry in self.manifest["failed"]
        ]

    @property
    def absent(self) -> dict[str, list[int]]:
        """By camera: the indices, ascending, of the episodes that do not have it."""
        return self.meta.get("absent", {})

    def lacks(self, camera: str, index: int) -> bool:
        """Whether the shard's episode `index` is known not to have this camera."""
        indices = self.absent.get(camera, ())
        position = bisect_left(indices, index)
        return position < len(indices) and indices[position] == index

    def require(self, prefix: str) -> None:
        """Digests all files whose path starts with `prefix`, once. Raises `CorruptPart`."""
        self._require(lambda name: name.startswith(prefix))

    def map(self, array: str) -> np.ndarray:
        """A table, as a read-only memory map over bytes that were digested once. Raises
        `CorruptPart` where the part has no such table, or one of another length."""
        self.require(f"{array}/")
        if f"{array}/zarr.json" not in self.manifest["files"]:
            raise CorruptPart(f"{self.path} has no table {array!r}", remedy=REPAIR)
        with as_written(self.path / array, REPAIR):
            table = map_table(self.path, array)
            if len(table) not in (int(self.frames.sum()), len(self.frames)):
                raise ValueError(f"{len(table)} rows")
        return table

    def read(self, array: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows of a stream, from files that were digested once; every chunk's CRC32C is checked.
        Raises `CorruptPart`."""
        self._require(stream_files(array, start, stop))
        return read_rows(self.path, array, start, stop)

    def _require(self, is_needed: Callable[[str], bool]) -> None:
        for name, (size, sha256) in self.manifest["files"].items():
            if is_needed(name):
                self._digests.require(self.path / name, sha256, size)

    def verify(self) -> list[str]:
        """Every file that is damaged, missing, or should not be there; [] for a sound part."""
        problems = []
        for name, (size, sha256) in self.manifest["files"].items():
            path = self.path / name
            if not path.is_file():
                problems.append(f"{path} is missing")
            elif path.stat().st_size != size or file_sha256(path) != sha256:
                problems.append(f"{path} has other bytes than its manifest says")
        expected = {*self.manifest["files"], MANIFEST}
        files = [path for path in self.path.rglob("*") if path.is_file()]
        foreign = [f for f in files if f.relative_to(self.path).as_posix() not in expected]
        return sorted([*problems, *(f"{file} does not belong there" for file in foreign)])
