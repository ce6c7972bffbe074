"""Drafts of schemas: nothing is guessed without evidence, nothing dropped without a word."""

import re

import numpy as np
import pytest

from depthtok.sources.draft import draft
from depthtok.sources.features import Feature
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.sample import sample
from depthtok.sources.schema import Schema
from depthtok.testing import make_rlds

IMAGE = ("steps/observation/image", "image", "uint8", (48, 64, 3), "jpeg")


def features(*more):
    rows = [IMAGE, ("steps/action", "tensor", "float32", (7,), "none"), *more]
    return {row[0]: Feature(*row) for row in rows}


@pytest.fixture
def drafted(tmp_path):
    def make(found, values=None):
        text = draft(found, "mine", values)
        path = tmp_path / "mine.toml"
        path.write_text(text, "utf-8")
        schema = Schema.load(path)
        schema.check(found)
        return schema, text

    return make


def vector(name, *shape, dtype="float32", said=""):
    kind = "tensor" if shape else "scalar"
    return (f"steps/observation/{name}", kind, dtype, shape, "none", True, said)


def test_the_last_joint_is_no_gripper_without_evidence(drafted):
    schema, text = drafted(features())
    assert (schema.gripper, schema.gripper_dims) == ("unknown", ())
    assert 'name its column "gripper" in dims; "none" if there is no gripper' in text
    joints = np.linspace(0, 1, 40)[:, None] * np.ones(7)
    assert drafted(features(), {"steps/action": [joints]})[0].gripper_dims == ()


@pytest.mark.parametrize("apart", ["\n ", "\r\n\t", "  "])
def test_a_description_over_several_lines_stays_a_comment(drafted, apart):
    said = f"Robot action, consists of [6x end-effector{apart}velocities, 1x gripper position]"
    action = ("steps/action", "tensor", "float32", (7,), "none", True, said)
    schema, text = drafted({**features(), "steps/action": Feature(*action)})
    assert '# the data set says "end-effector velocities"\n' in text
    assert schema.action_dims[0] == "end_effector_velocities_0"


@pytest.mark.parametrize("pair", [(0, 1), (-1, 1), (45, 100), (0, 0.08)])
def test_two_values_are_evidence_of_a_gripper(drafted, pair):
    actions = np.linspace(-1, 1, 30)[:, None] * np.ones(7)
    actions[:, 6] = np.where(np.arange(30) < 12, *pair)
    schema, text = drafted(features(), {"steps/action": [actions]})
    assert (schema.gripper, schema.gripper_dims) == ("unknown", (6,))
    assert "in the first episodes it is " + " or ".join(f"{v:.4g}" for v in sorted(pair)) in text


def test_a_gripper_is_seen_though_the_last_action_is_no_number(drafted):
    actions = np.linspace(-1, 1, 30)[:, None] * np.ones(7)
    actions[:, 6] = np.arange(30) % 7 < 3
    actions[-1] = np.nan
    schema, text = drafted(features(), {"steps/action": [actions]})
    assert (schema.gripper, schema.gripper_dims) == ("unknown", (6,))
    assert "in the first episodes it is 0 or 1\n" in text


def test_the_mark_of_the_end_is_no_gripper(drafted):
    actions = np.linspace(-1, 1, 30)[:, None] * np.ones(7)
    actions[:, 6] = np.arange(30) == 29
    assert drafted(features(), {"steps/action": [actions] * 3})[0].gripper_dims == ()


def test_a_gripper_between_joints_keeps_its_place(drafted):
    actions = np.linspace(-1, 1, 30)[:, None] * np.ones(7)
    actions[:, 2] = np.arange(30) < 9
    schema, _ = drafted(features(), {"steps/action": [actions]})
    assert [dim.startswith("gripper") for dim in schema.action_dims] == [
        False,
        False,
        True,
        False,
        False,
        False,
        False,
    ]


