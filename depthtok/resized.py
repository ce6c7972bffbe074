"""Depth turned, cut and at another size, with what of it is valid."""

from __future__ import annotations

import numpy as np

from depthtok.data import DepthClip, ImageTransform


def transformed(clip: DepthClip, transform: ImageTransform) -> DepthClip:
    """Distances by nearest pixel, disparity bilinear; a pixel is valid where all that it comes from
    is. Without quantiles: those of the whole are not those of a part."""
    values = transform.depth(clip.values, clip.kind)
    valid = transform.depth(clip.valid.astype(np.float32), clip.kind) > 0.999
    return DepthClip.of(values, clip.kind, valid, clip.shift)


def at_size(clip: DepthClip, size: tuple[int, int]) -> DepthClip:
    """The same at another size: height and width, px."""
    return transformed(clip, ImageTransform(size=size))
