"""How many CPU threads a training takes."""

import os

import pytest
import torch

from pipelines.device import training_threads


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
