"""Several episodes of each motion, each from a view of its own; a recorder that is quick."""

from dataclasses import replace

import numpy as np
import pytest

from depthtok.cli.collect import _lines as lines_of
from depthtok.config import RunOptions
from depthtok.errors import ConfigError
from depthtok.sources.rlds import RldsDirectory
from pipelines import collect, run
from pipelines.sim.config import CollectConfig, EvalConfig
from pipelines.sim.motion import Motion
from pipelines.sim.perturb import Ranges
from pipelines.sim.simulator import Task
from tests.pipelines.sim import quick_runs

VIEWS = "orbit -15:15"
STILL = Motion(np.zeros((0, 5)), np.zeros((0, 7), np.float32), False)


@pytest.fixture
def stage(tmp_path, monkeypatch):
    benchmark = quick_runs.QuickBenchmark(expert=quick_runs.QuickExpert())
    monkeypatch.setattr(collect, "benchmark_of", lambda suite: benchmark)
    monkeypatch.setattr(collect, "film", quick_runs.film)

    def made(out, **settings):
        config = CollectConfig(tasks="0", episodes=4, size=16, **settings)
        work = collect.CollectStage(tmp_path / out, config)
        work.__dict__["tasks"] = {0: Task("fake", 0, "t0", "do 0", 9, 50)}
        return work

    return made


def test_a_motion_becomes_several_episodes(stage):
    work = stage("many", views=VIEWS, starts="0.1:0.2", renderings=3)
    outcome = run.run(work, RunOptions())
    data = RldsDirectory.open(work.out_dir)
    raws = [raw for shard in data.splits["train"].shards for raw in data.records(shard)]
    motions = 4 - len(outcome.failures)
    assert motions > 0
    assert len(raws) == outcome.episodes == 3 * motions
    assert f"{len(raws)} of 12 episodes" in data.description
    assert f"views {VIEWS}, 3 of each motion; robot starts 0.1:0.2" in data.description
    labels = [raw.text("episode_metadata/file_path") for raw in raws]
    assert len(set(labels)) == len(labels)
    seed = int(labels[0].split("_seed")[1].split("_")[0])
    views = [Ranges(VIEWS).draw_view(seed, number).name.replace(" ", "-") for number in range(3)]
    assert [view in label for view, label in zip(views, labels[:3], strict=True)] == [True] * 3
    actions = [raw.values("steps/action").tobytes() for raw in raws]
    assert len(set(actions)) == motions
    assert actions[0] == actions[1] == actions[2]


def test_one_simulator_does_all_motions_of_a_task(stage, monkeypatch):
    opened = []
    monkeypatch.setattr(
        quick_runs.QuickBenchmark,
        "open",
        lambda self, task, size, settle_steps: opened.append(task) or quick_runs.Bench(task, size),
    )
    work = stage("many", views=VIEWS, renderings=2)
    run.run(work, RunOptions())
    assert opened == [work.tasks[0]]


def test_a_motion_that_was_never_begun_counts_as_no_episode(stage, monkeypatch):
    """No grasp at all: there is no recording of it, nor is it one of the successful."""
    demonstrate = quick_runs.QuickExpert.demonstrate

    def sometimes(self, simulator, **settings):
        shown = demonstrate(self, simulator, **settings)
        calls.append(settings["seed"])
        done = replace(shown.motion, success=True)
        return replace(shown, motion=STILL if len(calls) == 2 else done)

    calls = []
    monkeypatch.setattr(quick_runs.QuickExpert, "demonstrate", sometimes)
    work = stage("some")
    outcome = run.run(work, RunOptions())
    assert [failure.reason for failure in outcome.failures] == ["no action was executed"]
    assert RldsDirectory.open(work.out_dir).description.startswith("3 of 4 episodes")
    assert not (work.out_dir / "failed").exists()
    lines, _ = lines_of(outcome, work.out_dir, work.config)
    assert not [line for line in lines if "recorded of them" in line]


def test_failures_that_were_retried_leave_no_data_set(stage, monkeypatch):
    work = stage("some")
    first = run.run(work, RunOptions())
    failed = RldsDirectory.open(work.out_dir / "failed")
    assert failed.splits["train"].episodes == len(first.failures) > 0
    demonstrate = quick_runs.QuickExpert.demonstrate

    def better(self, simulator, **settings):
        shown = demonstrate(self, simulator, **settings)
        return replace(shown, motion=replace(shown.motion, success=True))

    monkeypatch.setattr(quick_runs.QuickExpert, "demonstrate", better)
    assert not run.run(work, RunOptions(retry_failed=True)).failures
    assert RldsDirectory.open(work.out_dir).description.startswith("4 of 4 episodes")
    assert not (work.out_dir / "failed").exists()


def test_data_sets_without_views_are_those_of_earlier_versions(stage):
    plain = stage("plain").spec.fingerprint
    assert plain == "e1268fd6a9954e71fc47c342c99b96e7faf9a59d5e2a0b3e4967110f4d43e702"
    assert stage("varied", views=VIEWS).spec.fingerprint != plain


def test_what_cannot_be_varied_is_refused():
    with pytest.raises(ConfigError, match="renderings"):
        CollectConfig(renderings=2)
    for settings in (CollectConfig, lambda **words: EvalConfig(views=VIEWS, **words)):
        with pytest.raises(ConfigError, match="libero_plus_robot"):
            settings(suite="libero_plus_robot")
