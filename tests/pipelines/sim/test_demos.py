"""The filter of idle actions, and what is said of files that are no demonstrations."""

from pathlib import Path

import numpy as np
import pytest

from depthtok.errors import ConfigError, SourceError
from pipelines.sim import demos
from pipelines.sim.config import CollectConfig

MOVE, STILL = [0.1, 0, 0, 0, 0, 0], [0.0] * 6


def actions(*rows):
    return np.array([[*move, gripper] for move, gripper in rows], np.float32)


def test_idle_actions_go():
    recorded = actions(
        (STILL, -1), (MOVE, -1), (STILL, -1), (STILL, 1), (STILL, 1), (STILL, -1), (MOVE, -1)
    )
    indices = np.array(list(demos.without_idle(recorded)))
    assert np.array_equal(indices, recorded[[1, 3, 5, 6]])


def test_a_first_action_that_stands_still_goes():
    assert not list(demos.without_idle(actions((STILL, 1))))


def test_names_say_the_task():
    with pytest.raises(SourceError, match="is not named"):
        demos.task_of(Path(__file__))


def test_what_is_the_experts_is_refused_beside_demonstrations():
    CollectConfig(demos=(Path("a_demo.hdf5"),), size=64)
    with pytest.raises(ConfigError, match=r"episodes(.|\n)*leave it out"):
        CollectConfig(demos=(Path("a_demo.hdf5"),), episodes=1)


def test_a_demonstration_keeps_its_number(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the extra `sim`")
    path = tmp_path / "x_demo.hdf5"
    with h5py.File(path, "w") as file:
        for number in (0, 10, 2):
            group = file.create_group(f"data/demo_{number}")
            group["states"], group["actions"] = np.zeros((1, 3)), np.zeros((1, 7))
    assert [demos.read(path, k).number for k in range(3)] == [0, 2, 10]


def test_what_is_no_hdf5(tmp_path):
    pytest.importorskip("h5py", reason="needs the extra `sim`")
    path = tmp_path / "x_demo.hdf5"
    with pytest.raises(SourceError, match="there is no file"):
        demos.count(path)
    path.write_bytes(b"no")
    with pytest.raises(SourceError, match="not an HDF5"):
        demos.count(path)
