"""Training clips: frames of an EpisodeStore with the ground-truth depth of a DepthStore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.data import Camera, DepthKind, EpisodeKey
from depthtok.errors import ConfigError, DepthKindError, StaleStore
from depthtok.held_out import names_task
from depthtok.required import require
from depthtok.stores.depth import DepthStore, StoredDepth
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.stored_episode import StoredFrames
from pipelines.config import require_distinct
from pipelines.depth.registry import OF_DATA_SET
from vqvae.data.clips import ClipSource
from vqvae.data.sides import split, split_before


@dataclass(frozen=True)
class TrueClip:
    """A clip with frames from one store and depth from another.

    Both show the same view; each has its own size.
    """

    source: StoredFrames
    depth: StoredDepth

    @property
    def key(self) -> EpisodeKey:
        return self.depth.key

    @property
    def camera(self) -> Camera:
        """The camera by its name; the frames may be cropped, so that no size is stated."""
        return Camera(self.depth.camera, None, None)

    @property
    def fps(self) -> float | None:
        return self.source.fps

    @property
    def intrinsics(self) -> Float32[np.ndarray, "3 3"] | None:
        """Of the camera, in pixels of the frames; None where they are not known."""
        return self.source.intrinsics

    @property
    def instruction(self) -> str:
        return self.source.episode.instruction()

    def __len__(self) -> int:
        return len(self.depth)

    def read(self, start: int, stop: int) -> UInt8[np.ndarray, "n H W 3"]:
        unresized = replace(self.depth.store.transform, size=None)
        return unresized.rgb(self.source.read(start, stop))

    def true_depth(self, start: int, stop: int) -> Float32[np.ndarray, "n H W"]:
        """Depth in metres; 0 where unknown."""
        return self.depth.read(start, stop).values


def episodes_of(store: DepthStore, source_root: Path | None = None) -> EpisodeStore:
    """The EpisodeStore that depth was made from. Raises `StaleStore` if it has changed."""
    episodes = EpisodeStore(store.source("episodes"), source_root=source_root)
    if episodes.fingerprint != store.spec.upstream:
        raise StaleStore(
            f"{episodes.path} is no longer the store that {store.path} was made from",
            remedy="annotate it again into another --out",
        )
    return episodes


def doubt_about(store: DepthStore) -> str:
    """What to say of depth in metres that is taken for true: "" for a data set's own."""
    name = store.estimator["name"]
    if store.kind is not DepthKind.METRES or name == OF_DATA_SET.name:
        return ""
    return (
        f"{store.path} is depth that {name} estimated (licence: {store.estimator.get('licence')}): "
        "what is taken for true here has that estimator's errors"
    )


def true_clips(
    store: DepthStore, cameras: Sequence[str] | None = None, source_root: Path | None = None
) -> list[TrueClip]:
    """Every clip of a store of ground-truth depth, with its frames.

    Raises `DepthKindError` for a store of disparity, whose scale is unknown.
    """
    if store.kind is not DepthKind.METRES:
        raise DepthKindError(
            f"{store.path} has {store.kind}, which is an estimate, not ground truth",
            remedy="make it with `depthtok annotate --estimator dataset`",
        )
    require_distinct("camera", cameras or ())
    episodes = episodes_of(store, source_root)
    rows = {episode.key: episode for episode in episodes}
    names = [store.cameras[store.require_camera(name)] for name in cameras or store.cameras]
    return [
        TrueClip(rows[clip.key].frames(clip.camera), clip)
        for part in store.parts()
        for clip in store.clips_of(part, names)
    ]


def held_out(
    stores: Sequence[tuple[DepthStore, list[TrueClip]]],
    share: float,
    tasks: Sequence[str],
    before: int | None = None,
) -> tuple[list[TrueClip], list[TrueClip]]:
    """Training clips and held-out clips; all cameras of an episode are on the same side.

    With `tasks` the held-out episodes are those whose instruction contains one of these texts; else
    a share of all, by the one rule of `depthtok.held_out`. With `before` all is by the rules of
    former versions and this seed. Raises `ConfigError` if one side would be empty.
    """
    require(0 <= share < 1, "held_out", share, "give a share from 0 (none) to below 1")
    learn: list[TrueClip] = []
    validation: list[TrueClip] = []
    if tasks:
        clips = [clip for _, clips in stores for clip in clips]
        marks = [names_task(clip.instruction, tasks) for clip in clips]
        as_written = [any(text in clip.instruction for text in tasks) for clip in clips]
        if before is not None and any(as_written):  # former versions minded capitals
            marks = as_written
        learn = [clip for clip, named in zip(clips, marks, strict=True) if not named]
        validation = [clip for clip, named in zip(clips, marks, strict=True) if named]
    else:
        sources = [
            ClipSource(store.dataset, store.fingerprint, [clip.depth for clip in clips])
            for store, clips in stores
        ]
        sides = split(sources, share) if before is None else split_before(sources, share, before)
        for (_, clips), source in zip(stores, sides.held_out, strict=True):
            keys = {clip.key for clip in source.clips}
            learn += [clip for clip in clips if clip.key not in keys]
            validation += [clip for clip in clips if clip.key in keys]
    if not learn or (tasks and not validation):
        raise ConfigError(
            f"{len(learn)} clips for training, {len(validation)} held out",
            remedy="--held-out-task must match the instructions of some episodes, but not of all",
        )
    return learn, validation
