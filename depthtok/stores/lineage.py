"""Opens stores as their own types, and compares them with the stores that they were made from."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from depthtok.errors import DepthtokError, StoreError
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.origin import inputs_of, is_made_from, recorded_inputs
from depthtok.stores.parts import Part, PartName
from depthtok.stores.spec import StoreSpec, is_store, read_spec
from depthtok.stores.store import Store

TYPES: dict[str, type[Store]] = {
    "episodes": EpisodeStore,
    "depth": DepthStore,
    "codes": CodeStore,
    "recording": Store,  # of `depthtok collect`
}
UPSTREAM = {  # by type and stage: the key of `place` that says what a store was made from
    ("depth", "annotate"): "episodes",
    ("depth", "decode"): "codes",
    ("codes", "tokenize"): "depth",
    ("codes", "annotate"): "episodes",  # fused: depth was never kept
}


BROUGHT = "export"
"""In `what` of codes that a data set brings (`pipelines/own_codes/`): the export that it is."""

EXPORT_OF, ESTIMATED = "export_of", "depth_estimated"
"""In `place` of episodes of an export of depthtok's: the name of the data set that was exported
(also of what is made from them), and what estimated the depth in it, as JSON."""


def exported_from(store: Store) -> dict[str, str]:
    """For `place` of what is made from a store: EXPORT_OF, where that is known; else {}."""
    return {k: v for k, v in store.spec.place.items() if k == EXPORT_OF}


def upstream_of(spec: StoreSpec) -> str | None:
    """The key of `place` that says what a store was made from; None where it is made of none."""
    if BROUGHT in spec.what:
        return "episodes"
    return UPSTREAM.get((spec.type, spec.stage))


def unfinished_source(store: Store) -> Path | None:
    """The store that a store is made from, where that lies here, can be read, and lacks parts;
    else None."""
    key = upstream_of(store.spec)
    if key is None or key not in store.spec.place:
        return None
    path = store.source(key)
    with suppress(DepthtokError):  # `verify` names what cannot be read
        return path if is_store(path) and Store(path).missing() else None
    return None


def open_store(path: Path, source_root: Path | None = None) -> Store:
    """The store at `path`, as its own type. `source_root`: where the data set of an EpisodeStore
    lies now, if it moved. Raises `StoreError` for a type that this version does not know."""
    kind = TYPES.get(read_spec(path).type)
    if kind is None:
        raise StoreError(
            f"{path} is a store of {read_spec(path).type!r}, which this depthtok does not know",
            remedy="use the version of depthtok that wrote it",
        )
    return EpisodeStore(path, source_root=source_root) if kind is EpisodeStore else kind(path)


def source_of(store: Store) -> Store | None:
    """The store that depth or codes were made from; None where it is not there any more, and of a
    store that came from the Hub."""
    key = upstream_of(store.spec)
    if key is None or key not in store.spec.place:
        return None
    if not is_store(path := store.source(key)):
        return None
    try:
        source = open_store(path)
    except DepthtokError:
        return None
    return source if source.fingerprint == store.spec.upstream else None


def outdated(store: Store) -> list[str]:
    """One line for people for each store, of this one and those that it was made from, with parts
    made from other frames, or intrinsics, than their source has now. Raises `CorruptPart`."""
    source = source_of(store)
    if source is None:
        return []
    parts = {part.name: part for part in source.parts()}
    by_shard = {PartName.of(name).shard: part for name, part in parts.items()}
    names = {part: PartName.of(part.name) for part in store.parts()}
    origin = {p: parts.get(p.name) or by_shard.get(name.shard) for p, name in names.items()}
    stale = [
        part
        for part, made_from in origin.items()
        if made_from and is_stale(part, made_from, source)
    ]
    lines = outdated(source)
    if stale:
        lines.append(
            f"{len(stale)} of {len(origin)} parts of {store.path} are of other frames than "
            f"{source.path} has now (first: {stale[0].name}): `depthtok {store.spec.stage}`, as "
            "before, makes them anew"
        )
    return lines


def is_stale(part: Part, made_from: Part, source: Store) -> bool:
    """Whether a part was made from other frames than `made_from` has now, the part of the store
    `source`; or from other intrinsics or absent cameras, where depth is by these. Raises
    `CorruptPart`."""
    if not isinstance(source, EpisodeStore):
        return not is_made_from(part, made_from)
    if part.upstream == made_from.digest:
        return False
    recorded = recorded_inputs(part)
    now = inputs_of(made_from, list(source.cameras), recorded)
    return not now or any(recorded[name] != digest for name, digest in now.items())
