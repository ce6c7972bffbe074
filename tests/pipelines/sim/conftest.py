"""One simulator for the whole folder: making one costs seconds, a reset hundredths of one."""

from __future__ import annotations

import sys

import pytest

from pipelines.sim import setup

SIZE = 96


@pytest.fixture(scope="session")
def simulator():
    """LIBERO-Object, task 0: alphabet soup into the basket. Skips where it cannot run."""
    yield from made("libero_object", 0)


@pytest.fixture(scope="session")
def drawer():
    """LIBERO-Spatial, task 4: the bowl in the drawer of a cabinet, on a table."""
    yield from made("libero_spatial", 4)


@pytest.fixture(scope="session")
def demos(simulator, tmp_path_factory):
    """One episode of the scripted expert, recorded and rendered by `collect`."""
    from depthtok.config import RunOptions
    from pipelines import collect, run
    from pipelines.sim.config import CollectConfig

    folder = tmp_path_factory.mktemp("demos")
    config = CollectConfig(tasks="0", episodes=1, size=32, seed=1)
    outcome = run.run(collect.CollectStage(folder, config), RunOptions(workers=0))
    assert (outcome.made, outcome.exit_code) == (1, 0)
    return folder


def made(suite, number):
    """One simulator, closed in the end."""
    if problem := setup.missing():
        pytest.skip(f"the simulator cannot run: {problem}")
    if "tensorflow" in sys.modules:
        pytest.skip("TensorFlow and the software renderer do not share a process")
    from pipelines.sim.libero import LiberoSimulator
    from pipelines.sim.suites import task

    simulator = LiberoSimulator(task(suite, number), SIZE)
    yield simulator
    simulator.close()
