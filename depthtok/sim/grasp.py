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
Point = Float64[np.ndarray, " 3"]

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


def candidates(own: Points, others: Points, straight: float) -> list[Grasp]:
    """Grasps of the object whose surface is `own`, best first. `straight` is the current closing
    direction: less turning is better."""
    middle = own.mean(axis=0)
    near = others[np.linalg.norm(others[:, :2] - middle[:2], axis=1) < 0.25]
    scene = np.concatenate([own, near])
    found = []
    for position, direction, cost in (*_around_body(own), *_on_rim(own)):
        turn = abs(turned(direction, straight))
        bumps = _inside(scene, position, direction).sum()
        cost += 0.3 * turn + 0.02 * bumps
        found.append(Grasp(position, direction, float(cost)))
    return sorted(found, key=lambda grasp: grasp.cost)


def diverse(grasps: list[Grasp], count: int) -> list[Grasp]:
    """The best grasps that differ from each other by 2 cm or 20 degrees."""
    chosen: list[Grasp] = []
    for grasp in grasps:
        if all(_differ(grasp, other) for other in chosen):
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


def _around_body(own: Points) -> Iterator[tuple[Point, float, float]]:
    low, high = own[:, 2].min(), own[:, 2].max()
    heights = np.arange(low + TIP_M + 0.002, max(high - 0.004, low + TIP_M + 0.003), 0.01)
    preferred = low + 0.6 * (high - low)
    for height in heights:
        inside = own[np.abs(own[:, 2] - height) < SLICE_M, :2]
        if len(inside) < 20:
            continue
        for direction in np.arange(0, np.pi, np.pi / 18):
            axis = np.array([np.cos(direction), np.sin(direction)])
            across = np.array([-axis[1], axis[0]])
            along, side = inside @ axis, inside @ across
            width = np.ptp(along)
            if width > WIDEST_M:
                continue
            centre = axis * (along.min() + width / 2) + across * (side.min() + np.ptp(side) / 2)
            cost = 4 * width + 4 * abs(height - preferred)
            yield np.append(centre, height), float(direction), cost


def _on_rim(own: Points) -> Iterator[tuple[Point, float, float]]:
    top = own[:, 2].max()
    rim = own[own[:, 2] > top - 0.008, :2]
    centre = (rim.min(axis=0) + rim.max(axis=0)) / 2
    offset = rim - centre
    radius, angle = np.linalg.norm(offset, axis=1), np.arctan2(offset[:, 1], offset[:, 0])
    for direction in np.arange(-np.pi, np.pi, np.pi / 12):
        sector = np.abs((angle - direction + np.pi) % (2 * np.pi) - np.pi) < np.radians(10)
        if not sector.any() or radius[sector].mean() < 0.025:
            continue
        place = centre + radius[sector].mean() * np.array([np.cos(direction), np.sin(direction)])
        yield np.append(place, top - RIM_DEPTH_M), float(direction), 0.45


def _inside(scene: Points, position: Point, direction: float) -> Bool[np.ndarray, " n"]:
    """Which points are inside the open fingers or the hand."""
    cos, sin = np.cos(direction), np.sin(direction)
    x, y, up = (scene - position).T
    along, across = x * cos + y * sin, y * cos - x * sin
    fingers = _within(np.abs(along), across, up, FINGERS_M)
    return fingers | _within(along, across, up, HAND_M)


def _within(along, across, up, box) -> Bool[np.ndarray, " n"]:
    parts = zip((along, across, up), box, strict=True)
    return np.all([(low < values) & (values < high) for values, (low, high) in parts], axis=0)
