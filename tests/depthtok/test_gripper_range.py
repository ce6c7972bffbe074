"""Gripper columns lie where their convention says."""

import numpy as np
import pytest

from depthtok.gripper_range import out_of_range
from depthtok.meaning import GRIPPERS, UNKNOWN
from depthtok.sources.operations import Call


@pytest.mark.parametrize("convention", GRIPPERS)
def test_both_ends_and_a_little_overshoot_are_right(convention):
    low, high = sorted(GRIPPERS[convention])
    for seen in ((low, high), (low - 0.05, high + 0.05), (low, low), (high, high)):
        assert out_of_range(convention, *seen) is None


@pytest.mark.parametrize(
    ("convention", "low", "high", "said"),
    [
        ("open1_closed0", 45.0, 100.0, "45 to 100: outside 0 to 1 of open1_closed0"),
        ("open-1_closed1", 0.0, 850.0, "0 to 850: outside -1 to 1"),
        ("open0_closed1", -1.0, 1.0, "-1 to 1: outside 0 to 1"),
        ("open1_closed0", 255.0, 255.0, "always 255: outside 0 to 1"),
        ("open-1_closed1", 0.0, 1.0, "0 to 1: half of the -1 to 1"),
        ("open1_closed-1", -1.0, 0.0, "-1 to 0: half of the -1 to 1"),
        ("open1_closed-1", 0.01, 0.99, "half of"),
        (UNKNOWN, 0.0, 100.0, "0 to 100: outside every convention"),
        ("open1_closed0", float("nan"), float("nan"), "nan"),
    ],
)
def test_other_ranges_are_named(convention, low, high, said):
    assert said in out_of_range(convention, low, high).problem


@pytest.mark.parametrize(
    ("convention", "low", "high"),
    [(UNKNOWN, 0.0, 1.0), (UNKNOWN, -1.0, 1.0), ("none", 0.0, 90.0), ("open-1_closed1", -1, 0.3)],
)
def test_what_may_be_right_is_let_through(convention, low, high):
    assert out_of_range(convention, low, high) is None


@pytest.mark.parametrize(
    ("convention", "low", "high"),
    [("open1_closed0", 45.0, 100.0), ("open-1_closed1", 0.0, 850.0), ("open1_closed-1", 0.0, 1.0)],
)
def test_the_operations_it_names_bring_the_column_into_range(convention, low, high):
    remedy = out_of_range(convention, low, high).remedy
    ops = [text for text in remedy.replace('"', "'").split("'") if text.startswith(OPS)]
    values = np.array([[low], [high]])
    for op in ops:
        values = Call.parse(op, "test")(values)
    assert sorted(values[:, 0].tolist()) == sorted(GRIPPERS[convention])


OPS = ("unit_interval", "scale", "offset")
