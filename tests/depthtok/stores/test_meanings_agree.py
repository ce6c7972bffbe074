"""A policy meets a robot: what is converted, what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from depthtok.errors import ConfigError
from depthtok.meaning import Column, Meaning
from depthtok.sources.schema import Schema
from depthtok.stores.agreement import GripperChange, for_robot, stated
from pipelines.sim.libero import MEANING as LIBERO

POLICY = replace(LIBERO, gripper="open1_closed0")
JOINTS = (*(Column(f"j{n}", "absolute", "rad") for n in range(6)), LIBERO.action[-1])


@pytest.mark.parametrize("name", ["libero", "libero_90", "libero_depth"])
def test_policies_of_liberos_own_data_act_in_libero_as_they_are(name):
    assert for_robot(Schema.load(name).meaning, LIBERO) is None


def test_the_gripper_is_converted_in_proportion_and_nothing_else():
    change = for_robot(POLICY, LIBERO)
    actions = np.array([[0.1, 0, 0, 0, 0, 0, 1], [0, 0.2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0.75]])
    converted = change(actions)
    assert converted[:, -1].tolist() == [-1, 1, -0.5]
    assert (converted[:, :-1] == actions[:, :-1]).all()
    assert actions[0, -1] == 1  # a copy
    assert change == GripperChange((6,), "open1_closed0", "open-1_closed1")


@pytest.mark.parametrize(
    ("source", "target", "values", "expected"),
    [
        ("open1_closed0", "open-1_closed1", (-1, -0.25, 0.25, 1.5), (1, 1, 0.5, -1)),
        ("open1_closed-1", "open0_closed1", (1.25, -3, -1, 0), (0, 1, 1, 0.5)),
    ],
)
def test_what_lies_beyond_open_and_closed_is_open_or_closed(source, target, values, expected):
    """A model's answer reaches from -1 to 1 whatever its gripper's range is."""
    converted = GripperChange((1,), source, target)(np.array([[9.0, value] for value in values]))
    assert converted.tolist() == [[9, value] for value in expected]


@pytest.mark.parametrize(
    ("changes", "said", "aspect"),
    [
        ({"action": JOINTS}, "action.names: j0, j1", "action.names"),
        ({"fps": 10.0}, "fps: 10 Hz, 20 Hz", "fps"),
        (
            {"action": tuple(replace(c, reference="absolute") for c in LIBERO.action)},
            "action.reference: x: absolute, delta",
            "action.reference",
        ),
        ({"proprio": (Column("x"),)}, "proprio.names: x; x, y", "proprio.names"),
    ],
)
def test_a_policy_of_another_robot_is_refused(changes, said, aspect):
    policy = replace(LIBERO, **changes)
    with pytest.raises(ConfigError, match=said) as raised:
        for_robot(policy, LIBERO)
    assert raised.value.remedy.endswith(f"--accept {aspect}")
    assert for_robot(policy, LIBERO, [aspect]) is None


def test_a_policy_that_sees_no_state_is_not_asked_for_one():
    assert for_robot(replace(LIBERO, proprio=()), LIBERO) is None


@pytest.mark.parametrize("policy", [None, replace(LIBERO, gripper="unknown")])
def test_an_unknown_gripper_is_asked_for(policy):
    with pytest.raises(ConfigError, match="does not say what its gripper") as raised:
        for_robot(policy, LIBERO)
    assert "--gripper" in raised.value.remedy
    said = stated(policy, "open0_closed1", LIBERO)
    assert for_robot(said, LIBERO)(np.zeros((1, 7)))[0, -1] == -1
    assert for_robot(policy, LIBERO, ["gripper"]) is None
    assert for_robot(policy, Meaning((Column("x"),), ()), ["action.names", "proprio.names"]) is None


def test_what_is_stated_may_not_contradict_the_training_data():
    with pytest.raises(ConfigError, match="is open1_closed0, as its training data say"):
        stated(POLICY, "open0_closed1", LIBERO)
    assert stated(POLICY, "open1_closed0", LIBERO) == POLICY
    assert stated(POLICY, None, LIBERO) == POLICY
    with pytest.raises(ConfigError, match="'open'"):
        stated(None, "open", LIBERO)


def test_a_gripper_that_no_column_is_of_is_not_stated():
    """All columns were normalised: the flag would change nothing, in silence."""
    policy = Meaning(tuple(Column(f"action_{n}") for n in range(7)), (), gripper="unknown")
    with pytest.raises(ConfigError, match="no action column of the policy is named a gripper"):
        stated(policy, "open1_closed0", LIBERO)
    assert stated(policy, None, LIBERO) == policy
