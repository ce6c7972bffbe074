"""Stores: directories of parts, where presence is completion.

    STORE/zarr.json          a Zarr group; its attribute `depthtok` says what the store is
    STORE/parts/zarr.json    a Zarr group
    STORE/parts/<part>/      see `parts.py`

`spec.py` has the description at the root, `filling.py` makes the directory and its parts.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from depthtok.config import digest
from depthtok.data import EpisodeKey
from depthtok.disk.digests import REPAIR, DigestMemory
from depthtok.disk.tables import tables
from depthtok.errors import CorruptPart, DepthtokError, MissingParts, StaleStore, StoreError
from depthtok.json_values import JsonObject, value_of
from depthtok.remote.location import Location, located
from depthtok.stores.origin import is_made_from
from depthtok.stores.parts import Failure, Part, PartName, ShardKey, shard_name
from depthtok.stores.spec import is_store, read_spec

MAPPED_TABLES = 16_384  # of all stores: well under the 65,530 maps of a process on Linux


class Store:
    """A store, opened for reading. Subclasses say their `TYPE` and give typed access. Raises
    `StoreError` for a store of another type."""

    TYPE = ""

    def __init__(self, path: str | Path) -> None:
        self.path, self.origin = _here(located(path))
        self.spec = read_spec(self.path)
        if self.TYPE and self.spec.type != self.TYPE:
            raise StoreError(
                f"{path} is a store of {self.spec.type}, not of {self.TYPE}",
                remedy=f"`depthtok inspect {path}` shows what it holds",
            )
        self._digests = DigestMemory()
        self._parts: dict[str, Part] = {}
        weakref.finalize(self, _drop_tables, self._parts)

    def __getstate__(self) -> dict[str, Any]:  # maps and open files stay with their process
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state)

    @property
    def fingerprint(self) -> str:
        return self.spec.fingerprint

    @property
    def about(self) -> JsonObject:
        return self.spec.about

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return value_of(self.about, "dataset", str)

    def source(self, what: str) -> Path:
        """The path of what the store was made from: as it was recorded, or beside this store by the
        same name, where both have moved; the one that holds it still, by its fingerprint, and by a
        part where both do. What is in neither place is said to be where it was. Raises `StoreError`
        if that is not known."""
        recorded = self.spec.source(what)
        sources = []
        for path in dict.fromkeys((recorded, self.path.absolute().parent / recorded.name)):
            with suppress(DepthtokError):  # a damaged one is not known to be it
                if self.is_source(path, what):
                    sources.append(path)
        if len(sources) > 1:  # of one data set, but perhaps of other episodes
            sources.sort(key=lambda path: not self._has_a_part_of(path))
        return sources[0] if sources else recorded

    def _has_a_part_of(self, path: Path) -> bool:
        """Whether the first part here was made from one of the store at `path`."""
        for first in self.part_names[:1]:
            shard = PartName.of(first).shard
            with suppress(DepthtokError):
                source = Store(path)
                pieces = (name for name in source.part_names if PartName.of(name).shard == shard)
                return any(is_made_from(self.part(first), source.part(name)) for name in pieces)
        return False

    def is_source(self, path: Path, what: str) -> bool:
        """Whether a path holds what the store was made from, directly. Raises `StoreError` for a
        damaged one."""
        return is_store(path) and read_spec(path).fingerprint == self.spec.upstream

    @cached_property
    def part_names(self) -> list[str]:
        """The parts that are there, sorted."""
        return present_parts(self.path)

    @cached_property
    def content(self) -> str:
        """Digest of all parts that are there: another one if any of them was made anew."""
        return digest([part.digest for part in self.parts()])

    def part(self, name: str) -> Part:
        """One part; its manifest is checked, its arrays when they are first touched. Raises
        `StaleStore` where another store has replaced this one, `CorruptPart` for a part of
        another."""
        if name not in self._parts:
            part = Part(self.path / "parts" / name, self._digests)
            if part.fingerprint != self.fingerprint:
                if read_spec(self.path).fingerprint != self.fingerprint:
                    raise StaleStore(
                        f"{self.path} was replaced by one made with other settings while it was "
                        "open",
                        remedy="start the command again",
                    )
                raise CorruptPart(f"{part.path} is of another store", remedy=REPAIR)
            self._parts[name] = part
        return self._parts[name]

    def parts(self) -> Iterable[Part]:
        """All parts, in order."""
        return (self.part(name) for name in self.part_names)

    def table(self, part: Part, name: str) -> np.ndarray:
        """A table of a part; the most recent ones stay mapped."""
        return tables(MAPPED_TABLES).get(part, name)

    @cached_property
    def _shards(self) -> dict[ShardKey, list[Part]]:
        """The parts of every source shard."""
        by_shard: dict[ShardKey, list[Part]] = {}
        for part in self.parts():
            by_shard.setdefault(part.shard, []).append(part)
        return by_shard

    def find(self, key: EpisodeKey) -> tuple[Part, int] | None:
        """The part that has an episode, and its row there; None where it is not in the store."""
        for part in self._shards.get(ShardKey.of(key), ()):
            row = int(np.searchsorted(part.indices, key.index))  # parts keep the shard's order
            if row < len(part.indices) and part.indices[row] == key.index:
                return part, row
        return None

    def missing(self) -> list[str]:
        """Source shards, or pieces of them, that have no part; [] for a complete store."""
        return missing_parts(self.spec.shards, self.part_names)

    def failures(self) -> list[Failure]:
        """Episodes that were left out, with stage and reason."""
        return [failure for part in self.parts() for failure in part.failures]

    @property
    def knows_absent(self) -> bool:
        """Whether its stage looked for absent cameras, which former versions did not."""
        return self.spec.stage_version >= 2

    def absent_counts(self) -> dict[str, int]:
        """By camera: how many episodes are known not to have it."""
        counts: Counter[str] = Counter()
        for part in self.parts():
            counts.update({camera: len(indices) for camera, indices in part.absent.items()})
        return dict(counts)

    def require_complete(self, *, partial: bool = False) -> None:
        """Raises `MissingParts` where parts are missing, unless `partial` accepts that."""
        missing = self.missing()
        if missing and not partial:
            raise MissingParts(
                f"{self.path} lacks {len(missing)} of its parts (first: {missing[0]})",
                remedy=f"finish it (run `depthtok {self.spec.stage}` again), or use what is there "
                "with --partial",
            )

    def files_bytes(self) -> int:
        """Bytes of all parts, as their manifests say."""
        return sum(size for part in self.parts() for size, _ in part.manifest["files"].values())


def _here(path: Path) -> tuple[Path, str]:
    """The path itself, or where a copy lies of the store at a URL; and how it is recorded."""
    if not isinstance(path, Location):
        return path, str(path)
    from depthtok.copies.local import local_copy

    return local_copy(path), path.pinned


def _drop_tables(parts: dict[str, Part]) -> None:
    tables(MAPPED_TABLES).drop(parts.values())


def missing_parts(shards: Mapping[str, int], names: Iterable[str]) -> list[str]:
    """What is not there of the expected shards and their pieces."""
    present: dict[str, set[int]] = {}
    pieces: dict[str, int] = {}
    for name in map(PartName.of, names):
        present.setdefault(name.shard, set()).add(name.piece)
        pieces[name.shard] = name.pieces
    expected = (shard_name(split, k, n) for split, n in sorted(shards.items()) for k in range(n))
    return [
        str(PartName(shard, piece, pieces[shard])) if shard in pieces else shard
        for shard in expected
        for piece in range(pieces.get(shard, 1))
        if piece not in present.get(shard, ())
    ]


def present_parts(path: Path) -> list[str]:
    """The names of the parts in a store's directory, sorted."""
    folder = path / "parts"
    names = (entry.name for entry in folder.iterdir()) if folder.is_dir() else ()
    return sorted(name for name in names if PartName.parse(name))
