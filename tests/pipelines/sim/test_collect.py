"""Collecting: one real episode as RLDS, and everything around it with a recorder that is quick."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from depthtok.config import RunOptions
from depthtok.errors import ConfigError, SourceError, StaleStore
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.schema import Schema
from depthtok.testing import tree_digest
from pipelines.sim.benchmark import ShownMotion
from pipelines.sim.config import CollectConfig, EvalConfig, numbers
from pipelines.sim.libero_benchmark import LiberoBenchmark
from pipelines.sim.motion import Motion
from pipelines.sim.simulator import CLASSES
from tests.pipelines.sim import quick_runs

HERE = RunOptions(workers=0)


def episode(place):
    data = RldsDirectory.open(place)
    (shard,) = data.splits["train"].shards
    return data, next(data.records(shard))


def test_the_data_set_has_the_schema_of_libero_with_depth(demos):
    data, raw = episode(demos)
    schema = Schema.find(data.name).fitted(data.features, data.name)
    assert [camera.name for camera in schema.cameras] == ["image", "wrist_image"]
    assert schema.action(raw).shape == (len(raw), 7)
    assert schema.proprio(raw).shape == (len(raw), 8)
    assert set(schema.instructions_of(raw)) == {
        ("pick up the alphabet soup and place it in the basket",)
    }
    assert raw.values("episode_metadata/init_state_index") == -1
    assert "drawn placements" in data.description


def test_a_success_ends_with_its_reward(demos):
    _, raw = episode(demos)
    reward = raw.values("steps/reward")
    assert reward[-1] == 1
    assert reward.sum() == 1
    assert raw.values("episode_metadata/success")
    assert raw.values("steps/is_last").tolist() == [False] * (len(raw) - 1) + [True]
    assert np.abs(raw.values("steps/action")).max() <= 1


def test_the_wrist_camera_moves_with_the_hand(demos):
    _, raw = episode(demos)
    poses = raw.values("steps/observation/wrist_camera_to_world").reshape(-1, 4, 4)
    hands = raw.values("steps/observation/state")[:, :3]
    offsets = np.linalg.norm(poses[:, :3, 3] - hands, axis=1)
    assert np.ptp(hands, axis=0).max() > 0.1
    assert np.ptp(offsets) < 0.002
    assert np.allclose(poses[:, :3, :3] @ poses[:, :3, :3].swapaxes(1, 2), np.eye(3), atol=1e-5)


def test_depth_is_metres_and_classes_are_there(demos):
    _, raw = episode(demos)
    depth = raw.values("steps/observation/depth") / 1000
    wrist = raw.values("steps/observation/wrist_depth") / 1000
    assert 0.4 < depth.min() < depth.max() < 4
    assert 0.02 < wrist.min() < 0.1
    assert set(np.unique(raw.values("steps/observation/segmentation"))) <= set(range(len(CLASSES)))
    assert raw.values("steps/observation/image").std() > 20


def test_a_demonstration_in_the_official_form_is_replayed(demos, simulator, tmp_path):
    """A file as the benchmark's authors publish them, made of the recorded episode."""
    h5py = pytest.importorskip("h5py")
    from pipelines.sim import demos as official
    from pipelines.sim.motion import perform

    simulator.reset(0, 5)
    _, raw = episode(demos)
    simulator.reset(int(raw.values("episode_metadata/env_seed")))
    actions = raw.values("steps/action")
    motion = perform(simulator, actions, limit=len(actions))
    assert motion.success  # the recorded actions alone bring it about
    idle = np.insert(motion.actions, [4, 9], np.append(np.zeros(6), -1), axis=0)
    path = tmp_path / f"{simulator.task.name}_demo.hdf5"
    with h5py.File(path, "w") as file:
        group = file.create_group("data/demo_0")
        group["states"], group["actions"] = motion.states, idle
        group.attrs["model_file"] = ElementTree.tostring(simulator.env.model.root)
    assert official.task_of(path) == simulator.task
    assert official.count(path) == 1
    again = official.replay(simulator, official.read(path, 0))
    assert again.success
    assert np.array_equal(again.actions, motion.actions)


@pytest.fixture
def quick(monkeypatch, simulator):
    """Recording without physics or rendering; every third episode of a task fails."""
    from pipelines import collect

    calls = []

    class Expert(quick_runs.QuickExpert):
        def demonstrate(self, simulator, *, seed, noise, variety, init_state):
            calls.append((simulator.task.number, seed, init_state))
            nth = sum(task == simulator.task.number for task, *_ in calls)
            motion = Motion(np.zeros((3, 5)), np.zeros((3, 7), np.float32), nth % 3 != 0)
            return ShownMotion(motion, 0.0, {})

    class Benchmark(quick_runs.QuickBenchmark):
        versions = LiberoBenchmark.versions

    monkeypatch.setattr(collect, "benchmark_of", lambda suite: Benchmark(expert=Expert()))
    monkeypatch.setattr(collect, "film", quick_runs.film)
    return calls


def run(place, options=HERE, **settings):
    from pipelines import collect
    from pipelines.run import run as run_stage

    config = CollectConfig(**{"tasks": "0-1", "episodes": 3, "size": 16, **settings})
    return run_stage(collect.CollectStage(place, config), options)


