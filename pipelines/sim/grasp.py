"""Ranked grasp candidates for a two-finger gripper that points down.

Two kinds. *Body*: the fingers close around the object, where some slice of it is narrow enough.
*Rim*: one finger inside and one outside, for bowls and the like. Each candidate is scored by how
much of the scene the fingers and the hand would collide with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

Points = Float64[np.ndarray, "n 3"]
Obstacles = Float64[np.ndarray, "m 3"]
Point = Float64[np.ndarray, " 3"]
Coordinates = Float64[np.ndarray, " n"]
Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

WIDEST_M = 0.074  # widest object that can be held
SLICE_M = 0.012  # half the height over which a width is measured
TIP_M = 0.012  # how far the fingertips reach below the grasp point
RIM_DEPTH_M = 0.018  # depth of the grasp point below the rim
# Boxes around the hand: along the closing axis, across it, and up; each (from, to).
FINGERS_M = ((0.038, 0.062), (-0.013, 0.013), (-TIP_M, 0.06))
HAND_M = ((-0.105, 0.105), (-0.035, 0.035), (0.06, 0.18))


@dataclass(frozen=True)
class Grasp:
    """The point between the fingertips, their closing direction (rad, from the world's x towards y,
    modulo half a turn), and a cost: lower is better."""

    position: Point
    direction: float
    cost: float


def candidates(surface: Points, obstacles: Obstacles, straight: float) -> list[Grasp]:
    """Grasps of the object with this surface, best first. `straight` is the current closing
    direction: less turning is better."""
    middle = surface.mean(axis=0)
    near = obstacles[np.linalg.norm(obstacles[:, :2] - middle[:2], axis=1) < 0.25]
    scene = np.concatenate([surface, near])
    grasps = []
    for position, direction, cost in (*_around_body(surface), *_on_rim(surface)):
        turn = abs(turned(direction, straight))
        bumps = _inside(scene, position, direction).sum()
        cost += 0.3 * turn + 0.02 * bumps
        grasps.append(Grasp(position, direction, float(cost)))
    return sorted(grasps, key=lambda grasp: grasp.cost)


def diverse(grasps: list[Grasp], count: int) -> list[Grasp]:
    """The best grasps that differ from each other by 2 cm or 20 degrees."""
    chosen: list[Grasp] = []
    for grasp in grasps:
        if all(_differ(grasp, better) for better in chosen):
            chosen.append(grasp)
        if len(chosen) == count:
            break
    return chosen


def turned(direction: float, start: float) -> float:
    """The smallest rotation (rad) of the closing direction from `start` to `direction`."""
    return (direction - start + np.pi / 2) % np.pi - np.pi / 2


def _differ(a: Grasp, b: Grasp) -> bool:
    turn = abs(turned(a.direction, b.direction))
    return bool(np.linalg.norm(a.position - b.position) > 0.02 or turn > np.radians(20))


def _around_body(surface: Points) -> Iterator[tuple[Point, float, float]]:
    """Position, direction and cost of grasps around slices that are narrow enough."""
    low, high = surface[:, 2].min(), surface[:, 2].max()
    heights = np.arange(low + TIP_M + 0.002, max(high - 0.004, low + TIP_M + 0.003), 0.01)
    preferred = low + 0.6 * (high - low)
    for height in heights:
        points = surface[np.abs(surface[:, 2] - height) < SLICE_M, :2]
        if len(points) < 20:
            continue
        for direction in np.arange(0, np.pi, np.pi / 18):
            axis = np.array([np.cos(direction), np.sin(direction)])
            across = np.array([-axis[1], axis[0]])
            along, side = points @ axis, points @ across
            width = np.ptp(along)
            if width > WIDEST_M:
                continue
            centre = axis * (along.min() + width / 2) + across * (side.min() + np.ptp(side) / 2)
            cost = 4 * width + 4 * abs(height - preferred)
            yield np.append(centre, height), float(direction), cost


def _on_rim(surface: Points) -> Iterator[tuple[Point, float, float]]:
    """Position, direction and cost of grasps of the upper rim, all around it."""
    top = surface[:, 2].max()
    rim = surface[surface[:, 2] > top - 0.008, :2]
    centre = (rim.min(axis=0) + rim.max(axis=0)) / 2
    offset = rim - centre
    radius, angle = np.linalg.norm(offset, axis=1), np.arctan2(offset[:, 1], offset[:, 0])
    for direction in np.arange(-np.pi, np.pi, np.pi / 12):
        sector = np.abs((angle - direction + np.pi) % (2 * np.pi) - np.pi) < np.radians(10)
        if not sector.any() or radius[sector].mean() < 0.025:
            continue
        point = centre + radius[sector].mean() * np.array([np.cos(direction), np.sin(direction)])
        yield np.append(point, top - RIM_DEPTH_M), float(direction), 0.45


def _inside(scene: Points, position: Point, direction: float) -> Bool[np.ndarray, " n"]:
    """Which points are inside the open fingers or the hand."""
    cos, sin = np.cos(direction), np.sin(direction)
    x, y, up = (scene - position).T
    along, across = x * cos + y * sin, y * cos - x * sin
    fingers = _within(np.abs(along), across, up, FINGERS_M)
    return fingers | _within(along, across, up, HAND_M)


def _within(
    along: Coordinates, across: Coordinates, up: Coordinates, box: Box
) -> Bool[np.ndarray, " n"]:
    parts = zip((along, across, up), box, strict=True)
    return np.all([(low < values) & (values < high) for values, (low, high) in parts], axis=0)