def test_names_and_descriptions_are_evidence(drafted):
    evidence = {
        row[0]: Feature(*row)
        for row in (
            IMAGE,
            ("steps/action/open_gripper", "tensor", "bool", (), "none"),
            ("steps/action/gripper_frame_pose", "tensor", "float32", (7,), "none"),
            ("steps/action/joint_velocity", "tensor", "float32", (7,), "none"),
        )
    }
    schema, _ = drafted(evidence)
    assert [schema.action_dims[i] for i in schema.gripper_dims] == ["gripper_open_gripper"]
    by_name = {column.name: column.reference for column in schema.meaning.action}
    assert by_name["joint_velocity_3"] == "velocity"
    assert by_name["grip_frame_pose_0"] == "unknown"
    said = "Robot action: [3x EE delta xyz, 3x gripper velocities, 1x gripper position]."
    row = ("steps/action", "tensor", "float32", (7,), "none", True, said)
    schema, _ = drafted({IMAGE[0]: Feature(*IMAGE), row[0]: Feature(*row)})
    assert schema.action_dims == (
        "ee_delta_xyz_0",
        "ee_delta_xyz_1",
        "ee_delta_xyz_2",
        "grip_velocities_0",
        "grip_velocities_1",
        "grip_velocities_2",
        "gripper",
    )
    assert [c.reference for c in schema.meaning.action] == [
        *["delta"] * 3,
        *["velocity"] * 3,
        "unknown",
    ]


@pytest.mark.parametrize("said", ["", "2x joint positions, 1x gripper position"])
def test_arms_whose_columns_are_called_the_same_are_told_apart(drafted, said):
    arms = ("steps/action/left", "steps/action/right", "steps/action/x/right")
    found = features(*((arm, "tensor", "float32", (3,), "none", True, said) for arm in arms))
    del found["steps/action"]
    grips = np.arange(90.0).reshape(30, 3)
    grips[:, 2] = np.arange(30) % 7 < 3
    schema, _ = drafted(found, {arm: [grips] for arm in arms})
    assert (schema.gripper, schema.gripper_dims) == ("unknown", (2, 5, 8))
    names = [schema.action_dims[k] for k in schema.gripper_dims]
    assert names == ["gripper", "gripper_right", "gripper_right_2"]


def test_a_depth_map_of_bfloat16_is_one_of_metres(drafted):
    depth = vector("depth", 48, 64, dtype="bfloat16")
    (camera,) = drafted(features(depth))[0].cameras
    assert (camera.depth_key, camera.depth_unit) == (depth[0], "m")


def test_a_description_that_does_not_add_up_is_no_evidence(drafted):
    said = "[7x joint velocities, 2x gripper velocities, 1x terminate episode]"  # a template
    row = ("steps/action", "tensor", "float32", (7,), "none", True, said)
    schema, _ = drafted({IMAGE[0]: Feature(*IMAGE), row[0]: Feature(*row)})
    assert schema.action_dims == tuple(f"action_{i}" for i in range(7))


def used_and_offered(text):
    tables = re.findall(r'^(# )?\[\[proprio\]\]\n(?:# [^"\n]*\n)*(?:# )?from = "(.*)"', text, re.M)
    used = [path.rsplit("/", 1)[-1] for mark, path in tables if not mark]
    return used, [path.rsplit("/", 1)[-1] for mark, path in tables if mark]


@pytest.mark.parametrize(
    ("rows", "used", "offered"),
    [
        ([vector("pose_l", 6), vector("pose_r", 6)], ["pose_l", "pose_r"], []),
        (
            [vector("joint_pos", 7), vector("gripper_width"), vector("joint_vel", 7)],
            ["gripper_width", "joint_pos"],
            ["joint_vel"],
        ),
        ([vector("state", 8), vector("state_joint", 7)], ["state"], ["state_joint"]),
        (
            [
                vector("ee_pose", 4, 4),
                vector("joints", 7),
                vector("episode_success"),
                vector("timestamp"),
                vector("frame_index", dtype="int64"),
            ],
            ["joints"],
            ["ee_pose"],
        ),
        ([vector("force", 3)], [], ["force"]),
        ([vector("arm", 5)], ["arm"], []),
    ],
)
def test_every_state_is_used_or_offered_and_labels_are_neither(drafted, rows, used, offered):
    _, text = drafted(features(*rows))
    assert used_and_offered(text) == (used, offered)
    for row in rows:
        label = re.search("success|timestamp|index", row[0])
        assert label or f'"{row[0]}"' in text


