"""What is shown of one episode: for every camera its pictures, frame by frame, and its columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from depthtok.data import QUANTILES, DepthKind, EpisodeKey
from depthtok.errors import SourceError
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthEncoding, DepthStore, StoredDepth
from depthtok.stores.parts import ShardKey
from depthtok.stores.stored_episode import StoredEpisode
from pipelines.view.gather import TRUE, Shown, decoded_name
from vqvae.codec import Codec

BLOCK = 32  # frames in memory at a time
LOW, HIGH = QUANTILES.index(0.01), QUANTILES.index(0.99)  # of a clip: what the colours span


@dataclass(frozen=True)
class DepthFrames:
    """Depth of one camera: images in the stored numbers, 0 where nothing was measured, and how many
    of these numbers make a metre; None for disparity and relative depth, which have no unit.
    `span` is what the colours are to span; None where no pixel is valid."""

    name: str
    images: Iterator[Shaped[np.ndarray, "H W"]]
    meter: float | None
    span: tuple[float, float] | None


@dataclass(frozen=True)
class CodeFrames:
    """Codes of one camera."""

    name: str
    grids: Iterator[UInt8[np.ndarray, "h w"]]


@dataclass(frozen=True)
class ColourFrames:
    """The camera's images: as the files that they are, or decoded."""

    files: Iterator[bytes] | None
    images: Iterator[UInt8[np.ndarray, "H W 3"]]


@dataclass(frozen=True)
class ShownEpisode:
    """One episode of stores that are shown together. `missing` says what is not there of it."""

    shown: Shown
    key: EpisodeKey
    frames: int
    stored: StoredEpisode | None
    codecs: dict[str, Codec]

    def colours(self, camera: str) -> ColourFrames | None:
        """The RGB of a camera; None where there is none."""
        store, stored = self.shown.episodes, self.stored
        if store is None or stored is None or camera not in store.cameras or stored.absent(camera):
            return None
        rows = stored.start, stored.start + self.frames
        view = store.view_index(camera, "rgb")
        files = store.encoded_frames(stored.part, view, *rows)
        return ColourFrames(files, store.read_frames(stored.part, view, *rows))

    def depths(self, camera: str) -> Iterator[DepthFrames]:
        """The depth of a camera, of every store that has it."""
        for name, store in self.shown.depth.items():
            clip = _clip(store, self.key, camera)
            if clip is not None:
                _require_frames(store, self.key, clip.frames, self.frames)
                yield _stored(name, clip)
        if self.shown.shows_own_depth and self._has_own_depth(camera):
            yield self._true_depth(camera)
        for name, codec in self.codecs.items():
            codes = self.shown.codes[name]
            if self._has_codes(codes, camera):
                yield self._decoded(decoded_name(name), codes, camera, codec)

    def codes(self, camera: str) -> Iterator[CodeFrames]:
        """The codes of a camera, of every store that has them."""
        for name, store in self.shown.codes.items():
            if self._has_codes(store, camera):
                grid = store.grid_of(self.key, camera).codes
                _require_frames(store, self.key, len(grid), self.frames)
                yield CodeFrames(name, iter(grid))

    def missing(self) -> list[str]:
        """Stores that do not have this episode, for people."""
        lacking = [store for store in self.shown.results if self._lacks(store)]
        return [f"{store.path} does not have {self.key}" for store in lacking]

    def _lacks(self, store: DepthStore | CodeStore) -> bool:
        if isinstance(store, CodeStore):
            return self.key not in store
        return all(_clip(store, self.key, camera) is None for camera in store.cameras)

    def _has_codes(self, store: CodeStore, camera: str) -> bool:
        has_camera = camera in store.cameras and self.key in store
        return has_camera and not store.absent(self.key, camera)

    def _has_own_depth(self, camera: str) -> bool:
        """Whether the data set itself has depth of a known unit."""
        store, stored = self.shown.episodes, self.stored
        if store is None or stored is None or stored.absent(camera):
            return False
        views = [view for view in store.views if (view.camera, view.kind) == (camera, "depth")]
        return any(view.scale_m is not None for view in views)

    def _true_depth(self, camera: str) -> DepthFrames:
        assert self.stored is not None
        clip = self.stored.frames(camera)

        def images() -> Iterator[Float32[np.ndarray, "H W"]]:
            for start in range(0, self.frames, BLOCK):
                depth = clip.true_depth(start, min(start + BLOCK, self.frames))
                yield from np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))

        return DepthFrames(TRUE, images(), 1.0, None)

    def _decoded(self, name: str, store: CodeStore, camera: str, codec: Codec) -> DepthFrames:
        """As `depthtok decode` would store it."""
        grid = store.grid_of(self.key, camera)

        def images() -> Iterator[Shaped[np.ndarray, "H W"]]:
            for start in range(0, len(grid.codes), BLOCK):
                values = codec.decode_disparity(grid.codes[start : start + BLOCK], grid.range)
                yield from np.maximum(values, 0).astype(np.float16)

        return DepthFrames(name, images(), None, grid.range)


def _clip(store: DepthStore, key: EpisodeKey, camera: str) -> StoredDepth | None:
    """The depth of an episode's camera; None where the store has none."""
    if camera not in store.cameras:
        return None
    for part in store.parts():
        if part.shard == ShardKey.of(key) and key.index in part.indices:
            return next((c for c in store.clips_of(part, [camera]) if c.key == key), None)
    return None


def _stored(name: str, clip: StoredDepth) -> DepthFrames:
    """Depth as it is stored, but for 0 where nothing is known."""
    store = clip.store
    meter = None
    if store.kind is DepthKind.METRES:
        meter = 1000.0 if store.encoding is DepthEncoding.UINT16_MM else 1.0
    low, high = (clip.quantiles[index] * (meter or 1) for index in (LOW, HIGH))

    def images() -> Iterator[Shaped[np.ndarray, "H W"]]:
        for start in range(0, clip.frames, BLOCK):
            rows = clip.stored(start, min(start + BLOCK, clip.frames))
            yield from np.where(rows < 0, rows.dtype.type(0), rows)

    return DepthFrames(name, images(), meter, (low, high) if low < high else None)


def _require_frames(store: DepthStore | CodeStore, key: EpisodeKey, have: int, want: int) -> None:
    """Raises `SourceError` for depth or codes of an episode that had another length then."""
    if have != want:
        raise SourceError(
            f"{store.path} has {have} frames of {key}, the episode has {want}",
            remedy=f"`depthtok {store.spec.stage}`, as before, makes changed parts anew",
        )


def episodes_of(shown: Shown) -> Iterator[tuple[EpisodeKey, int, StoredEpisode | None]]:
    """Key and frames of every episode, in order; as stored, where the EpisodeStore is at hand."""
    if shown.episodes is not None:
        yield from ((stored.key, len(stored), stored) for stored in shown.episodes)
        return
    for part in shown.stores[0].parts():
        yield from ((episode.key, episode.frames, None) for episode in part.episodes)


def chosen(shown: Shown, numbers: list[int], codecs: dict[str, Codec]) -> Iterator[ShownEpisode]:
    """The episodes of these numbers, ascending."""
    wanted = set(numbers)
    for number, (key, frames, stored) in enumerate(islice(episodes_of(shown), max(numbers) + 1)):
        if number in wanted:
            yield ShownEpisode(shown, key, frames, stored, codecs)


def count_of(shown: Shown) -> int:
    """How many episodes there are."""
    if shown.episodes is not None:
        return len(shown.episodes)
    return sum(len(part.frames) for part in shown.stores[0].parts())