def test_failures_are_kept_apart_and_nothing_is_done_twice(quick, tmp_path):
    first = run(tmp_path, RunOptions(limit=2))
    assert (first.made, first.left) == (2, 4)
    assert not (tmp_path / "dataset_info.json").exists()
    outcome = run(tmp_path, episodes_per_shard=3)
    assert (outcome.made, outcome.kept, outcome.exit_code) == (4, 2, 1)
    assert len(quick) == 6
    data = RldsDirectory.open(tmp_path)
    assert [shard.episodes for shard in data.splits["train"].shards] == [3, 1]
    assert data.description.startswith("4 of 6 episodes")
    assert RldsDirectory.open(tmp_path / "failed").splits["train"].episodes == 2
    assert {failure.reason for failure in outcome.failures} == {"not solved in 3 steps"}
    assert len({seed for _, seed, _ in quick}) == 6


def test_an_episode_that_an_error_ended_is_no_success(quick, tmp_path, monkeypatch):
    from pipelines import collect

    def film(simulator, motion, origin, layout):
        if len(quick) == 1:
            raise SourceError("the picture is lost")
        return quick_runs.film(simulator, motion, origin, layout)

    monkeypatch.setattr(collect, "film", film)
    outcome = run(tmp_path)
    assert (outcome.episodes, len(outcome.failures)) == (3, 3)
    assert RldsDirectory.open(tmp_path).description.startswith("3 of 6 episodes")
    assert RldsDirectory.open(tmp_path / "failed").splits["train"].episodes == 2
    quick.clear()
    with pytest.raises(SourceError, match=r"none of 1 episodes succeeded\n"):
        run(tmp_path / "other", tasks="0", episodes=1)
    assert not (tmp_path / "other/dataset_info.json").exists()


def test_the_same_episodes_give_the_same_bytes(quick, tmp_path):
    for name in "ab":
        run(tmp_path / name, episodes=2)
        quick.clear()
    for path in (tmp_path / "a").glob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_official_initial_states_are_asked_for_and_recorded(quick, tmp_path):
    run(tmp_path / "a", episodes=2, official_init_states=True)
    assert [init for *_, init in quick] == [0, 1, 0, 1]
    spec = json.loads((tmp_path / "a/recording/zarr.json").read_text())["attributes"]["depthtok"]
    assert spec["what"]["official_init_states"] is True
    assert "official initial states" in RldsDirectory.open(tmp_path / "a").description
    with pytest.raises(StaleStore, match="official_init_states"):
        run(tmp_path / "a", episodes=2)


def test_a_data_set_that_is_there_is_not_written_again(quick, tmp_path):
    run(tmp_path)
    shard = next(tmp_path.glob("*.tfrecord-*"))
    info, before = tmp_path / "dataset_info.json", tree_digest(tmp_path)
    times = shard.stat().st_mtime_ns, info.stat().st_mtime_ns
    run(tmp_path)
    assert (shard.stat().st_mtime_ns, info.stat().st_mtime_ns) == times
    shard.unlink()
    run(tmp_path)
    assert tree_digest(tmp_path) == before
    run(tmp_path, episodes_per_shard=1)
    assert len(list(tmp_path.glob("*.tfrecord-*"))) == 4


def test_nothing_succeeded(quick, tmp_path, monkeypatch):
    quick.extend([(0, 0, None)] * 2)  # the next one is a third
    with pytest.raises(SourceError, match="none of 1"):
        run(tmp_path, tasks="0", episodes=1)


def test_tasks_that_are_not_there(simulator, tmp_path):
    with pytest.raises(ConfigError, match="no task 12"):
        run(tmp_path, tasks="12")
    with pytest.raises(ConfigError, match="libero_objekt"):
        run(tmp_path, suite="libero_objekt")


def test_tasks_that_ask_for_more_are_left_out_or_refused(simulator, tmp_path):
    from pipelines.collect import CollectStage

    stage = CollectStage(tmp_path, CollectConfig(suite="libero_goal"))
    assert stage.left_out == "0, 3, 7"
    assert list(stage.tasks) == [1, 2, 4, 5, 6, 8, 9]
    asked = CollectStage(tmp_path, CollectConfig(suite="libero_goal", tasks="0,3,8"))
    with pytest.raises(ConfigError, match=r"0 \(open_the_middle.*; 3 \(open_the_top"):
        _ = asked.tasks


def test_a_drawer_that_stands_open_is_not_refused(simulator):
    from pipelines.sim.goals import Goal, goals
    from pipelines.sim.suites import task

    (goal,) = goals(task("libero_90", 29))
    assert goal == Goal("akita_black_bowl_1", "white_cabinet_1_top_region")


@pytest.mark.parametrize(
    ("text", "found"), [("", []), ("3", [3]), ("0,3-5", [0, 3, 4, 5]), ("5,5,1", [1, 5])]
)
def test_numbers(text, found):
    assert numbers(text, "tasks") == found


@pytest.mark.parametrize("text", ["x", "1-", "5-3", "-1"])
def test_numbers_that_are_none(text):
    with pytest.raises(ConfigError, match="tasks"):
        CollectConfig(tasks=text)
    with pytest.raises(ConfigError, match="tasks"):
        EvalConfig(tasks=text)
