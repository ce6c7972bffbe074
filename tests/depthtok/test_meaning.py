"""What columns mean: stored, compared, converted."""

import numpy as np
import pytest

from depthtok.errors import ConfigError
from depthtok.meaning import GRIPPERS, Column, Meaning, convert_gripper

POSE = (Column("x", "delta", "m"), Column("gripper", "absolute", "1"))
STATE = (Column("j1", "absolute", "rad"),)


def test_it_comes_back_from_json():
    meaning = Meaning(POSE, STATE, "open1_closed0", 10.0)
    assert Meaning.from_json(meaning.to_json()) == meaning


def test_gripper_columns_are_found_by_name():
    assert Meaning(POSE, STATE).gripper_columns == (1,)


def test_equal_meanings_do_not_differ():
    assert Meaning(POSE, STATE, "none", 5.0).differences(Meaning(POSE, STATE, "none", 5.0)) == {}


def test_differences_are_said_by_aspect():
    ours = Meaning(POSE, STATE, "open1_closed0", 10.0)
    joints = (Column("j1", "absolute", "rad"), Column("gripper", "absolute", "1"))
    assert ours.differences(Meaning(joints, STATE, "open-1_closed1", 5.0)) == {
        "gripper": "open1_closed0, open-1_closed1",
        "fps": "10 Hz, 5 Hz",
        "action.names": "x, gripper; j1, gripper",
    }
    degrees = Meaning(POSE, (Column("j1", "absolute", "deg"),), "open1_closed0", 10.0)
    assert ours.differences(degrees) == {"proprio.unit": "j1: rad, deg"}
    absolute = (Column("x", "absolute", "m"), POSE[1])
    assert ours.differences(Meaning(absolute, STATE, "open1_closed0", 10.0)) == {
        "action.reference": "x: delta, absolute"
    }


def test_unknown_contradicts_nothing_and_is_said():
    nothing = Meaning((Column("x"), Column("gripper")), (Column("j1"),))
    assert Meaning(POSE, STATE, "open1_closed0", 10.0).differences(nothing) == {}
    assert nothing.unknown == [
        "gripper convention",
        "rate",
        "reference of 2 action columns",
        "unit of 2 action columns",
        "reference of 1 state column",
        "unit of 1 state column",
    ]


@pytest.mark.parametrize("source", GRIPPERS)
@pytest.mark.parametrize("target", GRIPPERS)
def test_grippers_convert_open_to_open(source, target):
    middle = np.mean(GRIPPERS[source])
    converted = convert_gripper(np.array([*GRIPPERS[source], middle]), source, target)
    np.testing.assert_allclose(converted, [*GRIPPERS[target], np.mean(GRIPPERS[target])])


@pytest.mark.parametrize("name", ["unknown", "none", "open1_closed-0"])
def test_an_unknown_convention_is_not_guessed(name):
    with pytest.raises(ConfigError, match="cannot be converted"):
        convert_gripper(np.zeros(1), name, "open1_closed0")


def test_a_gripper_in_words():
    meaning = Meaning((), (), "open-1_closed1")
    assert meaning.gripper_in_words == "open is -1, closed is 1 (open-1_closed1)"
    assert Meaning((), ()).gripper_in_words == "unknown"


def test_rates_that_differ_in_digits_alone_are_one():
    action = (Column("x"),)
    rates = [Meaning(action, (), "none", fps) for fps in (29.97, 30000 / 1001, 30.0, None)]
    assert rates[0].differences(rates[1]) == rates[0].differences(rates[3]) == {}
    assert rates[1].differences(rates[2]) == {"fps": "29.97 Hz, 30 Hz"}
