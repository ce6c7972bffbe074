"""Meta-World: starts that repeat, true depth and pose of an upright view, one recorded episode and
one evaluated trial."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import depthtok
from depthtok.config import RunOptions
from depthtok.errors import ConfigError
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.schema import Schema
from depthtok.stores.episodes import EpisodeStore
from pipelines.sim import setup
from pipelines.sim.benchmark import benchmark_of, numbered
from pipelines.sim.config import CollectConfig, EvalConfig
from pipelines.sim.simulator import CLASSES

NAME = "drawer-close-v3"
SIZE = 96


@pytest.fixture(scope="module", autouse=True)
def installed():
    if problem := setup.missing("metaworld"):
        pytest.skip(f"META-WORLD IS NOT TESTED: {problem}")
    if "tensorflow" in sys.modules:
        pytest.skip("TensorFlow and the software renderer do not share a process")


@pytest.fixture(scope="module")
def task(installed):
    tasks = benchmark_of("metaworld_mt50").tasks("metaworld_mt50")
    assert len(tasks) == 50
    return next(task for task in tasks if task.name == NAME)


@pytest.fixture(scope="module")
def world(task):
    simulator = benchmark_of(task.suite).open(task, SIZE, 2)
    yield simulator
    simulator.close()


def test_tasks_and_their_limits(task):
    assert (task.instruction, task.max_steps, task.init_states) == ("drawer close", 500, 50)
    ten = benchmark_of("metaworld_mt10").tasks("metaworld_mt10")
    assert [one.name for one in ten][:3] == ["button-press-topdown-v3", "door-open-v3", NAME]
    with pytest.raises(ConfigError, match="no task 50"):
        numbered("metaworld_mt50", 50)
    with pytest.raises(ConfigError, match="not varied"):
        benchmark_of("metaworld_mt50").ranges("orbit -15:15", "")


def test_starts_repeat_bit_by_bit(world):
    def start(seed, init_state):
        world.reset(seed, init_state)
        return world.save()

    official, drawn = start(1, 3), start(1, None)
    assert np.array_equal(official, start(2, 3))
    assert np.array_equal(drawn, start(1, None))
    assert not np.array_equal(official, start(1, 0))
    assert not np.array_equal(drawn, start(2, None))


def test_the_table_is_where_depth_and_pose_say(world):
    world.reset(0, 0)
    view, lens = world.render("image", segmentation=True), world.lens("image")
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    pixels = np.stack([columns, rows, np.ones_like(rows)], -1)
    points = (pixels @ np.linalg.inv(lens.intrinsics).T) * view.depth_m[..., None]
    heights = (points @ lens.to_world[:3, :3].T + lens.to_world[:3, 3])[..., 2]
    table = heights[(np.abs(heights) < 0.01) & (view.segmentation == 0)]
    assert table.size > 0.1 * SIZE * SIZE
    assert abs(np.median(table)) < 1e-3
    assert lens.to_world[2, 1] < 0  # downwards in the image is downwards in the world
    assert np.linalg.det(lens.to_world[:3, :3]) == pytest.approx(1)
    assert set(np.unique(view.segmentation)) >= {CLASSES.index("robot"), CLASSES.index("objects")}


def test_states_are_restored(world):
    world.reset(0, 0)
    state, before = world.save(), world.render("image").rgb
    assert world.proprio() == pytest.approx(world.observation[:4], abs=1e-6)
    for _ in range(5):
        world.step(np.array([1, 0, 0, 1], np.float32))
    assert not np.array_equal(world.render("image").rgb, before)
    world.restore(state)
    assert np.array_equal(world.render("image").rgb, before)


def test_one_episode_is_recorded(task, tmp_path):
    from pipelines import collect, run

    config = CollectConfig(suite=task.suite, tasks=str(task.number), episodes=1, size=32, noise=0.0)
    outcome = run.run(collect.CollectStage(tmp_path, config), RunOptions(workers=0))
    assert (outcome.made, outcome.exit_code) == (1, 0)
    data = RldsDirectory.open(tmp_path)
    (shard,) = data.splits["train"].shards
    raw = next(data.records(shard))
    assert Schema.find(data.name) is not None
    assert raw.values("steps/action").shape == (outcome.steps, 4)
    assert raw.values("steps/observation/state").shape == (outcome.steps, 4)
    assert 20 < outcome.steps < 200
    depthtok.convert(tmp_path, out=tmp_path / "episodes")
    (episode,) = EpisodeStore(tmp_path / "episodes")
    assert episode.action.shape == (outcome.steps, 4)
    assert 0.5 < np.median(episode.frames("image").true_depth(0, 1)) < 3


def test_a_trial_repeats_what_the_expert_did_from_its_start(task, world):
    from pipelines.evaluate.protocol import Protocol
    from pipelines.sim.rollout import play

    settings = EvalConfig(suite=task.suite, tasks=str(task.number), trials=2, replan_steps=500)
    protocol = Protocol.of(settings)
    card, job = protocol.card(), protocol.jobs[1]
    assert card["different_states"] == {str(task.number): 2}
    assert (card["max_steps"], card["orientation"]) == (500, "upright")
    expert = benchmark_of(task.suite).expert
    motion = expert.demonstrate(world, seed=5, noise=0.0, variety=0.0, init_state=1).motion
    assert motion.success

    class Repeater:
        cameras = ("image",)

        def reset(self, seed):
            pass

        def act(self, observation):
            return motion.actions

    rollout = play(world, Repeater(), job.trial)
    assert (rollout.success, rollout.steps) == (True, len(motion))
