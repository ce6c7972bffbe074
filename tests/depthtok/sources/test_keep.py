"""Which steps and episodes a schema keeps."""

from pathlib import Path

import numpy as np
import pytest

from depthtok.errors import SchemaError
from depthtok.sources.columns import SchemaColumns
from depthtok.sources.episode_rules import EpisodeRules
from depthtok.sources.features import Feature
from depthtok.sources.keep import Keep
from depthtok.sources.schema import Schema
from depthtok.sources.table import SchemaTable

DATA = Path(__file__).parents[2] / "data"


class Raw:
    """An episode made of a dictionary."""

    index = 3

    def __init__(self, steps, values):
        self.steps, self.data = steps, values

    @property
    def features(self):
        return {}

    def __len__(self):
        return self.steps

    def values(self, path):
        return np.asarray(self.data[path])

    def texts(self, path):
        value = self.data[path]
        return [(value,)] if isinstance(value, str) else [(text,) for text in value]


def keep(**table):
    return Keep.parse(SchemaTable(table, "mine.toml [keep]"))


MOTION = (SchemaColumns(("x", "y"), "action", "0:2"), SchemaColumns(("gripper",), "action", "2"))
QUIET = [[3e-8, 0, 1], [0.01, -0.02, 1], [0.0, 0.015, 0], [0.02, 0, 0]]


@pytest.mark.parametrize(
    ("first", "dropped"),
    [
        ([0, 0, 0], True),
        ([0, 0, 1], True),  # the gripper is no motion
        ([1e-5, -1e-5, 1], True),  # a thousandth of the typical 0.02 is 2e-5
        ([3e-5, 0, 1], False),
        ([0, np.nan, 1], False),
    ],
)
def test_a_first_step_without_motion_is_dropped(first, dropped):
    raw = Raw(4, {"action": [first, *QUIET[1:]]})
    rule = keep(drop_first_if_zero="action")
    assert rule.steps(raw, MOTION) == slice(int(dropped), 4)


def test_the_tolerance_knows_no_unit_and_can_be_set():
    millimetres = Raw(4, {"action": np.array(QUIET) * 1000})
    assert keep(drop_first_if_zero="action").steps(millimetres, MOTION) == slice(1, 4)
    exact = keep(drop_first_if_zero="action", tolerance=0.0)
    assert exact.steps(millimetres, MOTION) == slice(0, 4)
    assert exact.steps(Raw(2, {"action": [[0, 0, 1], [1, 0, 1]]}), MOTION) == slice(1, 2)
    with pytest.raises(SchemaError, match="tolerance"):
        keep(drop_first_if_zero="action", tolerance=2.0)


def test_the_columns_can_be_named():
    still = Raw(2, {"action": [[0, 7, 1], [1, 7, 1]]})
    assert keep(drop_first_if_zero="action").steps(still, MOTION) == slice(0, 2)
    named = keep(drop_first_if_zero={"from": "action", "take": "0"})
    assert named.steps(still, MOTION) == slice(1, 2)
    assert Keep.parse(SchemaTable(named.to_json(), "again")) == named
    gripper_alone = (
        SchemaColumns(("dx",), "state", "0"),
        SchemaColumns(("gripper",), "action", "2"),
    )
    raw = Raw(2, {"action": [[0, 0, 1], [1, 0, 1]]})
    assert keep(drop_first_if_zero="action").steps(raw, gripper_alone) == slice(1, 2)


def test_one_step_is_not_less_than_itself():
    assert keep(drop_first_if_zero="action").steps(
        Raw(1, {"action": [[1, 0, 1]]}), MOTION
    ) == slice(0, 1)


def test_every_no_op_of_real_bridge_data_is_dropped():
    actions = np.load(DATA / "real" / "bridge_actions.npy")
    schema = Schema.load("bridge_dataset")
    slices = [schema.keep(Raw(10, {"steps/action": episode})) for episode in actions]
    assert slices == [slice(1, 10)] * 17
    moved = [schema.keep(Raw(9, {"steps/action": episode[1:]})) for episode in actions]
    assert moved == [slice(0, 9)] * 17


