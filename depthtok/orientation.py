"""Which way up a published image is, and how to turn it back."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from depthtok.errors import ConfigError


class Orientation(StrEnum):
    """How a published image relates to what the camera saw, upright and unmirrored."""

    IDENTITY = "identity"
    ROTATE180 = "rotate180"
    MIRROR = "mirror"  # left and right swapped: LIBERO's RLDS files, said to be "rotated by 180"
    FLIP = "flip"  # upside down, top and bottom swapped: OpenGL's frames, as in LIBERO's HDF5 files
    UNKNOWN = "unknown"

    @property
    def swaps_sides(self) -> bool:
        """Whether left and right of the published image are swapped."""
        return self in (Orientation.MIRROR, Orientation.ROTATE180)

    @property
    def is_upside_down(self) -> bool:
        """Whether top and bottom of the published image are swapped."""
        return self in (Orientation.FLIP, Orientation.ROTATE180)

    def undo(self, frames: np.ndarray) -> np.ndarray:
        """Published frames or depth [T, H, W, ...] as the camera saw them, a view of the same
        values. Raises `ConfigError` where the orientation is unknown."""
        if self is Orientation.UNKNOWN:
            raise ConfigError(
                "the camera's orientation is unknown, so there is no true view",
                remedy="state `orientation` of the camera in the data set's schema",
            )
        frames = frames[:, :, ::-1] if self.swaps_sides else frames
        return frames[:, ::-1] if self.is_upside_down else frames
