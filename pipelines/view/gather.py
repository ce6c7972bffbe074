"""The stores that are shown together: those that are given, and what they were made from.

A store belongs to the others where they share an ancestor, by the fingerprints that stores record
of what they were made from, or where its parts say that they are of the same frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeVar

from depthtok.disk.files import slug
from depthtok.errors import ConfigError, DepthtokError
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.lineage import open_store, source_of
from depthtok.stores.origin import same_frames
from depthtok.stores.parts import PartName
from depthtok.stores.store import Store

Kind = TypeVar("Kind", DepthStore, CodeStore)
ESTIMATED, TRUE, DECODED, CODES = "estimated_depth", "true_depth", "decoded_depth", "codes"


@dataclass(frozen=True)
class Shown:
    """Stores of the same episodes, by the names that their pictures have. `decoding` holds the
    codebook of each code store whose codes are to be decoded; `notes` what cannot be shown."""

    episodes: EpisodeStore | None
    depth: Mapping[str, DepthStore]
    codes: Mapping[str, CodeStore]
    decoding: Mapping[str, Codebook] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def results(self) -> list[DepthStore | CodeStore]:
        """All but the episodes."""
        return [*self.depth.values(), *self.codes.values()]

    @property
    def stores(self) -> list[Store]:
        """All of them, the episodes first."""
        first: list[Store] = [self.episodes] if self.episodes else []
        return [*first, *self.depth.values(), *self.codes.values()]

    @property
    def pictures(self) -> list[str]:
        """The names of the depth and codes of a camera, in the order in which they are shown."""
        return [
            *self.depth,
            *([TRUE] if self.shows_own_depth else []),
            *self.codes,
            *map(decoded_name, self.decoding),
        ]

    @property
    def shows_own_depth(self) -> bool:
        """Whether depth of the data set's own is shown, of a known unit: where no store holds
        it."""
        if any(_role(store) == TRUE for store in self.depth.values()):
            return False
        views = self.episodes.views if self.episodes else []
        return any(view.kind == "depth" and view.scale_m is not None for view in views)

    @property
    def dataset(self) -> str:
        return self.stores[0].dataset

    @property
    def fps(self) -> float | None:
        """Frames a second; None where the data set does not say."""
        fps = self.stores[0].about.get("fps")
        return float(fps) if isinstance(fps, int | float) else None

    @property
    def cameras(self) -> list[str]:
        """The cameras of all of them."""
        names = [*self.episodes.cameras] if self.episodes else []
        for store in self.results:
            names += [name for name in store.cameras if name not in names]
        return names


def decoded_name(codes: str) -> str:
    """The name of the depth that is decoded from the codes of this name."""
    return f"{DECODED}{codes.removeprefix(CODES)}"


def gather(
    paths: Sequence[Path], *, codebook: Path | None = None, source_root: Path | None = None
) -> Shown:
    """The stores at `paths` and those that they were made from, as far as these are there.

    Raises `ConfigError` for stores that are not of the same episodes, or none that can be shown.
    """
    stores = _with_sources([open_store(path, source_root) for path in paths], source_root)
    for store in stores:
        if not isinstance(store, EpisodeStore | DepthStore | CodeStore):
            raise ConfigError(
                f"{store.path} holds a {store.spec.type}, not episodes, depth or codes",
                remedy="`depthtok convert` it, and show what comes out",
            )
    episodes = [store for store in stores if isinstance(store, EpisodeStore)]
    anchor = episodes[0] if episodes else stores[0]
    for store in stores:
        require_related(store, anchor, stores)
    depth = _named((_role(s), s) for s in stores if isinstance(s, DepthStore))
    codes = _named((CODES, s) for s in stores if isinstance(s, CodeStore))
    decoding, notes = _to_decode(codes, depth, codebook)
    if not episodes:
        notes.append(f"the episodes of {anchor.path} are not at hand: name their EpisodeStore too")
    return Shown(episodes[0] if episodes else None, depth, codes, decoding, tuple(notes))


def _with_sources(given: list[Store], source_root: Path | None) -> list[Store]:
    """These stores without repetitions, then what each was made from."""
    stores: list[Store] = []
    waiting = list(given)
    while waiting:
        store = waiting.pop(0)
        if any(same.fingerprint == store.fingerprint for same in stores):
            continue
        stores.append(store)
        if not any(other.fingerprint == store.spec.upstream for other in (*stores, *waiting)):
            source = source_of(store)
            if source is not None:
                waiting.append(open_store(source.path, source_root))
    return stores


def _ancestors(store: Store, stores: Iterable[Store]) -> set[str]:
    """The fingerprints of a store and of all that it was made from, as far as is known."""
    by_fingerprint = {other.fingerprint: other for other in stores}
    fingerprints: set[str] = set()
    current: Store | None = store
    while current is not None:
        fingerprints |= {current.fingerprint, current.spec.upstream}
        current = by_fingerprint.get(current.spec.upstream)
    return fingerprints


def require_related(store: Store, anchor: Store, stores: Sequence[Store]) -> None:
    """Raises `ConfigError` unless two stores are of the same episodes."""
    if isinstance(store, EpisodeStore) or isinstance(anchor, EpisodeStore):
        related = anchor.fingerprint in _ancestors(store, stores)
    else:
        related = bool(_ancestors(store, stores) & _ancestors(anchor, stores))
    if not related and not all_same_frames(store, anchor):
        raise ConfigError(
            f"{store.path} and {anchor.path} are not of the same episodes, as far as they say",
            remedy="show one of them at a time, or name the store that it was made from",
        )


def all_same_frames(store: Store, other: Store) -> bool:
    """Whether two stores have parts of the same shards, and all of these say that their frames are
    the same."""
    by_shard = {PartName.of(part.name).shard: part for part in other.parts()}
    pairs = [(part, by_shard.get(PartName.of(part.name).shard)) for part in store.parts()]
    common = [(one, two) for one, two in pairs if two is not None]
    return bool(common) and all(same_frames(one.meta, two.meta) for one, two in common)


def _role(store: DepthStore) -> str:
    """What the depth is, as the name of its pictures."""
    if store.spec.stage == "decode":
        return DECODED
    return TRUE if store.estimator["name"] == "dataset" else ESTIMATED


def _named(pairs: Iterable[tuple[str, Kind]]) -> dict[str, Kind]:
    """Stores by the name of their pictures: several of one role have their directory's name in it,
    and a number where that is the same, too."""
    listed = list(pairs)
    roles = Counter(role for role, _ in listed)
    named: dict[str, Kind] = {}
    for role, store in listed:
        plain = role if roles[role] == 1 else f"{role}-{slug(store.path.resolve().name)}"
        numbered = (f"{plain}-{number}" for number in count(2))
        name = plain
        while name in named:
            name = next(numbered)
        named[name] = store
    return named


def _to_decode(
    codes: Mapping[str, CodeStore], depth: Mapping[str, DepthStore], moved: Path | None
) -> tuple[dict[str, Codebook], list[str]]:
    """The codebooks of the codes that no store has decoded, and why others cannot be."""
    decoded = {store.spec.upstream for store in depth.values()}
    books, notes = {}, []
    for name, store in codes.items():
        if store.fingerprint in decoded:
            continue
        try:
            book = store.open_codebook(moved)
        except DepthtokError as error:
            if moved is not None:
                raise
            notes.append(f"{name} are not decoded: {error.problem} ({error.remedy})")
            continue
        if book.normalisation.name == "per_frame":
            notes.append(f"{name} are not decoded: the ranges of per_frame codes are not stored")
        else:
            books[name] = book
    return books, notes
