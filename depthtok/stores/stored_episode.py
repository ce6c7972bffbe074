"""One episode of an EpisodeStore, and the frames of one of its cameras, read when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.data import Camera, EpisodeKey
from depthtok.errors import CorruptRecord, SourceError
from depthtok.frames.kinds import FrameKind
from depthtok.sources.pixels import PixelFormat
from depthtok.stores.parts import Part, require_within
from depthtok.stores.placeholders import ClipDepth, NotMeasured


@dataclass(frozen=True)
class View:
    """One image stream of a camera: what it shows (rgb, depth, segmentation), how its frames are
    read (`frames_by`), and what one is: its bytes, or for kinds without, its dtype and shape."""

    camera: str
    kind: str
    format: PixelFormat
    scale_m: float | None = None  # of depth: metres in one stored unit, where that is known
    not_measured: NotMeasured | None = None  # of depth; None: what is finite and above 0 is depth
    channels: str = "rgb"  # their order in the file; whoever reads a frame gets RGB
    frames_by: FrameKind = field(default_factory=FrameKind)

    @property
    def name(self) -> str:
        """`image/rgb`: what identifies the view in a store."""
        return f"{self.camera}/{self.kind}"

    @property
    def in_millimetres(self) -> bool:
        """Whether every stored value is a whole number of millimetres."""
        scale_mm = (self.scale_m or 0) * 1000
        whole_number = scale_mm >= 1 and abs(scale_mm - round(scale_mm)) < 1e-9
        return whole_number and np.dtype(self.format.dtype).kind in "iu"

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, without `channels`, `not_measured` and `frames_by` at their
        defaults."""
        data = {**asdict(self), "format": self.format.to_json()}
        if self.frames_by == FrameKind():
            del data["frames_by"]
        else:
            data["frames_by"] = self.frames_by.to_json()
        if self.channels == "rgb":
            del data["channels"]
        if self.not_measured:
            data["not_measured"] = self.not_measured.to_json()
        else:
            del data["not_measured"]
        return data

    def decode(self, data: bytes) -> np.ndarray:
        """One frame [H, W, C] from its bytes. Raises `CorruptRecord`."""
        frame = self.format.decode(data)
        return frame if self.channels == "rgb" else np.ascontiguousarray(frame[..., ::-1])

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> View:
        """The inverse of `to_json`."""
        format, rule = PixelFormat.from_json(data["format"]), data.get("not_measured")
        not_measured = NotMeasured.from_json(rule) if rule else None
        kind = FrameKind.from_json(data["frames_by"]) if "frames_by" in data else FrameKind()
        fields = {"format": format, "not_measured": not_measured, "frames_by": kind}
        return cls(**{**data, **fields})


@runtime_checkable
class EpisodeSource(Protocol):
    """What an episode asks of its EpisodeStore, whose file imports this one."""

    views: list[View]
    fps: float | None

    @property
    def cameras(self) -> dict[str, Camera]: ...

    @property
    def segmentation_classes(self) -> dict[str, dict[str, int]]: ...

    def camera(self, name: str) -> Camera: ...

    def table(self, part: Part, name: str) -> np.ndarray: ...

    def instructions(self, part: Part) -> list[str]: ...

    def alternatives(self, part: Part) -> dict[str, list[str]]: ...

    def view_index(self, camera: str, kind: str) -> int: ...

    def read_frames(self, part: Part, view: int, start: int, stop: int) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True)
