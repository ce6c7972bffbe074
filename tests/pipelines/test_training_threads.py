"""How a training shares a machine: CPU threads, and rows of a batch."""

import os
from contextlib import nullcontext

import pytest
import torch

from depthtok.errors import ConfigError
from pipelines.device import training_threads
from pipelines.train_vla import job
from pipelines.train_vla.inputs import Stores
from tests.vla import fakes
from vla.run_options import TrainingOptions
from vla.training.parallel import Ranks


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("ranks", "expected"), [("1", 8), ("3", 2), ("16", 1)])
def test_ranks_of_one_machine_share_its_cores(ranks, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    training_threads(0)
    assert torch.get_num_threads() == expected


def test_where_the_system_does_not_say_all_cores_count(monkeypatch):
    """As on macOS."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    training_threads(0)
    assert torch.get_num_threads() == 3


def test_a_count_is_taken_as_it_is(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    training_threads(3)
    assert torch.get_num_threads() == 3


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "launched", lambda device: nullcontext((Ranks(0, 3), device)))
    stores, out = Stores((tmp_path / "none",)), tmp_path / "run"
    training = job.PolicyTraining(fakes.micro(), stores, out, TrainingOptions(), device="cpu")
    with pytest.raises(ConfigError, match="4 does not divide over 3"), training.opened():
        pass
    assert not out.exists()
