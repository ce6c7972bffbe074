"""Frames that are looked at on their way to an estimator: does the clip show anything at all?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from depthtok.absent import Looks
from depthtok.data import Camera, EpisodeKey, FrameClip


@dataclass(frozen=True)
class Watched:
    """A clip, and what was seen of the frames that were read of it."""

    clip: FrameClip
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
    def blank(self) -> bool:
        """Whether all of its frames were read, and are one flat colour."""
        return self.looks.frames >= len(self.clip) and not self.looks.textured

    def __len__(self) -> int:
        return len(self.clip)

    def read(self, start: int, stop: int) -> np.ndarray:
        frames = self.clip.read(start, stop)
        self.looks.add(frames)
        return frames

    def true_depth(self, start: int, stop: int) -> np.ndarray:
        return self.clip.true_depth(start, stop)