def test_joint_velocities_say_so_even_as_an_offer(drafted):
    _, text = drafted(features(vector("joint_vel", 7), vector("joint_pos", 7)))
    assert '# reference = "velocity"' in text


def test_a_success_flag_is_offered_to_leave_episodes_out(drafted):
    flag = ("episode_success", "scalar", "bool", (), "none", False)
    assert '# if_true = "episode_success"' in drafted(features(flag))[1]


def test_depth_goes_to_the_camera_of_its_size_and_8_bits_are_only_offered(drafted):
    wrist = ("steps/observation/wrist", "image", "uint8", (32, 32, 3), "jpeg")
    depth = ("steps/observation/wrist_depth", "image", "uint16", (32, 32, 1), "png")
    coarse = ("steps/observation/depth", "image", "uint8", (48, 64, 1), "png")
    odd = ("steps/observation/odd_depth", "tensor", "float32", (10, 10), "none")
    painted = ("steps/observation/depth_rgb", "image", "uint8", (48, 64, 3), "jpeg")
    schema, text = drafted(features(wrist, depth, coarse, odd, painted))
    assert {c.name: (c.depth_key, c.depth_unit) for c in schema.cameras} == {
        "image": (None, None),
        "wrist": ("steps/observation/wrist_depth", "mm"),
    }
    assert "8 bits hold no millimetres" in text
    assert '# depth_key = "steps/observation/depth"' in text
    assert "of no camera's size" in text
    assert "a picture, but of no camera: steps/observation/depth_rgb" in text


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (("steps/lang", "text", "str"), 'instruction = "steps/lang"'),
        (("task", "text", "str", (), "", False), 'instruction = "task"'),
        (("annotation/a", "text", "str", (None,), "", False), 'instruction = "annotation/a"'),
        (
            ("steps/observation/instruction", "tensor", "int32", (512,), "none"),
            'instruction = { from = "steps/observation/instruction", ops = ["characters"] }',
        ),
        (("steps/words", "text", "str"), "instruction = []  # check: which of these"),
    ],
)
def test_an_instruction_is_found_or_asked_for(drafted, row, line):
    _, text = drafted(features(row))
    assert re.search(rf"^{re.escape(line)}", text, re.M)
    assert f'"{row[0]}"' in text


def test_all_texts_are_offered_where_none_is_recognised(drafted):
    _, text = drafted(features(("file_path", "text", "str", (), "", False), ("x", "text", "str")))
    assert '# instruction = "file_path"' in text
    assert '# instruction = "x"' in text
    assert "there is no text" in drafted(features())[1]


def test_what_a_draft_does_not_know_is_said(drafted):
    schema, _ = drafted(features(vector("state", 8)))
    assert schema.unknown == [
        "orientation of image",
        "gripper column, if any",
        "rate",
        "reference of 7 action columns",
        "unit of 7 action columns",
        "reference of 8 state columns",
        "unit of 8 state columns",
    ]
    assert Schema.load("libero_depth").unknown == []


def test_a_sample_is_of_the_first_episodes_and_of_numbers_only(tmp_path):
    rlds = RldsDirectory.open(make_rlds(tmp_path / "1.0.0", steps=[2, 0, 3, 4], shards=2))
    sampled = sample(rlds, episodes=2)
    assert [rows.shape for rows in sampled["steps/action"]] == [(2, 7), (3, 7)]
    assert "steps/observation/image" not in sampled
    next(iter(rlds.path.glob("*00000-of-00002"))).unlink()
    assert [rows.shape for rows in sample(rlds)["steps/action"]] == [(3, 7), (4, 7)]


def test_matrices_of_cameras_are_named_but_given_to_none(drafted):
    rows = [
        ("episode_metadata/wrist_intrinsics", "tensor", "float32", (3, 3), "none", False, ""),
        ("episode_metadata/intrinsics_note", "text", "str", (), "none", False, ""),
    ]
    schema, text = drafted(features(*rows))
    assert [camera.intrinsics_key for camera in schema.cameras] == [None]
    assert '\n# intrinsics_key = "episode_metadata/wrist_intrinsics"\n' in text
    assert "intrinsics_note" not in text.replace("instruction =", "").split("[[camera]]")[1]
    assert "intrinsics" not in drafted(features())[1]
