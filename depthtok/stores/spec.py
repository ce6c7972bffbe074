"""What a store is: the description at its root, as it is written, read, and compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from depthtok.config import digest, flat
from depthtok.disk.regular import require_file
from depthtok.errors import ConfigError, CorruptPart, StaleStore, StoreError, as_type
from depthtok.json_values import JsonObject, as_list
from depthtok.remote.location import is_remote
from depthtok.stores.arrays import group_json

ROOT = "zarr.json"
COPY = "store.json"  # of a store elsewhere: see `depthtok/copies/contents.py`
SEEN = "seen.json"  # what this host knows of the source's files: no part of the store's content
SPEED = "speed.json"  # how fast the last run was, on its machine: no part of it, either
FORMAT = 1
DIMENSIONS = "dimension_names"  # in `about`
MOST_SHARDS = 1_000_000  # of a split: every one that is missing is named
ROOT_REMEDY = (
    "delete that one file if it is there, and run the command that made the store again, with the "
    "same settings: its parts are kept"
)


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


def with_dimensions(spec: StoreSpec) -> StoreSpec:
    """The same store, whose arrays name their dimensions: other bytes, so another fingerprint."""
    return replace(spec, about={**spec.about, DIMENSIONS: True})


def without_dimensions(spec: StoreSpec) -> StoreSpec:
    """The same store as versions described it whose arrays had no names of dimensions."""
    return replace(spec, about={k: v for k, v in spec.about.items() if k != DIMENSIONS})


def names_dimensions(spec: StoreSpec) -> bool:
    """Whether the arrays of a store name their dimensions: those of earlier versions do not."""
    return spec.about.get(DIMENSIONS) is True


def is_store(path: Path) -> bool:
    """Whether `path` is a store, or the parts of one that has lost its root."""
    if is_remote(path):
        return (path / COPY).is_file()
    return (path / ROOT).is_file() or (path / "parts" / ROOT).is_file()


def read_spec(path: Path) -> StoreSpec:
    """What the store at `path` is. Raises `StoreError` where it is none, or is damaged."""
    if is_remote(path):
        from depthtok.copies.local import spec_at

        return spec_at(path)
    root = path / ROOT
    require_file(root)
    if is_store(path) and not root.is_file():
        raise CorruptPart(f"{root} is missing", remedy=ROOT_REMEDY)
    if not root.is_file():
        state = "does not exist" if not path.exists() else "is not a depthtok store"
        raise StoreError(
            f"{path} {state}", remedy="name the directory that a depthtok command wrote with --out"
        )
    return parse_spec(root.read_text(errors="replace"), root)


def parse_spec(text: str, root: Path) -> StoreSpec:
    """What the store is whose root has this text; `root` is its path, for messages. Raises
    `StoreError` and `CorruptPart`."""
    try:
        content = dict(json.loads(text)["attributes"]["depthtok"])
        claimed = content.pop("sha256")
        fingerprint = content.pop("fingerprint")
        _require_format(root.parent, content.pop("format"))
        spec = StoreSpec(**content)
        _require_types(spec)
        attributes = spec.attributes()
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptPart(f"{root} is damaged or not depthtok's", remedy=ROOT_REMEDY) from error
    expected = attributes["depthtok"]
    if (claimed, fingerprint) != (expected["sha256"], expected["fingerprint"]) or (
        text != group_json(attributes)
    ):
        raise CorruptPart(f"{root} is damaged", remedy=ROOT_REMEDY)
    return spec


def _require_format(path: Path, version: object) -> None:
    """Raises `StoreError` for another format, of which no more is understood."""
    if version != FORMAT:
        raise StoreError(
            f"{path} has format {version}, this depthtok reads {FORMAT}",
            remedy="use the version of depthtok that wrote it, or make it again",
        )


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


def require_same(path: Path, existing: StoreSpec, current: StoreSpec) -> None:
    """Raises `StaleStore`, saying what differs, unless both describe the same store."""
    if existing.fingerprint == current.fingerprint:
        return
    remedy = "choose another --out, give the same settings, or delete that directory first"
    if (existing.type, existing.stage) != (current.type, current.stage):
        difference = f"it holds {existing.type} made by `depthtok {existing.stage}`"
        remedy = "choose another --out"  # it may well be this run's own source
    elif existing.upstream != current.upstream:
        difference = "it was made from other data, or from data converted with other settings"
    else:
        difference = (
            _difference(existing.what, current.what)
            or _difference(existing.about, current.about)
            or _difference(existing.shards, current.shards)
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
