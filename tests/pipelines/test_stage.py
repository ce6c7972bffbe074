"""What `run` makes, keeps, remakes, and refuses."""

import pytest

from depthtok.config import RunOptions
from depthtok.errors import MissingParts, WorkerDied
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.store import Store
from depthtok.testing import tree_digest
from pipelines.depth.registry import DatasetDepth
from pipelines.run import run
from pipelines.stage import recording_failures

STAGES = ["convert", "annotate", "tokenize"]


@pytest.fixture(params=STAGES)
def name(request):
    return request.param


def test_a_second_run_makes_nothing(whole, name):
    before = tree_digest(whole.root)
    outcome = whole.run(name)
    assert (outcome.made, outcome.kept, outcome.exit_code) == (0, 3, 0)
    assert tree_digest(whole.root) == before


def test_without_resume_all_is_made_again(whole, name, tmp_path):
    stage = whole.stage(name, tmp_path / "out")
    run(stage, RunOptions())
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "parts").iterdir()}
    outcome = run(stage, RunOptions(resume=False))
    assert (outcome.made, outcome.remade) == (3, 3)
    assert tree_digest(tmp_path / "out") == tree_digest(whole.root / name)
    assert all(path.stat().st_mtime_ns != time for path, time in times.items() if path.is_dir())


def test_jobs_of_an_array_make_the_same_store(whole, name, tmp_path):
    stage = whole.stage(name, tmp_path / "out")
    halves = [run(stage, RunOptions(shard=f"{job}/2")) for job in (1, 2)]
    assert [(half.made, half.left) for half in halves] == [
        (2, 1),
        (1, 0),
    ]  # the second finds the parts of the first
    assert tree_digest(tmp_path / "out") == tree_digest(whole.root / name)


def test_a_limit_makes_whole_parts_and_the_rest_comes_later(whole, name, tmp_path):
    stage = whole.stage(name, tmp_path / "out")
    assert run(stage, RunOptions(limit=3)).made == 2
    with pytest.raises(MissingParts, match="lacks 1 of its parts"):
        Store(tmp_path / "out").require_complete()
    assert run(stage, RunOptions()).made == 1
    assert tree_digest(tmp_path / "out") == tree_digest(whole.root / name)


def test_our_own_mistakes_are_no_failures_of_episodes():
    with pytest.raises(AssertionError), recording_failures(object.__new__(PartWriter), 0):
        raise AssertionError("2 rows where 1 was promised")


GPU_FAILS = "CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later"


def test_a_gpu_that_fails_in_annotate_is_explained(whole, tmp_path, monkeypatch):
    def failing(self, clips):
        raise RuntimeError(GPU_FAILS)

    monkeypatch.setattr(DatasetDepth, "estimate", failing)
    stage = whole.stage("annotate", tmp_path / "out")
    with pytest.raises(WorkerDied, match="the GPU failed: CUDA error: unspecified") as caught:
        run(stage, RunOptions())
    assert "run the same command again" in caught.value.remedy


def test_a_gpu_that_fails_is_no_failure_of_episodes():
    with (
        pytest.raises(WorkerDied, match="the GPU failed: CUDA error: unspecified launch failure"),
        recording_failures(object.__new__(PartWriter), 0),
    ):
        raise RuntimeError(GPU_FAILS)