class StoredEpisode:
    """An `Episode` of an EpisodeStore."""

    store: EpisodeSource
    part: Part
    row: int  # in the part

    @property
    def key(self) -> EpisodeKey:
        return self.part.shard.episode(int(self.part.indices[self.row]))

    @property
    def cameras(self) -> dict[str, Camera]:
        return self.store.cameras

    @property
    def fps(self) -> float | None:
        return self.store.fps

    def absent(self, camera: str) -> bool:
        """Whether the episode is known not to have this camera (see `EpisodeStore.knows_absent`):
        its frames are one flat colour, or the data set says so."""
        return self.part.lacks(camera, int(self.part.indices[self.row]))

    def intrinsics(self, camera: str) -> Float32[np.ndarray, "3 3"] | None:
        """Of the upright true view, in pixels; None where the source does not say."""
        number = list(self.cameras).index(camera)
        matrix = self.store.table(self.part, "intrinsics")[self.row, number].reshape(3, 3)
        return None if np.isnan(matrix).any() else matrix

    @property
    def start(self) -> int:
        return int(self.part.starts[self.row])

    def __len__(self) -> int:
        return int(self.part.frames[self.row])

    @property
    def action(self) -> Float32[np.ndarray, "T A"]:
        return self.store.table(self.part, "action")[self.start : self.start + len(self)]

    @property
    def proprio(self) -> Float32[np.ndarray, "T P"]:
        return self.store.table(self.part, "proprio")[self.start : self.start + len(self)]

    def instruction(self, step: int = 0) -> str:
        return self.store.instructions(self.part)[self._instruction(step)]

    def instructions(self, step: int = 0) -> list[str]:
        """All the texts that say what to do at a step, of which training draws one."""
        number = self._instruction(step)
        alternatives = self.store.alternatives(self.part).get(str(number))
        return alternatives or [self.store.instructions(self.part)[number]]

    def _instruction(self, step: int) -> int:
        """Its number in the part. Raises `IndexError` for a step that there is not."""
        row = self.start + range(len(self))[step]  # or it were a step of another episode
        return int(self.store.table(self.part, "instruction")[row])

    def frames(self, camera: str) -> StoredFrames:
        return StoredFrames(self, self.store.camera(camera))


@dataclass(frozen=True)
class StoredFrames:
    """A `FrameClip` of an EpisodeStore."""

    episode: StoredEpisode
    camera: Camera

    @property
    def key(self) -> EpisodeKey:
        return self.episode.key

    @property
    def fps(self) -> float | None:
        return self.episode.fps

    @property
    def intrinsics(self) -> Float32[np.ndarray, "3 3"] | None:
        """Of the camera, as `StoredEpisode.intrinsics` gives them."""
        return self.episode.intrinsics(self.camera.name)

    def __len__(self) -> int:
        return len(self.episode)

    def read(self, start: int, stop: int) -> UInt8[np.ndarray, "n H W 3"]:
        return self._decode("rgb", start, stop)

    def true_depth(self, start: int, stop: int) -> Float32[np.ndarray, "n H W"]:
        return self.clip_depth.metres(start, stop)

    @cached_property
    def clip_depth(self) -> ClipDepth:
        """The reader of the clip's own depth. Raises `SourceError` where its unit is not known."""
        store = self.episode.store
        view = store.views[store.view_index(self.camera.name, "depth")]
        if view.scale_m is None:
            raise SourceError(
                f"the unit of the depth of camera {self.camera.name!r} is not known",
                remedy="copy the data set's schema, state `depth_unit`, and convert with --schema",
            )

        def decode(start: int, stop: int) -> np.ndarray:
            return self._decode("depth", start, stop)[..., 0]

        return ClipDepth(len(self), decode, view.scale_m, view.format.dtype, view.not_measured)

    def segmentation(self, start: int, stop: int) -> UInt8[np.ndarray, "n H W"]:
        """The class of every pixel as the data set numbers them."""
        return self._decode("segmentation", start, stop)[..., 0]

    def _decode(self, kind: str, start: int, stop: int) -> np.ndarray:
        episode, store = self.episode, self.episode.store
        view = store.view_index(self.camera.name, kind)
        require_within(episode.key, len(episode), start, stop)
        if start == stop:
            format = store.views[view].format
            return np.empty((0, *(side or 0 for side in format.shape)), format.dtype)
        reading = store.read_frames(episode.part, view, episode.start + start, episode.start + stop)
        frames, count = np.empty(0), 0
        try:
            for frame in reading:  # each is copied at once: new memory costs more than a copy
                if not count:
                    frames = np.empty((stop - start, *frame.shape), frame.dtype)
                if frame.shape != frames.shape[1:]:
                    raise CorruptRecord("the frames have different sizes")
                frames[count] = frame
                count += 1
        except SourceError as error:
            raise CorruptRecord(
                f"{episode.key}, {kind} of {self.camera.name}, step {start + count}: "
                f"{error.problem}",
                remedy=error.remedy,
            ) from error
        return frames
