"""Clips whose frames are looked at on their way to an estimator: do they show anything at all?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.data import Camera, EpisodeKey, FrameClip
from depthtok.stores.absent import Looks

Clip = TypeVar("Clip", bound=FrameClip)


@dataclass(frozen=True)
class Watched(Generic[Clip]):
    """A clip, or its first `limit` frames; `looks` is what the frames that were read showed."""

    clip: Clip
    limit: int | None = None
    looks: Looks = field(default_factory=Looks)

    @property
    def key(self) -> EpisodeKey:
        return self.clip.key

    @property
    def camera(self) -> Camera:
        return self.clip.camera

    @property
    def fps(self) -> float | None:
        return self.clip.fps

    @property
    def intrinsics(self) -> Float32[np.ndarray, "3 3"] | None:
        """Of the camera, in pixels of the frames; None where they are not known."""
        return getattr(self.clip, "intrinsics", None)

    @property
    def blank(self) -> bool:
        """Whether all of its frames were read, and are one flat colour."""
        return self.looks.frames >= len(self) and not self.looks.textured

    def __len__(self) -> int:
        return len(self.clip) if self.limit is None else min(self.limit, len(self.clip))

    def read(self, start: int, stop: int) -> UInt8[np.ndarray, "n H W 3"]:
        frames = self.clip.read(start, stop)
        self.looks.add(frames)
        return frames

    def true_depth(self, start: int, stop: int) -> Float32[np.ndarray, "n H W"]:
        return self.clip.true_depth(start, stop)
