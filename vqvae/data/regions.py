"""Information from the source episodes of stored depth: the task, and robot and object regions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from depthtok.data import DepthKind
from depthtok.errors import DepthtokError
from depthtok.log import warn
from depthtok.stores.depth import DepthStore, StoredDepth
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.parts import PartName
from depthtok.stores.stored_episode import StoredEpisode
from vqvae.data.clips import DepthSequence


class EpisodesBehind:
    """Finds the source episode of a stored depth clip; keeps the stores open."""

    def __init__(self, moved: Sequence[Path] = (), source_root: Path | None = None) -> None:
        """`moved`: EpisodeStores that have moved since the depth was made from them; `source_root`:
        where the data set that they index is now."""
        self._source_root = source_root
        self._warned = False
        self._stores: dict[str, EpisodeStore | None] = {}  # by fingerprint
        self._parts: dict[tuple[str, str], list[str]] = {}  # by fingerprint and source shard
        for path in moved:
            self._add(EpisodeStore(path, source_root=source_root))

    def episode(self, clip: DepthSequence) -> StoredEpisode | None:
        """The episode of a clip; None if its store is gone, or there never was one."""
        if not isinstance(clip, StoredDepth):
            return None
        store = self._behind(clip.store)
        if store is None:
            return None
        shard = PartName.of(clip.part.name).shard
        for name in self._parts.get((clip.store.spec.upstream, shard), ()):
            part = store.part(name)
            row = int(np.searchsorted(part.indices, clip.key.index))
            if row < len(part.indices) and part.indices[row] == clip.key.index:
                return StoredEpisode(store, part, row)
        return None

    def masks(
        self, clip: DepthSequence, start: int, stop: int
    ) -> dict[str, Bool[np.ndarray, "T H W"]]:
        """Regions of the frames `start` to `stop` by name, at the depth's resolution. Empty if the
        data set's schema names no classes of this camera, or its images are gone."""
        episode = self.episode(clip)
        if not isinstance(clip, StoredDepth) or episode is None:
            return {}
        names = episode.store.segmentation_classes.get(clip.camera, {})
        if not names:
            return {}
        try:
            classes = episode.frames(clip.camera).segmentation(start, stop)
        except DepthtokError as error:
            self._warn_once(error)
            return {}
        # Nearest neighbour, as for metres: class ids must not be interpolated.
        fitted = clip.store.transform.depth(classes.astype(np.float32), DepthKind.METRES)
        return {name: fitted == number for name, number in names.items()}

    def _warn_once(self, error: DepthtokError) -> None:
        if not self._warned:
            warn(f"no figures by region: {error.problem}; {error.remedy}")
        self._warned = True

    def _behind(self, depth: DepthStore) -> EpisodeStore | None:
        upstream = depth.spec.upstream
        path = depth.source("episodes") if "episodes" in depth.spec.place else None
        if upstream not in self._stores:
            self._stores[upstream] = None
            try:
                if path:
                    self._add(EpisodeStore(path, source_root=self._source_root))
            except DepthtokError as error:
                without = f"no tasks and no figures by region: {error.problem}"
                warn(f"{without}; give the EpisodeStore's new place with --episodes DIR")
            else:
                if path and self._stores[upstream] is None:
                    without = f"no tasks and no figures by region: {path}"
                    warn(f"{without} is no longer the store that {depth.path} was made from")
        return self._stores[upstream]

    def _add(self, store: EpisodeStore) -> None:
        self._stores[store.fingerprint] = store
        for name in store.part_names:
            shard = PartName.of(name).shard
            self._parts.setdefault((store.fingerprint, shard), []).append(name)
