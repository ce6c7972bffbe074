"""Depth at another size, with what of it is valid."""

from __future__ import annotations

import numpy as np

from depthtok.data import DepthClip, ImageTransform


def at_size(clip: DepthClip, size: tuple[int, int]) -> DepthClip:
    """Distances by nearest pixel, disparity bilinear; a pixel is valid where all that it comes from
    is. `size` is height and width, px."""
    resize = ImageTransform(size=size)
    values = resize.depth(clip.values, clip.kind)
    valid = resize.depth(clip.valid.astype(np.float32), clip.kind) > 0.999
    return DepthClip.of(values, clip.kind, valid, clip.shift)
