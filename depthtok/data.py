"""The types that flow between the stages, with their shapes, dtypes and units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from depthtok.errors import DepthKindError
from depthtok.json_values import JsonObject, value_of, values_of
from depthtok.orientation import Orientation

SHIFT = "shift"  # the setting of an estimator of relative depth
QUANTILES = (0.0, 0.005, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.995, 1.0)
"""The quantiles kept of every depth clip (over its valid pixels)."""


@dataclass(frozen=True)
class Camera:
    """One camera of a data set, as published. Height and width are None where frames differ."""

    name: str
    height: int | None  # px
    width: int | None  # px
    orientation: Orientation = Orientation.UNKNOWN
    has_depth: bool = False


@dataclass(frozen=True)
class ImageTransform:
    """What was done to a published image, the same for RGB, depth and codes.

    In this order: true-view correction (only for geometry), crop, resize. `crop` is (top, left,
    height, width) in pixels of the image after that correction; `size` is (height, width) in
    pixels. Resizing squashes: height and width are scaled each on its own.
    """

    size: tuple[int, int] | None = None
    crop: tuple[int, int, int, int] | None = None
    true_view: Orientation | None = None  # undo this orientation; None keeps the published one

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, the same for equal transforms."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, data: JsonObject) -> ImageTransform:
        """The inverse of `to_json`."""
        size = crop = None
        if data.get("size"):
            height, width = values_of(data, "size", int)
            size = height, width
        if data.get("crop"):
            top, left, height, width = values_of(data, "crop", int)
            crop = top, left, height, width
        true_view = Orientation(value_of(data, "true_view", str)) if data.get("true_view") else None
        return cls(size, crop, true_view)

    def rgb(self, frames: UInt8[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "T h w 3"]:
        """Frames after the transform, resized with Lanczos (antialiased)."""
        frames = self._cut(frames)
        if self.size is None or frames.shape[1:3] == self.size:
            return frames
        return np.stack([_resize(frame, self.size, Image.Resampling.LANCZOS) for frame in frames])

    def depth(
        self, values: Float32[np.ndarray, "T H W"], kind: DepthKind
    ) -> Float32[np.ndarray, "T h w"]:
        """Depth after the transform: distances by nearest pixel (no points between two surfaces,
        and invalid zeros do not spread), disparity bilinear with antialiasing."""
        values = self._cut(values)
        if self.size is None or values.shape[1:3] == self.size:
            return values
        rule = Image.Resampling.NEAREST if kind.is_depth else Image.Resampling.BILINEAR
        return np.stack([_resize(frame, self.size, rule) for frame in values])

    def _cut(self, frames: np.ndarray) -> np.ndarray:
        if self.true_view is not None:
            frames = self.true_view.undo(frames)
        if self.crop is not None:
            top, left, height, width = self.crop
            frames = frames[:, top : top + height, left : left + width]
        return frames


def _resize(image: np.ndarray, size: tuple[int, int], rule: Image.Resampling) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((size[1], size[0]), rule))


@dataclass(frozen=True)
class EpisodeKey:
    """Where an episode comes from. Stable: it never depends on the order of reading."""

    dataset: str
    version: str
    split: str
    shard: int
    shards: int
    index: int  # within the shard

    def __str__(self) -> str:
        return (
            f"{self.dataset}/{self.version}/{self.split}"
            f"/{self.shard:05d}-of-{self.shards:05d}/{self.index:05d}"
        )


@runtime_checkable
class FrameClip(Protocol):
    """The frames of one camera in one episode, read when they are asked for."""

    @property
    def key(self) -> EpisodeKey: ...

    @property
    def camera(self) -> Camera: ...

    @property
    def fps(self) -> float | None: ...  # Hz

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> UInt8[np.ndarray, "n H W 3"]:
        """Frames `start` to `stop` (exclusive). Raises `CorruptRecord` for bytes that changed."""
        ...

    def true_depth(self, start: int, stop: int) -> Float32[np.ndarray, "n H W"]:
        """The depth in metres that the data set carries; invalid pixels are 0.

        Raises `SourceError` where the data set has none for this camera.
        """
        ...


@runtime_checkable
class Episode(Protocol):
    """One demonstration."""

    @property
    def key(self) -> EpisodeKey: ...

    @property
    def cameras(self) -> dict[str, Camera]: ...

    @property
    def action(self) -> Float32[np.ndarray, "T A"]: ...

    @property
    def proprio(self) -> Float32[np.ndarray, "T P"]: ...

    @property
    def fps(self) -> float | None: ...  # Hz

    def __len__(self) -> int: ...

    def instruction(self, step: int = 0) -> str: ...

    def instructions(self, step: int = 0) -> list[str]: ...

    def absent(self, camera: str) -> bool:
        """Whether the episode is known not to have this camera."""
        ...

    def frames(self, camera: str) -> FrameClip: ...


class DepthKind(StrEnum):
    """What a depth value means."""

    DISPARITY = "disparity"  # larger is nearer; known up to scale and shift
    METRES = "metres"  # larger is farther; distance along the optical axis
    RELATIVE_DEPTH = "relative_depth"  # larger is farther; z up to scale, and perhaps shift

    @property
    def is_depth(self) -> bool:
        """Whether larger is farther: a distance, of which only what is above 0 is valid."""
        return self is not DepthKind.DISPARITY


@dataclass(frozen=True)
class DepthClip:
    """The depth of one camera in one episode (or a run of its frames), never normalised.

    Where `valid` is False the value is 0 and means nothing. `shift`, at least 0, is of relative
    depth alone: the disparity of z is 1 / (z + shift). Its store records it.
    """

    values: Float32[np.ndarray, "T H W"]
    valid: Bool[np.ndarray, "T H W"]
    kind: DepthKind
    quantiles: tuple[float, ...] = ()  # of the whole clip, at QUANTILES; empty where not known
    shift: float = 0.0

    @classmethod
    def of(
        cls, values: np.ndarray, kind: DepthKind, valid: np.ndarray | None = None, shift: float = 0
    ) -> DepthClip:
        """A clip from plain values: not finite is invalid, and so is a distance that is not > 0."""
        values = np.asarray(values, np.float32)
        usable = np.isfinite(values)
        if kind.is_depth:
            usable &= values > 0
        if valid is not None:
            usable &= valid
        return cls(np.where(usable, values, np.float32(0)), usable, kind, shift=shift)

    def __len__(self) -> int:
        return len(self.values)

    def require(self, kind: DepthKind) -> DepthClip:
        """This clip, if it is of the kind asked for. Raises `DepthKindError` otherwise."""
        if self.kind is not kind:
            raise DepthKindError(
                f"{kind} was asked for, but this depth is {self.kind}",
                remedy="call to_disparity() for metres and for relative depth; disparity has no "
                "unit to go back to",
            )
        return self

    def to_disparity(self) -> DepthClip:
        """1/z of metres (1/m), 1/(z + shift) of relative depth; disparity as it is. Invalid pixels
        stay invalid.

        The quantiles turn over: the nearest point has the largest disparity.
        """
        if self.kind is DepthKind.DISPARITY:
            return self
        shift = self.shift if self.kind is DepthKind.RELATIVE_DEPTH else 0.0
        distances = self.values + np.float32(shift) if shift else self.values
        with np.errstate(divide="ignore"):  # a masked division takes twice the time
            values = np.divide(np.float32(1), distances)
        np.copyto(values, 0, where=~self.valid)
        quantiles = tuple(1 / (q + shift) if q > 0 else 0.0 for q in reversed(self.quantiles))
        return DepthClip(values, self.valid, DepthKind.DISPARITY, quantiles)


@dataclass(frozen=True)
class CodeGrid:
    """The codes of one clip, bound to the codebook and the image that they were made for.

    `range` is the clip's disparity interval that the codebook's normalisation mapped to [0, 1].
    """

    codes: UInt8[np.ndarray, "T h w"]
    codebook: str  # fingerprint
    range: tuple[float, float]
    transform: ImageTransform


@dataclass(frozen=True)
class EstimatorSpec:
    """What an estimator gives, and what it was made of. Hashed into the stores that it fills."""

    name: str
    kind: DepthKind
    weights: str  # content hash of the weights; "" for an estimator that has none
    precision: str = "float32"
    input_size: int | None = None  # px, of what the network sees: most mean the shorter side
    licence: str = ""
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def shift(self) -> float | None:
        """Of relative depth: what is added before 1/z (see `DepthClip`). None for other kinds."""
        return float(dict(self.settings)[SHIFT]) if self.kind is DepthKind.RELATIVE_DEPTH else None


@dataclass(frozen=True)
class DepthBlock:
    """A run of consecutive frames of clip number `clip`, or the reason why that clip failed.

    Blocks come clip by clip in order, frames in order; a failure is the last block of its clip.
    """

    clip: int
    depth: DepthClip | None = None
    error: str = ""


@runtime_checkable
class DepthEstimator(Protocol):
    """RGB (or a data set's own depth) to depth at the frames' own resolution."""

    @property
    def spec(self) -> EstimatorSpec: ...

    @property
    def device(self) -> str: ...  # in words, for the record

    @property
    def degraded(self) -> bool:
        """Whether a lack of memory changed how it works, and so perhaps low bits."""
        ...

    def estimate(self, clips: Iterable[FrameClip]) -> Iterator[DepthBlock]:
        """Depth of many clips, streamed. May work on several clips at a time inside."""
        ...
