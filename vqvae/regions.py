"""What the episodes behind stored depth know: their task, and where robot and objects are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool

from depthtok.data import DepthKind
from depthtok.depth import StoredDepth
from depthtok.episodes import EpisodeStore, StoredEpisode
from depthtok.errors import DepthtokError
from depthtok.log import warn
from depthtok.parts import PartName
from vqvae.clips import DepthSequence


class EpisodesBehind:
    """Finds the episode of a stored depth clip; the stores stay open."""

    def __init__(self) -> None:
        self._stores: dict[str, EpisodeStore | None] = {}
        self._parts: dict[tuple[str, str], list[str]] = {}  # by place and source shard

    def episode(self, clip: DepthSequence) -> StoredEpisode | None:
        """The episode of a clip; None where its store is no longer there, or never was."""
        if not isinstance(clip, StoredDepth):
            return None
        place = clip.store.spec.place.get("episodes", "")
        store = self._store(place)
        shard = PartName.parse(clip.part.name).shard
        for name in self._parts.get((place, shard), ()):
            part = store.part(name)
            row = int(np.searchsorted(part.indices, clip.key.index))
            if row < len(part.indices) and part.indices[row] == clip.key.index:
                return StoredEpisode(store, part, row)
        return None

    def masks(
        self, clip: DepthSequence, start: int, stop: int
    ) -> dict[str, Bool[np.ndarray, "T H W"]]:
        """Regions of the frames `start` to `stop` by name, in the depth's own pixels. Empty where
        the data set's schema names no classes of this camera, or its images are no longer there."""
        episode = self.episode(clip)
        if episode is None:
            return {}
        names = episode.store.segmentation_classes.get(clip.camera, {})
        if not names:
            return {}
        try:
            classes = episode.frames(clip.camera).segmentation(start, stop)
        except DepthtokError:
            return {}
        # By nearest pixel, as metres are resized: there are no classes between two classes.
        fitted = clip.store.transform.depth(classes.astype(np.float32), DepthKind.METRES)
        return {name: fitted == number for name, number in names.items()}

    def _store(self, place: str) -> EpisodeStore | None:
        if place not in self._stores:
            try:
                self._stores[place] = EpisodeStore(Path(place)) if place else None
            except DepthtokError as error:
                self._stores[place] = None
                warn(f"no tasks and no figures by region: {error.problem}")
            store = self._stores[place]
            for name in store.part_names if store else ():
                self._parts.setdefault((place, PartName.parse(name).shard), []).append(name)
        return self._stores[place]
