"""Made-up data of the true features of Open X-Embodiment sets, converted by their schemas.

What the actions must be is written out here for each set, without the schema's operations.
"""

import numpy as np
import pytest

from depthtok.config import RunOptions
from depthtok.errors import DepthtokError
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.verify import verify_store
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig, ConvertConfig
from pipelines.convert.stage import ConvertStage
from pipelines.run import run
from tests.depthtok.sources.oxe import DOCUMENTED, OB, STEPS, TRUE, episode, with_encoding, written

A = "steps/action"
X = "_converted_externally_to_rlds"


def stack(*parts):
    return np.column_stack([np.asarray(part, np.float32).reshape(STEPS, -1) for part in parts])


def numbers(values, path=A):
    return np.asarray(values[path], np.float32).reshape(STEPS, -1)


def dict_action(values, gripper):
    return stack(values[A + "/world_vector"], values[A + "/rotation_delta"], gripper)


EXPECTED = {  # the action of an episode, from what is stored
    "berkeley_cable_routing": lambda v: dict_action(v, np.zeros(STEPS)),
    "roboturk": lambda v: dict_action(v, 1 - numbers(v, A + "/gripper_closedness_action")),
    "toto": lambda v: dict_action(v, numbers(v, A + "/open_gripper")),
    "stanford_hydra_dataset" + X: lambda v: stack(numbers(v)[:, :6], 1 - numbers(v)[:, 6]),
    "dlr_edan_shared_control" + X: lambda v: stack(
        numbers(v)[:, :3], numbers(v)[:, [4, 5, 3]], 1 - numbers(v)[:, 6]
    ),
    "berkeley_fanuc_manipulation": lambda v: stack(numbers(v), 1 - numbers(v, OB + "state")[:, 6]),
    "bc_z": lambda v: stack(
        numbers(v, A + "/future/xyz_residual")[:, :3],
        numbers(v, A + "/future/axis_angle_residual")[:, :3],
        1 - numbers(v, A + "/future/target_close")[:, 0],
    ),
    "dobbe": numbers,
    "stanford_robocook" + X: numbers,
    "stanford_kuka_multimodal_dataset" + X: numbers,
    "uiuc_d3field": numbers,
    "stanford_mask_vit" + X: lambda v: stack(numbers(v)[:, :4], (1 - numbers(v)[:, 4]) / 2),
    "language_table": lambda v: stack(numbers(v), np.zeros((STEPS, 4)), np.ones(STEPS)),
}


@pytest.fixture(scope="module", params=EXPECTED)
def converted(request, tmp_path_factory):
    """Name, features as written, and the store."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    features = TRUE.get(name) or DOCUMENTED[name]
    source = written(folder / name / "0.1.0", name, features)
    stage = ConvertStage(RldsDirectory.open(source), folder / "store", ConvertConfig())
    outcome = run(stage, RunOptions())
    assert (outcome.exit_code, outcome.failures) == (0, [])
    encoded = {path: with_encoding(feature) for path, feature in features.items()}
    return name, encoded, EpisodeStore(folder / "store")


def test_the_actions_are_what_is_written_here(converted):
    name, features, store = converted
    assert store.lengths.tolist() == [STEPS, STEPS]
    for number in range(2):
        expected = EXPECTED[name](episode(name, features, number))
        np.testing.assert_allclose(store.episode(number).action, expected, atol=1e-6)


def test_the_store_is_whole_and_knows_the_instruction(converted):
    name, _, store = converted
    assert list(verify_store(store.path, images=True)) == []
    said = "push it" if name == "language_table" else "pick it up"
    assert {store.episode(number).instruction() for number in range(2)} == {said}


@pytest.mark.parametrize("converted", ["stanford_robocook" + X], indirect=True)
def test_robocooks_depth_is_millimetres_and_what_was_clipped_at_two_metres_is_none(
    converted, tmp_path
):
    name, features, store = converted
    config = AnnotateConfig(estimator="dataset", camera=("image_3",), size=0)
    outcome = run(AnnotateStage(store, tmp_path, config, "cpu"), RunOptions())
    assert outcome.exit_code == 0
    stored = np.array(episode(name, features, 0)[OB + "depth_3"])
    read = next(DepthStore(tmp_path).clips("image_3")).read()
    valid = (stored > 0) & (stored < 2000)
    np.testing.assert_array_equal(read.valid, valid)
    np.testing.assert_allclose(read.values[valid], stored[valid] / 1000, atol=1e-3)


@pytest.mark.parametrize(
    "converted", ["uiuc_d3field", "stanford_kuka_multimodal_dataset" + X], indirect=True
)
def test_depth_of_an_unknown_unit_is_kept_in_mind_but_not_taken_for_metres(converted, tmp_path):
    store = converted[2]
    assert all(camera.has_depth for camera in store.cameras.values())
    stage = AnnotateStage(store, tmp_path, AnnotateConfig(estimator="dataset"), "cpu")
    with pytest.raises(DepthtokError, match="unit"):
        run(stage, RunOptions())
