"""Stores: directories of parts, where presence is completion.

    STORE/zarr.json          a Zarr group; its attribute `depthtok` says what the store is
    STORE/parts/zarr.json    a Zarr group
    STORE/parts/<part>/      see `parts.py`

Any number of processes may fill one store: each writes parts of its own, renamed into place.
"""

from __future__ import annotations

import json
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from depthtok.config import digest, flat
from depthtok.disk.files import (
    REPAIR,
    DigestMemory,
    commit_directory,
    make_directory,
    output_errors,
    remove,
    write_atomic,
    write_new,
)
from depthtok.disk.regular import require_file
from depthtok.disk.tables import tables
from depthtok.disk.temporaries import TEMPORARY, has_temporary, sweep, sweep_all
from depthtok.errors import (
    ConfigError,
    CorruptPart,
    MissingParts,
    OutputError,
    StaleStore,
    StoreError,
    as_type,
)
from depthtok.json_values import JsonObject, as_list, value_of
from depthtok.stores.arrays import ArraySpecs, group_json
from depthtok.stores.parts import Failure, Part, PartName, PartWriter, ShardKey, shard_name

ROOT = "zarr.json"
SEEN = "seen.json"  # what this host knows of the source's files: no part of the store's content
FORMAT = 1
MOST_SHARDS = 1_000_000  # of a split: every one that is missing is named
MAPPED_TABLES = 16_384  # of all stores: well under the 65,530 maps of a process on Linux


@dataclass(frozen=True)
class StoreSpec:
    """What a store is. All of it but `place` is hashed into its fingerprint.

    `what` holds the settings that change its bytes, `about` what follows from them and readers
    need, `upstream` the fingerprint of what it is made from. `place` says where its source lies.
    """

    type: str
    stage: str
    stage_version: int
    what: JsonObject
    about: JsonObject
    upstream: str
    shards: Mapping[str, int]  # how many source shards each split has
    place: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        made_by = [FORMAT, self.type, self.stage, self.stage_version]
        return digest([*made_by, self.what, self.about, self.upstream, self.shards])

    def source(self, what: str) -> Path:
        """The path of what the store was made from. Raises `StoreError` if it is not known."""
        if what not in self.place:
            raise StoreError(
                f"a store of {self.type} does not say where its {what} lies",
                remedy="run the command that made it again, with the same settings",
            )
        return Path(self.place[what])

    def attributes(self) -> dict[str, JsonObject]:
        """What the root group says about the store."""
        content = {"format": FORMAT, **asdict(self), "fingerprint": self.fingerprint}
        return {"depthtok": {**content, "sha256": digest(content)}}


class Store:
    """A store, opened for reading. Subclasses say their `TYPE` and give typed access."""

    TYPE = ""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
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

    @cached_property
    def part_names(self) -> list[str]:
        """The parts that are there, sorted."""
        return present_parts(self.path)

    @cached_property
    def content(self) -> str:
        """Digest of all parts that are there: another one if any of them was made anew."""
        return digest([part.digest for part in self.parts()])

    def part(self, name: str) -> Part:
        """One part; its manifest is checked, its arrays when they are first touched."""
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


def is_store(path: Path) -> bool:
    """Whether `path` is a store, or the parts of one that has lost its root."""
    return (path / ROOT).is_file() or (path / "parts" / ROOT).is_file()


def read_spec(path: Path) -> StoreSpec:
    """What the store at `path` is. Raises `StoreError` where it is none, or is damaged."""
    root = path / ROOT
    require_file(root)
    if is_store(path) and not root.is_file():
        raise CorruptPart(f"{root} is missing", remedy=ROOT_REMEDY)
    if not root.is_file():
        state = "does not exist" if not path.exists() else "is not a depthtok store"
        raise StoreError(
            f"{path} {state}", remedy="name the directory that a depthtok command wrote with --out"
        )
    try:
        text = root.read_text()
        content = dict(json.loads(text)["attributes"]["depthtok"])
        claimed = content.pop("sha256")
        fingerprint, version = content.pop("fingerprint"), content.pop("format")
        spec = StoreSpec(**content)
        _require_types(spec)
        attributes = spec.attributes()
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptPart(f"{root} is damaged or not depthtok's", remedy=ROOT_REMEDY) from error
    if version != FORMAT:
        raise StoreError(
            f"{path} has format {version}, this depthtok reads {FORMAT}",
            remedy="use the version of depthtok that wrote it, or make it again",
        )
    expected = attributes["depthtok"]
    if (claimed, fingerprint) != (expected["sha256"], expected["fingerprint"]) or (
        text != group_json(attributes)
    ):
        raise CorruptPart(f"{root} is damaged", remedy=ROOT_REMEDY)
    return spec


def _require_types(spec: StoreSpec) -> None:
    """Raises `TypeError` for a description that `StoreSpec.attributes` did not make."""
    for text in (spec.type, spec.stage, spec.upstream, *spec.place.values()):
        as_type(str, text)
    for number in (spec.stage_version, *spec.shards.values()):
        as_type(int, number)
    for settings in (spec.what, spec.about):
        as_type(dict, settings)
    if not all(0 <= count <= MOST_SHARDS for count in spec.shards.values()):
        raise ValueError(f"{spec.shards} are no numbers of shards")


