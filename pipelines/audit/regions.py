"""Regions of an image where errors of depth are counted apart: near steps, and around marks."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

EDGE = 0.1  # relative step of depth between neighbouring pixels
EDGE_REACH = 2  # px around an edge


def edges(
    depth: Float32[np.ndarray, "n H W"], valid: Bool[np.ndarray, "n H W"]
) -> Bool[np.ndarray, "n H W"]:
    """Pixels near a depth step between neighbours."""
    logs = np.log(depth)
    marks = np.zeros(depth.shape, bool)
    for axis in (1, 2):
        valid_view = np.moveaxis(valid, axis, 1)
        step = np.abs(np.diff(np.moveaxis(logs, axis, 1), axis=1)) > EDGE
        step &= valid_view[:, 1:] & valid_view[:, :-1]
        view = np.moveaxis(marks, axis, 1)
        view[:, 1:] |= step
        view[:, :-1] |= step
    return dilated(marks, EDGE_REACH - 1)


def dilated(marks: Bool[np.ndarray, "n H W"], reach: int) -> Bool[np.ndarray, "n H W"]:
    """Pixels at most `reach` steps (up, down, left, right) from a marked one."""
    for _ in range(reach):
        wider = marks.copy()
        wider[:, 1:] |= marks[:, :-1]
        wider[:, :-1] |= marks[:, 1:]
        wider[:, :, 1:] |= marks[:, :, :-1]
        wider[:, :, :-1] |= marks[:, :, 1:]
        marks = wider
    return marks
