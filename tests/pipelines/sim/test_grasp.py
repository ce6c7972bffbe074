"""Grasps of shapes whose answer is known."""

import numpy as np
import pytest

from pipelines.sim import grasp

NOTHING = np.empty((0, 3))


def box(size, centre, count=3000):
    """Points on the surface of an upright box."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (count, 3))
    face = rng.integers(0, 3, count)
    points[np.arange(count), face] = rng.choice([-0.5, 0.5], count)
    return points * size + centre


def bowl(radius=0.055, height=0.05, count=4000):
    """Points on the wall of an open cone."""
    rng = np.random.default_rng(0)
    angle, up = rng.uniform(-np.pi, np.pi, count), rng.random(count)
    r = radius * (0.4 + 0.6 * up)
    return np.stack([r * np.cos(angle), r * np.sin(angle), height * up], axis=1)


def test_a_box_is_held_across_its_narrow_side():
    best = grasp.candidates(box([0.2, 0.04, 0.08], [0.1, 0.2, 0.04]), NOTHING, 0.0)[0]
    assert abs(grasp.turned(best.direction, np.pi / 2)) < np.radians(11)
    assert best.position[:2] == pytest.approx([0.1, 0.2], abs=0.005)


def test_a_bowl_is_held_at_its_rim():
    best = grasp.candidates(bowl(), NOTHING, 0.0)[0]
    assert np.linalg.norm(best.position[:2]) == pytest.approx(0.052, abs=0.006)
    assert best.position[2] == pytest.approx(0.05 - grasp.RIM_DEPTH_M, abs=0.002)


def test_neighbours_push_the_grasp_away():
    free = grasp.candidates(bowl(), NOTHING, 0.0)[0]
    side = np.sign(free.position[0])
    wall = box([0.02, 0.3, 0.3], [0.075 * side, 0, 0.15])
    beside = grasp.candidates(bowl(), wall, 0.0)[0]
    assert free.position[0] * side > 0.04
    assert beside.position[0] * side < 0.03


def test_the_best_ones_differ():
    chosen = grasp.diverse(grasp.candidates(bowl(), NOTHING, 0.0), 6)
    assert len(chosen) == 6
    gaps = [np.linalg.norm(a.position - b.position) for a in chosen for b in chosen if a is not b]
    assert min(gaps) > 0.01


@pytest.mark.parametrize(
    ("direction", "start", "turn"), [(0.1, 0.0, 0.1), (np.pi, 0.1, -0.1), (3.0, 0.0, 3.0 - np.pi)]
)
def test_half_a_turn_is_none(direction, start, turn):
    assert grasp.turned(direction, start) == pytest.approx(turn)