def as_size(value: object) -> tuple[int, int]:
    """Height and width. Raises `TypeError` or `ValueError` for what cannot be that."""
    height, width = (as_type(int, side) for side in as_list(value))
    if not (0 < height < 1 << 16 and 0 < width < 1 << 16):
        raise ValueError(f"{value!r} is no height and width")
    return height, width


ROOT_REMEDY = (
    "delete that one file if it is there, and run the command that made the store again, with the "
    "same settings: its parts are kept"
)


def create(path: Path, spec: StoreSpec) -> None:
    """Makes the store's directory, or checks that the one there was made with the same settings."""
    path, text = Path(path), group_json(spec.attributes())
    with output_errors(path):
        is_empty = _names(path) <= {"parts"} and not _names(path / "parts")  # new, or just begun
        if not is_empty and not is_store(path):
            raise OutputError(
                f"{path} is not empty and not a depthtok store", remedy="choose another --out"
            )
        make_directory(path / "parts")
    if not write_new(path / ROOT, text):
        present = read_spec(path)
        if not is_unmade(path):
            require_same(path, present, spec)
        if (present.place, present.fingerprint) != (spec.place, spec.fingerprint):
            write_atomic(path / ROOT, text)
    if not parts_root_is_sound(path):
        write_atomic(path / "parts" / ROOT, group_json({}))


def standing(path: Path, spec: StoreSpec, earlier: Iterable[StoreSpec]) -> StoreSpec:
    """The description to continue with at `path`: one of the `earlier` ones, which former versions
    of the stage gave the same store, if that is what lies there; else `spec`. Parts are kept and
    completed; what the earlier description does not know stays unknown."""
    if (Path(path) / ROOT).is_file():
        present = read_spec(Path(path))
        if present.fingerprint in {former.fingerprint for former in earlier}:
            return replace(present, place=spec.place)
    return spec


def is_unmade(path: Path) -> bool:
    """Whether the store at `path` has no part, nor one that is being written: it may be changed."""
    return not _entries(path / "parts") - {ROOT}


def _names(path: Path) -> set[str]:
    """What lies in a directory, other than temporaries."""
    return {name for name in _entries(path) if not name.startswith(TEMPORARY)}


def _entries(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()} if path.exists() else set()


def parts_root_is_sound(path: Path) -> bool:
    """Whether the Zarr group of the parts is as `create` writes it."""
    root = path / "parts" / ROOT
    return root.is_file() and root.read_bytes() == group_json({}).encode()


def require_same(path: Path, found: StoreSpec, wanted: StoreSpec) -> None:
    """Raises `StaleStore`, saying what differs, unless both describe the same store."""
    if found.fingerprint == wanted.fingerprint:
        return
    remedy = "choose another --out, give the same settings, or delete that directory first"
    if (found.type, found.stage) != (wanted.type, wanted.stage):
        difference = f"it holds {found.type} made by `depthtok {found.stage}`"
        remedy = "choose another --out"  # it may well be this run's own source
    elif found.upstream != wanted.upstream:
        difference = "it was made from other data, or from data converted with other settings"
    else:
        difference = (
            _difference(found.what, wanted.what)
            or _difference(found.about, wanted.about)
            or _difference(found.shards, wanted.shards)
            or "another version of the stage made it"
        )
    raise StaleStore(f"{path} was made differently: {difference}", remedy=remedy)


def _difference(before: JsonObject, now: JsonObject) -> str:
    """`name: 1 there, 2 now; ...` of the settings that differ."""
    before, now = flat(dict(before)), flat(dict(now))
    keys = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
    pairs = (f"{k}: {_short(before.get(k))} there, {_short(now.get(k))} now" for k in keys)
    return "; ".join(pairs)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def write_part(
    path: Path,
    spec: StoreSpec,
    name: PartName,
    shard: ShardKey,
    arrays: ArraySpecs,
    fill: Callable[[PartWriter], None],
    *,
    upstream: str,
    replace: bool = False,
) -> None:
    """Makes one part: `fill` is given the writer; the part appears when it returns."""
    final = Path(path) / "parts" / str(name)
    with commit_directory(final, replace=replace) as directory:
        writer = PartWriter(directory, name, shard, spec.stage, arrays)
        fill(writer)
        writer.close(spec.fingerprint, upstream)


def drop_part(path: Path, name: str) -> None:
    """Removes a part; the next run makes it again."""
    remove(Path(path) / "parts" / name)


def drop_dead(path: Path) -> int:
    """Removes what writers of this host that are dead left behind."""
    return sweep(Path(path) / "parts") + sweep(Path(path))


def being_written(path: Path, names: Iterable[str]) -> bool:
    """Whether somebody writes one of these parts, or has left it unfinished."""
    return any(has_temporary(Path(path) / "parts" / name) for name in names)


def drop_temporaries(path: Path) -> int:
    """Removes what interrupted writers left behind; only when no job writes there."""
    return sweep_all(Path(path) / "parts") + sweep_all(Path(path))
