"""Frames of a store as they are shown: camera image, depth, codes and decoded depth of the same
step, in the same colours on every page; some frames one by one, and a whole episode as a film."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from depthtok.data import EpisodeKey, ImageTransform
from depthtok.errors import DepthtokError
from depthtok.pages.colour import code_colours
from depthtok.pages.film import Film, FilmView, shown_steps, tile_size
from depthtok.pages.pictures import FrameRow, Picture
from depthtok.pages.scale import ColourScale
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore, StoredDepth
from depthtok.stores.episodes import EpisodeStore
from pipelines.inspect.trail import Trail

EPISODES = 4  # shown frame by frame
CAMERAS = 2  # of a film
BLOCK = 32  # frames read at once
IMAGE, DEPTH, CODES, DECODED = "camera image", "depth", "codes", "depth decoded from the codes"
Frames = UInt8[np.ndarray, "n H W 3"]


@dataclass(frozen=True)
class ClipViews:
    """What can be shown of one camera in one episode."""

    trail: Trail
    key: EpisodeKey
    camera: str

    @property
    def scale(self) -> ColourScale | None:
        """The colours of its depth: those of the depth that it was made of; where that is gone, of
        the interval that its codes were made for. None where it has no depth."""
        original, codes = self.trail.original, self.trail.codes
        if original is not None and (clip := _clip(original, self.key, self.camera)) is not None:
            return ColourScale.of(clip.disparity_quantiles, original.kind, original.shift)
        if codes is None or (grid := codes.find_grid(self.key, self.camera)) is None:
            return None
        return ColourScale(*grid.range)

    def read(self, start: int, stop: int, size: tuple[int, int] | None = None) -> dict[str, Frames]:
        """The views of steps `start` to `stop`, at their own size or the given one; codes have a
        pixel a cell. Views of upstream stores that cannot be read are left out."""
        views = [
            (IMAGE, self._images(start, stop, size)),
            (self._depth_name, self._depth(start, stop, size)),
            (CODES, self._codes(start, stop)),
            (DECODED, self._decoded(start, stop, size)),
        ]
        return {name: frames for name, frames in views if frames is not None}

    @property
    def _depth_name(self) -> str:
        depth = self.trail.depth
        return DECODED if depth is not None and depth is not self.trail.original else DEPTH

    def _images(self, start: int, stop: int, size: tuple[int, int] | None) -> Frames | None:
        episode = self.trail.episode(self.key)
        if episode is None:
            return None
        store = self.trail.store
        shown = store.transform if isinstance(store, DepthStore | CodeStore) else ImageTransform()
        try:
            frames = episode.frames(self.camera).read(start, stop)
        except DepthtokError:
            if self.trail.store is self.trail.episodes:
                raise
            return None
        return ImageTransform(size or shown.size, shown.crop, shown.true_view).rgb(frames)

    def _depth(self, start: int, stop: int, size: tuple[int, int] | None) -> Frames | None:
        store, scale = self.trail.depth, self.scale
        if store is None or scale is None:
            return None
        if (clip := _clip(store, self.key, self.camera)) is None:
            return None
        return _sampled(scale.paint(clip.read(start, stop)), size)

    def _codes(self, start: int, stop: int) -> Frames | None:
        store = self.trail.codes
        grid = None if store is None else store.find_grid(self.key, self.camera)
        return None if grid is None else code_colours()[grid.codes[start:stop]]

    def _decoded(self, start: int, stop: int, size: tuple[int, int] | None) -> Frames | None:
        store, decode, scale = self.trail.codes, self.trail.decode, self.scale
        if store is None or decode is None or scale is None:
            return None
        grid = store.find_grid(self.key, self.camera)
        if grid is None:
            return None
        try:
            disparity = decode(np.asarray(grid.codes[start:stop]), grid.range)
        except DepthtokError:  # codes of a normalisation that cannot be undone
            return None
        return _sampled(scale.paint_disparity(disparity), size)


def _clip(store: DepthStore, key: EpisodeKey, camera: str) -> StoredDepth | None:
    if camera not in store.cameras:
        return None
    clip = store.find_clip(key, camera)
    return None if clip is None or clip.absent else clip


def _sampled(frames: Frames, size: tuple[int, int] | None) -> UInt8[np.ndarray, "n h w 3"]:
    """Frames of another size by their nearest pixels: colours of depth are never mixed."""
    if size is None or frames.shape[1:3] == size:
        return frames
    rows, columns = (
        ((np.arange(n) + 0.5) * old / n).astype(int)
        for n, old in zip(size, frames.shape[1:3], strict=True)
    )
    return frames[:, rows][:, :, columns]


def frame_rows(trail: Trail) -> Iterator[FrameRow]:
    """The middle frame of every camera of the first episodes."""
    for number, (key, length) in enumerate(trail.lengths()):
        if number == EPISODES:
            return
        for camera in trail.cameras:
            if not trail.absent(key, camera):
                yield _row(trail, key, camera, length // 2)


def _row(trail: Trail, key: EpisodeKey, camera: str, step: int) -> FrameRow:
    clip = ClipViews(trail, key, camera)
    episode = trail.episode(key)
    said = "" if episode is None else episode.instruction(step) or "(no instruction)"
    pictures: list[Picture] = []
    for name, frames in clip.read(step, step + 1).items():
        pixels, exact = frames[0], name == CODES
        if exact:
            pixels = pixels.repeat(8, axis=0).repeat(8, axis=1)
        pictures.append(Picture(pixels, name, "" if pictures else said, exact))
    scale = clip.scale
    return FrameRow(f"{camera}, step {step} of {key}", pictures, [scale.bar()] if scale else [])


def film_of(trail: Trail) -> Film | None:
    """The first episode as a film; None for a store without any, or whose frames are gone."""
    for key, length in trail.lengths():
        cameras = [camera for camera in trail.cameras if not trail.absent(key, camera)]
        if length and cameras:
            return _film(trail, key, length, cameras[:CAMERAS])
    return None


def _film(trail: Trail, key: EpisodeKey, length: int, cameras: list[str]) -> Film | None:
    steps = shown_steps(length)
    shown, number = {}, _views_a_camera(trail) * len(cameras)
    for camera in cameras:
        clip = ClipViews(trail, key, camera)
        size = tile_size(len(steps), number, *_shape(trail, camera))
        views = _strips(clip, length, steps, size)
        bars = [clip.scale.bar()] if clip.scale else []
        if views:
            shown[camera] = [FilmView(n, f, exact=n == CODES) for n, f in views.items()], bars
    episode = trail.episode(key)
    said = [""] * len(steps)
    if episode is not None:
        said = [episode.instruction(step) or "(no instruction)" for step in steps]
    fps = None if episode is None else episode.fps
    return Film(str(key), length, steps, said, shown, fps) if shown else None


def _strips(
    clip: ClipViews, length: int, steps: range, size: tuple[int, int]
) -> Mapping[str, Frames]:
    """Every view at every shown step, read a block at a time."""
    blocks: dict[str, list[Frames]] = {}
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        rows = [step - start for step in range(start, stop) if step in steps]
        for name, frames in clip.read(start, stop, size).items():
            blocks.setdefault(name, []).append(frames[rows])
    strips = {name: np.concatenate(pieces) for name, pieces in blocks.items()}
    return {name: frames for name, frames in strips.items() if len(frames) == len(steps)}


def _views_a_camera(trail: Trail) -> int:
    """How many views are no codes."""
    return sum(part is not None for part in (trail.episodes, trail.depth, trail.decode)) or 1


def _shape(trail: Trail, camera: str) -> tuple[int, int]:
    """Height and width that a view is shown with."""
    if isinstance(trail.store, EpisodeStore):
        known = trail.store.cameras[camera]
        return known.height or 1, known.width or 1
    if isinstance(trail.store, DepthStore):
        return trail.store.size
    return trail.codes.transform.size or (1, 1) if trail.codes is not None else (1, 1)
