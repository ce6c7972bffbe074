"""Episodes with their codes and depth: which of them an export has, and whether they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from depthtok.data import CodeGrid
from depthtok.errors import ConfigError, SourceError, did_you_mean
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore, StoredDepth
from depthtok.stores.episodes import ALTERNATIVES, EpisodeStore
from depthtok.stores.failures import in_words, left_out
from depthtok.stores.stored_episode import StoredEpisode
from vla.data.member import held_by, of_unknown_origin

ABSENT = -1
"""The code of a camera that an episode does not have."""


@dataclass(frozen=True)
class Joined:
    """What is exported of `cameras`. `numbers` are those of the episodes in their store; `notes`
    say for people what is left out, and what is not known."""

    episodes: EpisodeStore
    codes: CodeStore | None
    depth: DepthStore | None
    cameras: tuple[str, ...]
    numbers: Int64[np.ndarray, " E"]
    notes: tuple[str, ...]

    @property
    def code_cameras(self) -> tuple[str, ...]:
        """The cameras whose codes are exported."""
        return self._chosen(self.codes.cameras if self.codes else ())

    @property
    def depth_cameras(self) -> tuple[str, ...]:
        """The cameras whose depth is exported."""
        return self._chosen(self.depth.cameras if self.depth else ())

    def _chosen(self, cameras: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(camera for camera in cameras if camera in self.cameras)

    def rate(self, stated: float) -> float | None:
        """Frames per second: the episodes' own, else what was stated; None where neither says it.
        Raises `ConfigError` where both do and differ."""
        rate = self.episodes.fps
        if rate and stated and rate != stated:
            raise ConfigError(
                f"{self.episodes.path} says {rate:g} frames per second, not {stated:g}",
                remedy="leave out --set fps",
            )
        return rate or stated or None

    def grid(self, episode: StoredEpisode, camera: str) -> CodeGrid | None:
        """The codes of one camera; None where the episode does not have it."""
        assert self.codes is not None
        return self.codes.find_grid(episode.key, camera)

    def codes_of(self, episode: StoredEpisode, camera: str) -> Int64[np.ndarray, "T cells"]:
        """The codes of one camera, a row a frame; ABSENT where the episode does not have it."""
        assert self.codes is not None
        grid = self.grid(episode, camera)
        if grid is None:
            rows, columns = self.codes.grid
            return np.full((len(episode), rows * columns), ABSENT, np.int64)
        return np.asarray(grid.codes).reshape(len(episode), -1).astype(np.int64)

    def step_texts(self, episode: StoredEpisode) -> list[str]:
        """What to do at every step: of several texts the first."""
        texts, table = self.episodes.instructions(episode.part), self.episodes.table
        numbers = table(episode.part, "instruction")[episode.start :][: len(episode)]
        return [texts[number] for number in numbers.tolist()]

    def clip(self, episode: StoredEpisode, camera: str) -> StoredDepth:
        """The depth of one camera; of one that the episode does not have, no pixel is valid. Raises
        `SourceError` where the store does not have the episode."""
        assert self.depth is not None
        clip = self.depth.find_clip(episode.key, camera)
        if clip is None:
            raise SourceError(f"{self.depth.path} has no depth of episode {episode.key}")
        return clip


def join(
    episodes: EpisodeStore,
    codes: CodeStore | None,
    depth: DepthStore | None,
    cameras: Sequence[str] = (),
    *,
    partial: bool = False,
) -> Joined:
    """Joins stores of the same frames, for these cameras or all. Episodes without codes, or without
    depth, are left out.

    Raises `MissingParts` for a store that is not complete, unless `partial`; `StaleStore` for
    stores of other frames; `ConfigError` for cameras that the episodes do not have, and where no
    episode is left.
    """
    episodes.require_complete(partial=partial)
    cameras = tuple(episodes.camera(name).name for name in cameras) or tuple(episodes.cameras)
    numbers, notes = np.arange(len(episodes)), []
    if failures := in_words(left_out(episodes)):
        notes.append(f"{episodes.path}: {failures}")
    for store, what in ((codes, "codes"), (depth, "depth maps")):
        if store is None:
            continue
        store.require_complete(partial=partial)
        held = held_by(store, episodes, what)
        for camera in set(store.cameras) - set(episodes.cameras):
            raise ConfigError(
                f"{store.path} has {what} of camera {camera!r}, the episodes do not have it",
                remedy=did_you_mean(camera, list(episodes.cameras)),
            )
        if lost := int((~held[numbers]).sum()):
            notes.append(f"{lost} episodes without {what} are left out")
        numbers = numbers[held[numbers]]
        if unknown := of_unknown_origin(store, episodes):
            notes.append(
                f"{unknown} parts of {store.path} do not record of which frames they were made: "
                "that they are those of the episodes is not known"
            )
    if not len(numbers):
        raise ConfigError(
            f"no episode of {episodes.path} has all that is to be exported",
            remedy="give codes and depth that were made from these episodes",
        )
    if codes and depth and depth.fingerprint not in (codes.spec.upstream, ""):
        notes.append(f"the codes were not made from the depth in {depth.path}: both are exported")
    if any(ALTERNATIVES in part.manifest["files"] for part in episodes.parts()):
        notes.append("of steps with several instructions the first is exported")
    if kinds := sorted({view.kind for view in episodes.views} - {"rgb", "depth"}):
        notes.append(f"{', '.join(kinds)} of the data set is not exported")
    with_depth = depth.cameras if depth else ()
    measured = {view.camera for view in episodes.views if view.kind == "depth"}
    if lost_depth := [name for name in cameras if name in measured and name not in with_depth]:
        notes.append(
            f"the data set's own depth of {', '.join(lost_depth)} is not exported: give --depth a "
            "store that `depthtok annotate --estimator dataset` made of it"
        )
    return Joined(episodes, codes, depth, cameras, numbers, tuple(notes))
