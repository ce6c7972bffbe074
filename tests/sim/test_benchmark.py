"""Which benchmark a suite is of, and its tasks by number."""

import pytest

from depthtok.errors import ConfigError
from pipelines.sim.benchmark import Benchmark, benchmark_of, chosen_tasks
from pipelines.sim.libero_benchmark import Libero
from pipelines.sim.simulator import Task


def test_a_suite_has_its_benchmark():
    libero = benchmark_of("libero_goal")
    assert isinstance(libero, Benchmark)
    assert libero.max_steps["libero_goal"] == 300
    assert (libero.settle_steps, libero.orientation) == (10, "raw[::-1, ::-1]")
    assert libero.meaning.gripper == "open-1_closed1"


def test_an_unknown_suite_is_refused():
    with pytest.raises(ConfigError, match="no suite 'libero_gaol'") as refusal:
        benchmark_of("libero_gaol")
    assert "libero_goal" in refusal.value.remedy


class Three(Libero):
    """A suite of three tasks."""

    def tasks(self, suite):
        return [Task(suite, number, f"task {number}", "do it", 9, 4) for number in range(3)]


def test_tasks_are_chosen_by_number():
    assert [task.number for task in chosen_tasks(Three(), "three", [2, 0])] == [2, 0]
    assert [task.number for task in chosen_tasks(Three(), "three", [])] == [0, 1, 2]
    with pytest.raises(ConfigError, match="three has no task 3") as refusal:
        chosen_tasks(Three(), "three", [1, 3])
    assert refusal.value.remedy == "give 0 to 2"
