"""What names and values say of columns, and what is no evidence."""

import numpy as np
import pytest

from depthtok.meaning import UNKNOWN
from depthtok.sources.features import Feature
from depthtok.sources.guess import groups, reference_of


@pytest.mark.parametrize(
    ("words", "reference"),
    [
        ("joint_velocity", "velocity"),
        ("steps/action/arm_vel", "velocity"),
        ("delta_xyz", "delta"),
        ("eef displacement", "delta"),
        ("residual pose", "delta"),
        ("joint_positions", UNKNOWN),
        ("level", UNKNOWN),
    ],
)
def test_a_reference_is_what_words_state(words, reference):
    assert reference_of(words) == reference


@pytest.mark.parametrize(("between", "names"), [(5, ["gripper"]), (20, [])])
def test_a_gripper_is_at_one_of_two_values_nearly_always(between, names):
    """Of 100 steps, so many are on the way from one to the other."""
    rng = np.random.default_rng(0)
    column = np.repeat([0.0, 1.0], 50)
    column[rng.choice(np.arange(1, 99), between, replace=False)] = 0.5
    values = np.stack([rng.normal(size=100), column], axis=1)
    feature = Feature("steps/action", "tensor", "float32", (2,), "none", True, "")
    parts = groups("action", "steps/action", feature, [values])
    assert [name for part in parts if part.gripper for name in part.names] == names
