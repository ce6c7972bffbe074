"""Metres of the metric network's output: its focal length, in pixels of its input, over 300."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from depthtok.data import FrameClip
from depthtok.errors import SourceError
from pipelines.depth.da3.preprocess import Size, input_focal

FOCAL = 300.0  # px: metres are the metric network's output at this focal length of its input
SHORTEST, LONGEST = 0.1, 50.0  # sides of the frame, of a focal length: views of 157 to 1 degrees


def metres_factor(clip: FrameClip, stated: float, size: Size, net: Size) -> float:
    """f / 300 for frames of a `size` and an input of size `net`. `stated`: the focal length in
    pixels of the frame, 0 for the clip's own. Raises `SourceError` where it is not known, or is
    that of no camera."""
    if stated:
        require_plausible((stated, stated), size, "focal_px")
        return input_focal((stated, stated), size, net) / FOCAL
    matrix = intrinsics_of(clip)
    if matrix is None:
        raise SourceError(
            f"the focal length of camera {clip.camera.name!r} is not known",
            remedy="give --set focal_px=..., or name intrinsics_key in the data set's schema",
        )
    focal = float(matrix[0, 0]), float(matrix[1, 1])
    require_plausible(focal, size, f"the intrinsics of camera {clip.camera.name!r}")
    return input_focal(focal, size, net) / FOCAL


def intrinsics_of(clip: FrameClip) -> Float[np.ndarray, "3 3"] | None:
    """Those of a clip's camera, in pixels; None where no focal length is known."""
    matrix = getattr(clip, "intrinsics", None)
    if matrix is None or not all(0 < matrix[axis, axis] < np.inf for axis in (0, 1)):
        return None
    return matrix


def require_plausible(focal: tuple[float, float], size: Size, whose: str) -> None:
    """Raises `SourceError` for a focal length that no camera has in pixels of frames of this size:
    one in shares of a side, or in another unit, would make metres of another scale."""
    longer = max(size)
    if not all(SHORTEST * longer <= length <= LONGEST * longer for length in focal):
        raise SourceError(
            f"{whose}: a focal length of {focal[0]:g} and {focal[1]:g} px is that of no camera "
            f"with frames of {size[1]} x {size[0]} px: it is in another unit, or of another size",
            remedy="give --set focal_px=..., in pixels of the frame",
        )
