"""A simulator with another view, robot start, noise: in its world, and nowhere else."""

import hashlib
import os
import platform
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.sim import suites
from pipelines.sim.noise import noisy
from pipelines.sim.perturb import Ranges, robot_start
from pipelines.sim.recording import variations
from pipelines.sim.variation import PLAIN, Variation, Viewpoint
from tests.pipelines.sim.conftest import made
from tests.pipelines.sim.test_libero import ACTIONS, true_view


def digest(simulator) -> str:
    return hashlib.sha256(simulator.save().tobytes()).hexdigest()[:16]


@pytest.fixture
def varied(drawer):
    """Varies the simulator, until the test ends."""
    yield lambda **parts: drawer.vary(replace(drawer.task, variation=Variation(**parts)))
    drawer.vary(replace(drawer.task, variation=PLAIN))


def states():
    """Digests of the states after a reset and after some actions, from two views."""
    with contextmanager(made)("libero_spatial", 4) as drawer:
        for view in (None, Viewpoint(orbit=30.0)):
            drawer.vary(replace(drawer.task, variation=Variation(view=view)))
            drawer.reset(7, 0)
            yield digest(drawer)
            for action in ACTIONS:
                drawer.step(action)
            yield digest(drawer)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these kernels are of x86-64")
def test_states_are_those_of_earlier_versions_from_every_view(drawer):
    """Bit for bit: nothing is left out of the physics, and a view does not touch it.

    OpenBLAS rounds the controller's matrices as its kernels for this CPU do: all take the same.
    """
    code = "from tests.pipelines.sim.test_varied import states; print(*states())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OPENBLAS_CORETYPE": "Haswell"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["8b03b01927e0d8c1", "87795a0ee678f024"] * 2


@pytest.mark.parametrize("view", [Viewpoint(orbit=40.0, height=15.0), Viewpoint(turn=8, tilt=-6)])
def test_a_moved_camera_sees_the_same_table(drawer, varied, view):
    drawer.reset(7, 0)
    usual = drawer.lens("image").to_world
    varied(view=view)
    moved = drawer.lens("image").to_world
    assert np.abs(moved - usual).max() > 0.05
    _, classes, world = true_view(drawer)
    model = drawer.env.sim.model
    table = model.geom_name2id("table_collision")
    top = drawer.env.sim.data.geom_xpos[table][2] + model.geom_size[table][2]
    background = world[classes == 0][:, 2]
    assert np.mean(np.abs(background - top) < 0.004) > 0.2
    varied()
    assert np.array_equal(drawer.lens("image").to_world, usual)


def test_official_states_do_not_undo_a_robot_start(drawer, varied):
    """They hold the joints, too, and would leave 1 cm of a start that is 20 cm away."""
    drawer.reset(7, 0)
    usual_hand, usual_joints = drawer.proprio()[:3], drawer.joints()
    start = robot_start(420)
    varied(start=start)
    for init_state in (0, None):
        drawer.reset(7, init_state)
        assert np.linalg.norm(drawer.joints() - start.joints) < 0.1
        assert np.linalg.norm(drawer.joints() - usual_joints) > 0.4
        assert np.linalg.norm(drawer.proprio()[:3] - usual_hand) > 0.1
    varied()
    drawer.reset(7, 0)
    assert np.array_equal(drawer.joints(), usual_joints)


def test_noise_is_on_the_main_picture_only_and_the_same_whenever_it_is_rendered(drawer, varied):
    drawer.reset(7, 0)
    clean, wrist = drawer.render("image"), drawer.render("wrist_image")
    varied(noise=14)
    drawer.reset(7, 0)
    seen = drawer.render("image")
    expected = noisy(clean.rgb[::-1, ::-1], 14, [7, 10])[::-1, ::-1]
    assert np.array_equal(seen.rgb, expected)
    assert np.array_equal(drawer.render("image").rgb, seen.rgb)
    assert np.array_equal(seen.depth_m, clean.depth_m)
    assert np.array_equal(drawer.render("wrist_image").rgb, wrist.rgb)


def test_a_motion_is_seen_from_several_views(drawer, varied):
    ranges = Ranges("orbit -15:15, distance 100:130", "0.1:0.2")
    drawer.vary(replace(drawer.task, variation=ranges.draw(3)))
    poses, labels = [], []
    for label in variations(drawer, ranges, 3, 3):
        poses.append(drawer.lens("image").to_world[:3, 3])
        labels.append(label)
        assert drawer.task.variation.start == ranges.draw(3).start
    assert len({tuple(pose) for pose in poses}) == len(set(labels)) == 3
    assert labels[0].startswith("_view-")
    assert list(variations(drawer, Ranges(), 3, 1)) == [""]


def test_another_scene_is_no_variation(drawer):
    with pytest.raises(ValueError, match="not a variation"):
        drawer.vary(suites.task("libero_goal", 8))
