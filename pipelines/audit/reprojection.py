"""Temporal alignment error: depth carried from frame to frame by the camera's poses, and compared.

As Video-Depth-Anything's TAE: the depth of frame t (after the clip's one scale and shift) becomes
points, these are seen from the pose of frame t + 1 (and the reverse), and their depth there is
compared with the estimate at the pixel where they fall, as a share of it. Two things differ, since
robots move and hide things: only pixels count whose true depth agrees with itself in this way
(within `STILL`), and an estimate equal to the truth so has an error below `STILL`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from pipelines.audit.audit import STILL, Pair, blocks_of, read_both
from pipelines.audit.fit import Fit, as_fitted
from pipelines.audit.height import Rays

FRONT = 1e-6  # metres before the camera from which a point is seen


@dataclass(frozen=True)
class Seen:
    """Points of one frame as another frame's camera sees them: row, column and depth in metres of
    each, and whether it falls into the image."""

    rows: Int64[np.ndarray, "H W"]
    columns: Int64[np.ndarray, "H W"]
    depth: Float[np.ndarray, "H W"]
    inside: Bool[np.ndarray, "H W"]


def temporal_alignment_error(pair: Pair, fit: Fit) -> float | None:
    """The mean relative error over pixels, frames and both directions. None where poses or
    intrinsics are not known, or no pixel counts."""
    if pair.poses is None or pair.rays is None:
        return None
    total, count = 0.0, 0
    for start, stop in blocks_of(pair.frames):
        stop = min(stop + 1, pair.frames)  # the first frame of the next block is its partner
        estimated, true, valid = read_both(pair, start, stop, as_fitted)
        depth, metres = fit.depth(estimated), 1 / np.where(valid, true, np.float32(1))
        rays = resized(pair.rays, (valid.shape[1], valid.shape[2]))
        for one in range(stop - start - 1):
            for here, there in ((one, one + 1), (one + 1, one)):
                motion = np.linalg.inv(pair.poses[start + there]) @ pair.poses[start + here]
                both = [here, there]
                errors = _errors(depth[both], metres[both], valid[both], motion, rays)
                total, count = total + float(errors.sum()), count + len(errors)
    return total / count if count else None


def _errors(
    depth: Float32[np.ndarray, "2 H W"],
    true: Float32[np.ndarray, "2 H W"],
    valid: Bool[np.ndarray, "2 H W"],
    motion: Float[np.ndarray, "4 4"],
    rays: Rays,
) -> Float[np.ndarray, " n"]:
    """The relative errors of one frame's pixels in the next one, where the truth stands still."""
    of_truth = carried(true[0], motion, rays)
    there = true[1][of_truth.rows, of_truth.columns]
    counts = valid[0] & of_truth.inside & valid[1][of_truth.rows, of_truth.columns]
    counts &= np.abs(of_truth.depth - there) < STILL * there
    points = carried(depth[0], motion, rays)
    counts &= points.inside & valid[1][points.rows, points.columns]
    met = depth[1][points.rows, points.columns]
    return (np.abs(points.depth - met) / met)[counts]


def carried(
    depth: Float32[np.ndarray, "H W"], motion: Float[np.ndarray, "4 4"], rays: Rays
) -> Seen:
    """The points of a depth map (m) after `motion`, from this camera's axes to the other's."""
    u, v = np.meshgrid(rays.u, rays.v)
    points = np.stack([u * depth, v * depth, depth], axis=-1).astype(np.float64)
    points = points @ motion[:3, :3].T + motion[:3, 3]
    z = np.maximum(points[..., 2], FRONT)
    columns = _positions(points[..., 0] / z, rays.u)
    rows = _positions(points[..., 1] / z, rays.v)
    inside = (points[..., 2] > FRONT) & (rows >= 0) & (rows < len(rays.v))
    inside &= (columns >= 0) & (columns < len(rays.u))
    return Seen(np.where(inside, rows, 0), np.where(inside, columns, 0), z, inside)


def _positions(
    slopes: Float[np.ndarray, "H W"], of_pixels: Float[np.ndarray, " n"]
) -> Int64[np.ndarray, "H W"]:
    """The pixels nearest to slopes, along one side; the slopes of its pixels are evenly spaced."""
    step = (of_pixels[-1] - of_pixels[0]) / max(len(of_pixels) - 1, 1)
    far = len(of_pixels) + 1.0
    return np.rint(np.clip((slopes - of_pixels[0]) / step, -far, 2 * far)).astype(np.int64)


def resized(rays: Rays, size: tuple[int, int]) -> Rays:
    """The rays of the same view in another number of pixels, height and width."""

    def spread(slopes: Float[np.ndarray, " n"], pixels: int) -> Float[np.ndarray, " m"]:
        step = (slopes[-1] - slopes[0]) / max(len(slopes) - 1, 1)
        return slopes[0] + step * ((np.arange(pixels) + 0.5) * len(slopes) / pixels - 0.5)

    return Rays(spread(rays.u, size[1]), spread(rays.v, size[0]))
