"""Frames of a clip that were changed in a way that depth must follow: mirrored, cropped, smaller.

as is       the frames
mirrored    left and right swapped; so is what depth is compared with
cropped     the middle `CROP` of both sides
smaller     both sides `SMALLER` times as long; its depth is enlarged again
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.data import Camera, DepthClip, EpisodeKey, FrameClip, ImageTransform
from depthtok.errors import SourceError

CROP, SMALLER = 0.75, 0.7
Size = tuple[int, int]
Intrinsics = Float32[np.ndarray, "3 3"]


@dataclass(frozen=True)
class Alteration:
    """What is done to frames, and to depth of the unaltered frames so that both show the same; and
    to the intrinsics in pixels of frames of a size, px."""

    name: str
    frames: Callable[[UInt8[np.ndarray, "n H W 3"]], UInt8[np.ndarray, "n h w 3"]]
    depth: Callable[[DepthClip], DepthClip]
    intrinsics: Callable[[Intrinsics, Size], Intrinsics]


def _same(clip: DepthClip) -> DepthClip:
    return clip


def _mirrored(clip: DepthClip) -> DepthClip:
    return DepthClip(clip.values[:, :, ::-1], clip.valid[:, :, ::-1], clip.kind)


def _middle(size: Size) -> tuple[slice, slice]:
    """Rows and columns of the crop."""
    sides = [max(1, round(side * CROP)) for side in size]
    starts = [(side - length) // 2 for side, length in zip(size, sides, strict=True)]
    rows, columns = (slice(s, s + length) for s, length in zip(starts, sides, strict=True))
    return rows, columns


def _cropped(clip: DepthClip) -> DepthClip:
    rows, columns = _middle(clip.values.shape[1:])
    return DepthClip(clip.values[:, rows, columns], clip.valid[:, rows, columns], clip.kind)


def _cropped_frames(frames: UInt8[np.ndarray, "n H W 3"]) -> UInt8[np.ndarray, "n h w 3"]:
    rows, columns = _middle(frames.shape[1:3])
    return np.ascontiguousarray(frames[:, rows, columns])


def _smaller_size(size: Size) -> Size:
    height, width = (max(1, round(side * SMALLER)) for side in size)
    return height, width


def _smaller_frames(frames: UInt8[np.ndarray, "n H W 3"]) -> UInt8[np.ndarray, "n h w 3"]:
    return ImageTransform(size=_smaller_size(frames.shape[1:3])).rgb(frames)


def _mirrored_camera(matrix: Intrinsics, size: Size) -> Intrinsics:
    """The focal length stays, the centre is as far from the other side."""
    turned = matrix.copy()
    turned[0, 2] = size[1] - 1 - matrix[0, 2]
    return turned


def _cropped_camera(matrix: Intrinsics, size: Size) -> Intrinsics:
    rows, columns = _middle(size)
    moved = matrix.copy()
    moved[:2, 2] -= columns.start, rows.start
    return moved


def _smaller_camera(matrix: Intrinsics, size: Size) -> Intrinsics:
    """Pixels are larger, so that a focal length has fewer of them; corners stay corners."""
    (height, width), (rows, columns) = size, _smaller_size(size)
    smaller = matrix.copy()
    for axis, factor in enumerate((columns / width, rows / height)):
        smaller[axis] *= factor
        smaller[axis, 2] += (factor - 1) / 2
    return smaller


AS_IS = Alteration("as is", lambda frames: frames, _same, lambda matrix, _: matrix)
ALTERATIONS = (
    Alteration(
        "mirror",
        lambda frames: np.ascontiguousarray(frames[:, :, ::-1]),
        _mirrored,
        _mirrored_camera,
    ),
    Alteration("crop", _cropped_frames, _cropped, _cropped_camera),
    Alteration("scale", _smaller_frames, _same, _smaller_camera),
)


@dataclass(frozen=True)
class AlteredClip:
    """Frames `start` to `start + length` of a clip, altered: a `FrameClip` without true depth."""

    clip: FrameClip
    alteration: Alteration
    start: int
    length: int

    @property
    def key(self) -> EpisodeKey:
        return self.clip.key

    @property
    def camera(self) -> Camera:
        """The camera by its name; its frames have another size or orientation now."""
        return Camera(self.clip.camera.name, None, None)

    @property
    def fps(self) -> float | None:
        return self.clip.fps

    @property
    def intrinsics(self) -> Intrinsics | None:
        """Of the camera, in pixels of the altered frames; None where they are not known."""
        matrix = getattr(self.clip, "intrinsics", None)
        if matrix is None:
            return None
        height, width = self.clip.read(self.start, self.start + 1).shape[1:3]
        return self.alteration.intrinsics(matrix, (height, width))

    def __len__(self) -> int:
        return self.length

    def read(self, start: int, stop: int) -> UInt8[np.ndarray, "n h w 3"]:
        return self.alteration.frames(self.clip.read(self.start + start, self.start + stop))

    def true_depth(self, start: int, stop: int) -> Float32[np.ndarray, "n h w"]:
        """Raises `SourceError`: they have none."""
        raise SourceError(
            "altered frames have no depth of their own",
            remedy="choose an estimator that needs RGB only",
        )
