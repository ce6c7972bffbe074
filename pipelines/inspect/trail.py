"""What is known of the frames of a store: the stores that it was made from, as far as they are
there, and what decodes its codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.data import EpisodeKey
from depthtok.errors import DepthtokError
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.lineage import UPSTREAM, source_of
from depthtok.stores.store import Store
from depthtok.stores.stored_episode import StoredEpisode

Decode = Callable[[UInt8[np.ndarray, "T h w"], tuple[float, float]], Float32[np.ndarray, "T H W"]]


@dataclass(frozen=True)
class Trail:
    """A store, and what it leads to. `original` is the depth that everything was made of: the same
    as `depth`, but for depth that was decoded from codes. `notes` say what is not there."""

    store: Store
    episodes: EpisodeStore | None = None
    depth: DepthStore | None = None
    original: DepthStore | None = None
    codes: CodeStore | None = None
    decode: Decode | None = None
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, store: Store, source_root: Path | None = None) -> Trail:
        """Follows a store to its source."""
        stores: list[Store] = [store]
        notes = []
        while (source := source_of(stores[-1])) is not None:
            stores.append(source)
        if missing := _missing(stores[-1]):
            notes.append(missing)
        episodes = next((s for s in stores if isinstance(s, EpisodeStore)), None)
        if episodes is not None and episodes is not store and source_root is not None:
            episodes = EpisodeStore(episodes.path, source_root=source_root)
        depths = [s for s in stores if isinstance(s, DepthStore)]
        codes = next((s for s in stores if isinstance(s, CodeStore)), None)
        decode = None
        if codes is store:
            try:
                decode = _decoder(codes)
            except DepthtokError as error:
                notes.append(f"Depth is not decoded: {error.problem}.")
        depth, original = (depths[0], depths[-1]) if depths else (None, None)
        return cls(store, episodes, depth, original, codes, decode, notes)

    @property
    def folders(self) -> list[Path]:
        """Of all stores but the first, and of the codebook."""
        stores = (self.episodes, self.depth, self.original, self.codes)
        paths = [s.path for s in stores if s is not None and s is not self.store]
        if self.codes is not None and "codebook" in self.codes.spec.place:
            paths.append(self.codes.source("codebook"))
        return list(dict.fromkeys(paths))

    @property
    def cameras(self) -> list[str]:
        """Those that the store has."""
        store = self.store
        if isinstance(store, EpisodeStore | DepthStore | CodeStore):
            return list(store.cameras)
        return []

    def lengths(self) -> Iterator[tuple[EpisodeKey, int]]:
        """The store's episodes with their lengths, in order."""
        for part in self.store.parts():
            if len(part.frames):
                yield from ((episode.key, episode.frames) for episode in part.episodes)

    def episode(self, key: EpisodeKey) -> StoredEpisode | None:
        """Images, actions and instructions of an episode; None where they are not there, or are of
        another number of frames by now."""
        if self.episodes is None or (location := self.episodes.find(key)) is None:
            return None
        episode, shown = StoredEpisode(self.episodes, *location), self.store.find(key)
        if shown is not None and int(shown[0].frames[shown[1]]) != len(episode):
            return None
        return episode

    def absent(self, key: EpisodeKey, camera: str) -> bool:
        """Whether the episode is known not to have this camera."""
        location = self.store.find(key)
        return location is not None and location[0].lacks(camera, key.index)


def _missing(store: Store) -> str:
    """What the last store of a trail was made from and is not there; "" at the trail's end."""
    key = UPSTREAM.get((store.spec.type, store.spec.stage))
    if key is None:
        return ""
    folder = store.spec.place.get(key)
    lies = (
        f"in {folder} (moved, or made anew)" if folder else "known: it was fetched from elsewhere"
    )
    return f"What this store of {store.spec.type} was made from is not {lies}: it is not shown."


def _decoder(codes: CodeStore) -> Decode:
    """What turns the store's codes into disparity. Raises where its codebook is not there."""
    from vqvae.codec import Codec

    return Codec.load(codes.open_codebook().path).decode_disparity
