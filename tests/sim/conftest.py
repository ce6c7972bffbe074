"""One simulator for the whole folder: making one costs seconds, a reset hundredths of one."""

from __future__ import annotations

import sys

import pytest

from depthtok.sim import setup

SIZE = 96


@pytest.fixture(scope="session")
def simulator():
    """LIBERO-Object, task 0: alphabet soup into the basket. Skips where it cannot run."""
    if problem := setup.missing():
        pytest.skip(f"the simulator cannot run: {problem}")
    if "tensorflow" in sys.modules:
        pytest.skip("TensorFlow and the software renderer do not share a process")
    from depthtok.sim.libero import LiberoSimulator
    from depthtok.sim.suites import task

    made = LiberoSimulator(task("libero_object", 0), SIZE)
    yield made
    made.close()
