"""What job scripts and clusters export is not taken for torchrun."""

import pytest

from depthtok.errors import ConfigError
from depthtok.launch import NAMES, local_rank, world_size

MASTER = {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}


@pytest.fixture
def exported(monkeypatch):
    for name in (*NAMES, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return lambda names: [monkeypatch.setenv(*item) for item in names.items()]


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ({}, 0),
        (MASTER, 0),  # an sbatch script
        ({"WORLD_SIZE": "1"}, 0),
        ({"WORLD_SIZE": "", **MASTER}, 0),
        ({"RANK": "0", "WORLD_SIZE": "1"}, 0),
        ({"RANK": "0", "WORLD_SIZE": "1", **MASTER}, 1),  # Kubeflow, or torchrun with one
        ({"RANK": "3", "WORLD_SIZE": "4", **MASTER}, 4),
    ],
)
def test_only_all_the_names_make_ranks(exported, names, count):
    exported(names)
    assert world_size() == count


@pytest.mark.parametrize("names", [MASTER, {"RANK": "0"}, {}])
def test_a_world_of_which_not_all_is_known_is_refused(exported, names):
    exported({"WORLD_SIZE": "4", **names})
    with pytest.raises(ConfigError, match="WORLD_SIZE = 4 in the environment, but") as refused:
        world_size()
    assert "torchrun" in refused.value.remedy


def test_the_first_on_its_machine_unless_stated(exported):
    assert local_rank() == 0
    exported({"LOCAL_RANK": "3"})
    assert local_rank() == 3
