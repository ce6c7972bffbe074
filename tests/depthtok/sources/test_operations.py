import pickle

import numpy as np
import pytest

from depthtok.errors import SchemaError
from depthtok.sources import rotations
from depthtok.sources.operations import OPERATIONS, Call

HALF = np.pi / 2


def run(text: str, *rows) -> np.ndarray:
    return Call.parse(text, "here")(np.array(rows, float))


def elementary(angles) -> np.ndarray:
    """Rz(yaw) Ry(pitch) Rx(roll), multiplied out of the elementary matrices."""
    (r, p, y), one = angles, np.eye(3)

    def turn(axis: int, angle: float) -> np.ndarray:
        i, j = (axis + 1) % 3, (axis + 2) % 3
        matrix = one.copy()
        matrix[i, i] = matrix[j, j] = np.cos(angle)
        matrix[j, i], matrix[i, j] = np.sin(angle), -np.sin(angle)
        return matrix

    return turn(2, y) @ turn(1, p) @ turn(0, r)


def rodrigues(vector) -> np.ndarray:
    """The rotation matrix of an axis-angle vector by Rodrigues' formula."""
    angle = np.linalg.norm(vector)
    x, y, z = np.asarray(vector) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@pytest.fixture
def angles() -> np.ndarray:
    rng = np.random.default_rng(0)
    some = rng.uniform([-np.pi, -HALF, -np.pi], [np.pi, HALF, np.pi], (200, 3))
    near = [[0.3, HALF - 1e-5, 0.7], [0.3, -HALF + 1e-5, 0.7], [np.pi, 0, 0], [0, 0, 0]]
    return np.concatenate([some, near, [[1e-9, 2e-9, -1e-9]]])


def test_euler_matrix_is_the_product_of_elementary_rotations(angles):
    got = rotations.convert(angles, "euler", "matrix").reshape(-1, 3, 3)
    np.testing.assert_allclose(got, [elementary(row) for row in angles], atol=1e-14)


def test_axis_angle_matrix_follows_rodrigues(angles):
    got = rotations.convert(angles[:200], "axis_angle", "matrix").reshape(-1, 3, 3)
    np.testing.assert_allclose(got, [rodrigues(row) for row in angles[:200]], atol=1e-14)