def test_the_gripper_alone_is_no_motion():
    with pytest.raises(SchemaError, match="gripper columns only"):
        keep(drop_first_if_zero="grip").check(
            {"grip": Feature("grip", "tensor", "float32", (1,), "none")},
            [SchemaColumns(("gripper",), "grip")],
            "here",
        )


FEATURES = {
    feature.path: feature
    for feature in (
        Feature("success", "scalar", "bool", (), "none", per_step=False),
        Feature("steps/reward", "scalar", "float32", (), "none"),
        Feature("kind", "text", "str", per_step=False),
        Feature("level", "scalar", "int32", (), "none", per_step=False),
        Feature("steps/lang", "text", "str"),
        Feature("steps/action", "tensor", "float32", (2,), "none"),
    )
}
GOOD = {
    "success": True,
    "steps/reward": np.array([0.0, 1.0, 0.1], np.float32),
    "kind": "lab/success/7",
    "level": 2,
    "steps/lang": ["", "go", "go"],
}


def rules(**table):
    parsed = EpisodeRules.parse(SchemaTable(table, "mine.toml [keep] episodes"))
    parsed.check(FEATURES, "here")
    assert EpisodeRules.parse(SchemaTable(parsed.to_json(), "again")) == parsed
    return parsed


@pytest.mark.parametrize(
    ("table", "bad", "reason"),
    [
        ({"if_true": "success"}, {"success": False}, "success is not true"),
        ({"if_true": "steps/reward"}, {"steps/reward": [0, 0, 0]}, "steps/reward is not true"),
        ({"if_false": "level"}, None, "level is true"),
        ({"equals": {"kind": "good"}}, None, 'kind is not "good"'),
        (
            {"equals": {"kind": ["a", GOOD["kind"]]}},
            {"kind": "b"},
            'kind is not "a" or "lab/success/7"',
        ),
        ({"equals": {"level": 2}}, {"level": 3}, "level is not 2"),
        ({"equals": {"steps/reward": 0.1}}, {"steps/reward": [0.2]}, "steps/reward is not 0.1"),
        ({"equals": {"success": True}}, {"success": False}, "success is not true"),
        ({"equals": {"steps/lang": "go"}}, {"steps/lang": ["", "", ""]}, 'steps/lang is not "go"'),
        (
            {"contains": {"kind": "success"}},
            {"kind": "lab/failure/7"},
            'kind does not contain "success"',
        ),
        ({"lacks": {"kind": "failure"}}, {"kind": "lab/failure/7"}, 'kind contains "failure"'),
    ],
)
def test_rules_for_episodes(table, bad, reason):
    parsed = rules(**table)
    if bad is not None:
        assert parsed.against(Raw(3, GOOD), 3, [("go",)]) is None
    assert parsed.against(Raw(3, GOOD | (bad or {})), 3, [("go",)]) == reason


def test_length_and_instruction():
    parsed = rules(min_steps=3, instruction="not empty")
    assert parsed.against(Raw(3, GOOD), 3, [("",), ("go",)]) is None
    assert parsed.against(Raw(3, GOOD), 2, [("go",)]) == "fewer than 3 steps"
    assert parsed.against(Raw(3, GOOD), 3, [("",), (" ",)]) == "the instruction is empty"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"if_true": "kind"}, "'kind' is text of str (), not a single number"),
        ({"if_true": "steps/action"}, "not a single number"),
        ({"contains": {"level": "x"}}, "not text"),
        ({"equals": {"kind": 3}}, "not a single number"),
        ({"equals": {"kind": ["a", 3]}}, '"kind" = '),
        ({"contains": {"kind": 3}}, '"kind" = '),
        ({"if_true": "succes"}, "no feature 'succes'"),
        ({"min_steps": -1}, "min_steps"),
        ({"instruction": "empty"}, "instruction = 'empty'"),
        ({"only_if": "success"}, "unknown field 'only_if'"),
    ],
)
def test_rules_that_cannot_be_tested_are_refused(table, says):
    with pytest.raises(SchemaError) as caught:
        rules(**table)
    assert says in caught.value.problem
    assert caught.value.remedy


def test_json_says_nothing_of_what_is_not_set():
    assert keep(drop_first_if_zero="a").to_json() == {
        "drop_first": 0,
        "drop_last": 0,
        "drop_first_if_zero": ["a"],
    }
