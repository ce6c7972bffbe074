"""What differs between the settings that two EpisodeStores were made with, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from depthtok.errors import StaleStore
from depthtok.stores.filling import is_unmade
from depthtok.stores.spec import ROOT, StoreSpec, read_spec

SHOWN = 12  # differences in a message


def require_same_store(
    out: Path, spec: StoreSpec, versions: Sequence[StoreSpec], command: str
) -> None:
    """Raises `StaleStore` with all that differs, where `out` is an EpisodeStore that was converted
    with other settings than `spec`. `versions` describe the same store as each version of the stage
    does; `command` makes it anew."""
    if not (out / ROOT).is_file() or is_unmade(out):
        return
    existing = read_spec(out)
    same_stage = (existing.type, existing.stage) == (spec.type, spec.stage)
    if existing.fingerprint == spec.fingerprint or not same_stage:
        return
    comparable = next((s for s in versions if s.stage_version == existing.stage_version), spec)
    lines = list(differences(existing, comparable))
    lines = lines or ["another version of `depthtok convert` made it"]
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"and {len(lines) - SHOWN} more"]
    raise StaleStore(
        f"{out} was converted differently (there -> now):\n  " + "\n  ".join(lines),
        remedy=f"`{command}` makes it anew (what is there stays until the new store is whole); or "
        "give the same settings again, or another --out",
    )


def differences(existing: StoreSpec, current: StoreSpec) -> Iterator[str]:
    """What differs between the settings of two EpisodeStores, one line each."""
    old, new = dict(existing.what), dict(current.what)
    yield from _changes("", old.pop("schema", {}), new.pop("schema", {}))
    yield from _changes("", old, new)
    names = [f"{spec.about['dataset']} {spec.about['version']}" for spec in (existing, current)]
    if names[0] != names[1]:
        yield f"data set: {names[0]} -> {names[1]}"
    yield from _changes("shards of split ", existing.shards, current.shards)
    if existing.upstream != current.upstream:
        counts = " or the numbers of episodes" if existing.stage_version == 1 else ""
        yield f"the data set's features{counts} are other ones"


def _changes(path: str, old: object, new: object) -> Iterator[str]:
    """`camera wrist: depth_unit: "mm" -> "m"` of every leaf that differs; `path` leads to them."""
    if old == new:
        return
    old, new = _by_name(old), _by_name(new)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}: {key}" if path and not path.endswith(" ") else f"{path}{key}"
            yield from _changes(inner, old.get(key), new.get(key))
    else:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _by_name(value: object) -> object:
    """A list of tables as one table: by their names where they have such, else by number."""
    if isinstance(value, Sequence) and value and all(isinstance(item, Mapping) for item in value):
        return {str(item.get("name", number)): item for number, item in enumerate(value, 1)}
    return value


def _short(value: object) -> str:
    """A value as JSON, cut to 80 characters."""
    if value is None:
        return "nothing"
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