@pytest.mark.parametrize("form", rotations.FORMS)
def test_every_form_and_back_is_the_same_rotation(angles, form):
    there = rotations.convert(angles, "euler", form)
    assert there.shape == (len(angles), rotations.width(form))
    back = rotations.convert(there, form, "euler")
    np.testing.assert_allclose(rotations.wrap(back - angles + 1), 1, atol=2e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_at_the_singular_pitch_the_rotation_is_kept_and_yaw_is_zero(sign):
    rows = np.array([[0.3, sign * HALF, 0.7]])
    back = rotations.convert(rotations.convert(rows, "euler", "matrix"), "matrix", "euler")
    assert back[0, 2] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(elementary(back[0]), elementary(rows[0]), atol=1e-7)


def test_quaternion_orders_are_what_the_names_say():
    quarter = np.sqrt(0.5)  # 90 degrees about z
    np.testing.assert_allclose(run("euler_to_quat_xyzw", [0, 0, HALF]), [[0, 0, quarter, quarter]])
    np.testing.assert_allclose(run("euler_to_quat_wxyz", [0, 0, HALF]), [[quarter, 0, 0, quarter]])
    np.testing.assert_allclose(run("quat_xyzw_to_axis_angle", [0, 0, 1, 1]), [[0, 0, HALF]])
    np.testing.assert_allclose(
        run("quat_wxyz_to_euler", [-quarter, 0, 0, -quarter]), [[0, 0, HALF]], atol=1e-15
    )


def test_axis_angle_at_the_ends():
    np.testing.assert_array_equal(run("quat_wxyz_to_axis_angle", [1, 0, 0, 0]), [[0, 0, 0]])
    tiny = run("euler_to_axis_angle", [1e-12, 0, 0])
    np.testing.assert_allclose(tiny, [[1e-12, 0, 0]], rtol=1e-9)
    half_turn = run("matrix_to_axis_angle", [1, 0, 0, 0, -1, 0, 0, 0, -1])
    np.testing.assert_allclose(np.abs(half_turn), [[np.pi, 0, 0]], atol=1e-12)


def test_pose_in_both_orders():
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = elementary([0.1, 0.2, 0.3]), [1, 2, 3]
    want = [[1, 2, 3, 0.1, 0.2, 0.3]]
    np.testing.assert_allclose(run("pose_rows_to_xyz_euler", pose.ravel()), want)
    np.testing.assert_allclose(run("pose_columns_to_xyz_euler", pose.T.ravel()), want)


def test_wrap_is_half_open():
    got = run("wrap_angle", [np.pi, -np.pi, 3.5, -3.5, 7])
    want = [np.pi, np.pi, 3.5 - 2 * np.pi, 2 * np.pi - 3.5, 7 - 2 * np.pi]
    np.testing.assert_allclose(got, [want])


def test_arithmetic():
    np.testing.assert_array_equal(run("scale 2", [1, -3]), [[2, -6]])
    np.testing.assert_array_equal(run("offset -1", [1, -3]), [[0, -4]])
    np.testing.assert_array_equal(run("clip 0 1", [2, -3, 0.5]), [[1, 0, 0.5]])
    np.testing.assert_array_equal(run("unit_interval -1 1", [-1, 0, 1]), [[0, 0.5, 1]])
    np.testing.assert_array_equal(run("invert", [0, 1]), [[1, 0]])
    np.testing.assert_array_equal(run("threshold 0.5", [0.5, 0.6]), [[0, 1]])
    np.testing.assert_array_equal(run("reverse", [1, 2, 3]), [[3, 2, 1]])
    np.testing.assert_array_equal(run("delta", [1], [4], [2]), [[3], [-2], [0]])


def test_binarize_takes_the_state_that_is_reached_next():
    opening = run("binarize_gripper", [0], [0.3], [0.7], [1], [0.6], [0.2], [0], [0.4], [0.6])
    assert opening[:, 0].tolist() == [0, 1, 1, 1, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("commands", "states"),
    [
        ([0, 0, 1, 0, -1, 0], [1, 1, 0, 0, 1, 1]),
        ([0, -1, 0, 1], [0, 1, 1, 0]),
        ([0, 0.05, -0.05], [1, 1, 1]),
        ([1, 0], [0, 0]),
    ],
)
def test_absolute_gripper_holds_the_last_command(commands, states):
    assert run("absolute_gripper", *np.array(commands)[:, None])[:, 0].tolist() == states


def test_gripper_operations_treat_columns_apart():
    commands = np.array([[0, 0], [1, 0], [0, -1]], float)
    got = Call.parse("absolute_gripper", "here")(commands)
    assert got.tolist() == [[1, 0], [0, 0], [0, 1]]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_the_steps_its_width_and_its_input(name):
    operation = OPERATIONS[name]
    call = Call(name, tuple(float(i) for i in range(len(operation.arguments))))
    values = np.random.default_rng(1).uniform(0.1, 1, (5, operation.takes or 3))
    before = values.copy()
    assert call(values).shape == (5, call.width(values.shape[1], "here"))
    np.testing.assert_array_equal(values, before)
    assert Call.parse(str(call), "here") == call == pickle.loads(pickle.dumps(call))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("invrt", "Did you mean 'invert'"),
        ("", "no operation ''"),
        ("clip 0", "clip low high"),
        ("clip 0 one", "clip low high"),
        ("scale nan", "scale by"),
        ("invert 1", "does not match 'invert'"),
        ("clip 1 0", "'clip 1 0' leaves no range of numbers"),
        ("clip 1 1", "leaves no range"),
        ("unit_interval 2 2", "leaves no range"),
    ],
)
def test_a_call_that_is_not_understood_is_named(text, says):
    with pytest.raises(SchemaError, match=says):
        Call.parse(text, "here")


def test_a_width_that_does_not_fit_is_named():
    with pytest.raises(SchemaError, match="takes 3 columns, but gets 4"):
        Call.parse("euler_to_matrix", "here").width(4, "here")
