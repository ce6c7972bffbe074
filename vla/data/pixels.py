"""Depth itself as the depth expert's target: the ablation that regresses pixels.

`PixelGrids` replaces a CodeStore: it gives each frame's normalised disparity, averaged over the
cells of the code grid, so that only the target differs from a run with codes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from depthtok.data import EpisodeKey
from depthtok.errors import ConfigError, SourceError
from depthtok.normalisation import Normalisation
from depthtok.stores.parts import Failure
from vla.data.stores import Clip, Depth, EpisodePart


@dataclass(frozen=True)
class PixelClip:
    """The targets of one clip; `codes[step]` is float32 [h, w], about 0 to 1."""

    clip: Clip
    normalisation: Normalisation
    grid: tuple[int, int]

    @property
    def codes(self) -> PixelClip:
        return self

    def __getitem__(self, step: int) -> Float32[np.ndarray, "h w"]:
        depth = self.clip.read(step, step + 1).to_disparity()
        bounds = self.normalisation.range_of(self.clip.disparity_quantiles)
        values = self.normalisation.apply(depth.values, bounds, depth.valid)
        return cell_means(values[0], depth.valid[0], self.grid)


def cell_means(
    values: Float32[np.ndarray, "H W"], valid: Bool[np.ndarray, "H W"], grid: tuple[int, int]
) -> Float32[np.ndarray, "h w"]:
    """Means over the valid pixels of each cell; 0 if it has none."""
    height, width = grid
    cells = (height, values.shape[0] // height, width, values.shape[1] // width)
    sums = np.where(valid, values, 0).reshape(cells).sum(axis=(1, 3))
    return (sums / np.maximum(valid.reshape(cells).sum(axis=(1, 3)), 1)).astype(np.float32)


class DepthTargets:
    """A DepthStore in place of a CodeStore, for the codebook with the given fingerprint and
    normalisation. Raises `DepthKindError` for depth that its fixed range, if any, is not of."""

    def __init__(
        self, store: Depth, codebook: str, normalisation: Normalisation, grid: tuple[int, int]
    ) -> None:
        normalisation.require(store.kind)
        self.fingerprint, self.codebook, self.grid = store.fingerprint, codebook, grid
        self.content = store.content
        self.cameras, self.transform = store.cameras, store.transform
        self._store, self._normalisation = store, normalisation
        self._clips = {(clip.key, clip.camera): clip for clip in store.clips()}

    @property
    def source(self) -> Depth:
        """The store."""
        return self._store

    def missing(self) -> list[str]:
        """Parts missing from the store."""
        return self._store.missing()

    def failures(self) -> list[Failure]:
        """Episodes that were left out of the store."""
        return self._store.failures()

    def parts(self) -> Iterable[EpisodePart]:
        """The store's parts, which describe its contents."""
        return self._store.parts()

    def without_range(self, cameras: Collection[str]) -> set[EpisodeKey]:
        """The episodes that `depthtok tokenize` would leave out: the depth of one of these cameras
        is constant, or has no valid pixel, so that there is no range to normalise it by."""
        keys = set()
        for (key, camera), clip in self._clips.items():
            if camera in cameras:
                try:
                    self._normalisation.range_of(clip.disparity_quantiles)
                except SourceError:
                    keys.add(key)
        return keys


class PixelGrids(DepthTargets):
    """A DepthStore as targets, normalised as by the codebook with the fingerprint `codebook`.
    Raises `ConfigError` for images that the grid does not divide."""

    def __init__(
        self, store: Depth, codebook: str, normalisation: Normalisation, grid: tuple[int, int]
    ) -> None:
        if any(pixels % cells for pixels, cells in zip(store.size, grid, strict=True)):
            raise ConfigError(
                f"depth of {store.size} px is not divisible into {grid} cells",
                remedy="annotate with a --size that the code grid divides",
            )
        super().__init__(store, codebook, normalisation, grid)

    def find_grid(self, key: EpisodeKey, camera: str) -> PixelClip | None:
        """The targets of one clip, computed on demand; None where the episode does not have this
        camera."""
        clip = self._clips.get((key, camera))
        return None if clip is None else PixelClip(clip, self._normalisation, self.grid)
