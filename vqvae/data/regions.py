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
from depthtok.stores.origin import is_made_from
from depthtok.stores.stored_episode import StoredEpisode
from vqvae.data.clips import DepthSequence


class EpisodesBehind:
    """Finds the source episode of a stored depth clip; keeps the stores open."""

    def __init__(self, moved: Sequence[Path] = (), source_root: Path | None = None) -> None:
        """`moved`: EpisodeStores that have moved since the depth was made from them; `source_root`:
        where the data set that they index is now."""
        self._source_root = source_root
        self._warned = False
        self._moved = [EpisodeStore(path, source_root=source_root) for path in moved]
        self._recorded: dict[Path, EpisodeStore | None] = {}  # by the path of the DepthStore

    def episode(self, clip: DepthSequence) -> StoredEpisode | None:
        """The episode of a clip; None if its store is gone, or has other frames now, or there never
        was one. Keys and fingerprints do not tell recordings of one name apart: parts do."""
        if not isinstance(clip, StoredDepth):
            return None
        for store in (*self._moved, self._behind(clip.store)):
            row = store.find(clip.key) if store else None
            if store and row and is_made_from(clip.part, row[0]):
                return StoredEpisode(store, *row)
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
        """The store that depth was made from, where that still lies in its place."""
        if depth.path not in self._recorded:
            self._recorded[depth.path] = self._opened(depth)
        return self._recorded[depth.path]

    def _opened(self, depth: DepthStore) -> EpisodeStore | None:
        if "episodes" not in depth.spec.place:
            return None
        path = depth.source("episodes")
        try:
            store = EpisodeStore(path, source_root=self._source_root)
        except DepthtokError as error:
            without = f"no tasks and no figures by region: {error.problem}"
            warn(f"{without}; give the EpisodeStore's new place with --episodes DIR")
            return None
        if store.fingerprint != depth.spec.upstream:
            without = f"no tasks and no figures by region: {path}"
            warn(f"{without} is no longer the store that {depth.path} was made from")
            return None
        return store
