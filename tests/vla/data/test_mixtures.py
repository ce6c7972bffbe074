"""Mixtures by name: the published weights, each data set's schema and camera."""

import numpy as np
import pytest

from depthtok.errors import ConfigError, StaleStore
from depthtok.sources.schema import Schema
from tests.vla import fakes
from tests.vla.data.test_data import sample
from vla.data.meanings import require_same
from vla.mixtures import Mixture, mixtures
from vla.named_configs import load, presets
from vla.training.checkpoint import TrainingState
from vla.training.resume import identity, require_same_data

X = "_converted_externally_to_rlds"
PUBLISHED = {  # openvla/openvla at bc8412a, prismatic/vla/datasets/rlds/oxe/mixtures.py
    "fractal20220817_data": 0.54087122203,
    "kuka": 0.8341046294,
    "bridge_orig": 1.0,
    "taco_play": 2.0,
    "jaco_play": 1.0,
    "berkeley_cable_routing": 1.0,
    "roboturk": 2.0,
    "viola": 2.0,
    "berkeley_autolab_ur5": 2.0,
    "toto": 1.0,
    "language_table": 0.1,
    "stanford_hydra_dataset" + X: 2.0,
    "austin_buds_dataset" + X: 1.0,
    "nyu_franka_play_dataset" + X: 3.0,
    "furniture_bench_dataset" + X: 0.1,
    "ucsd_kitchen_dataset" + X: 2.0,
    "austin_sailor_dataset" + X: 1.0,
    "austin_sirius_dataset" + X: 1.0,
    "dlr_edan_shared_control" + X: 1.0,
    "iamlab_cmu_pickup_insert" + X: 1.0,
    "utaustin_mutex": 1.0,
    "berkeley_fanuc_manipulation": 2.0,
    "cmu_stretch": 1.0,
    "bc_z": 0.2,
    "fmb_dataset": 1.0,
    "dobbe": 0.2,
    "droid": 0.06,
}


def test_the_weights_are_the_published_ones():
    assert mixtures() == ["magic-soup-plus"]
    mixture = Mixture.load("magic-soup-plus")
    assert {name: share.weight for name, share in mixture.datasets.items()} == PUBLISHED
    assert len(PUBLISHED) == 27


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_each_data_set_has_a_schema_with_its_camera_and_the_same_seven_columns(dataset):
    schema = Schema.find(dataset)
    share = Mixture.load("magic-soup-plus").share(dataset)
    assert share.camera in [camera.name for camera in schema.cameras]
    assert schema.action_dims[:3] == ("x", "y", "z")
    rotation = ("rx", "ry", "rz") if dataset == "bc_z" else ("roll", "pitch", "yaw")
    assert schema.action_dims[3:] == (*rotation, "gripper")
    unknown = dataset == "ucsd_kitchen_dataset" + X
    assert schema.gripper == ("unknown" if unknown else "open1_closed0")


def test_the_preset_takes_what_the_schemas_say():
    meanings = {dataset: Schema.find(dataset).meaning for dataset in PUBLISHED}
    assert "magic-soup-plus" in presets()
    require_same(meanings, load("magic-soup-plus"))
    with pytest.raises(ConfigError) as error:
        require_same(meanings, load("qdepth", {"model.proprio_dim": 0}))
    for aspect in load("magic-soup-plus").data.mix:
        assert f"{aspect}: " in error.value.problem


@pytest.mark.parametrize(
    ("name", "camera"), [("bridge_dataset", "image_0"), ("fmb", "image_side_1")]
)
def test_a_data_set_is_found_by_its_other_names(name, camera):
    mixture = Mixture.load("magic-soup-plus")
    assert mixture.share(name).camera == camera
    assert mixture.cameras_of(name, ["wrist", "primary"]) == ("wrist", camera)


def test_what_is_not_in_a_mixture_is_said():
    with pytest.raises(ConfigError, match="'libero_90' is not in the mixture 'magic-soup-plus'"):
        Mixture.load("magic-soup-plus").share("libero_90")
    with pytest.raises(ConfigError, match="mixture = 'magic-soup' is not known") as error:
        Mixture.load("magic-soup")
    assert error.value.remedy == "Did you mean 'magic-soup-plus'?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("camera = 'a'\n[datasets]\nx = { weight = 0, camera = 'b' }", "`weight` cannot be 0"),
        ("camera = 'a'\n[datasets]\nx = { weight = 1 }", "`camera` is not given"),
        ("camera = 'a'\n[dataset]\n", "there is no setting 'dataset'"),
        ("[datasets]\n", "`camera` is not given"),
    ],
)
def test_a_mixture_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Mixture.load(str(path))


def test_samples_show_the_camera_that_the_data_set_calls_otherwise(micro, toy):
    episodes = fakes.FakeEpisodes()
    data = toy(micro(model__depth__expert=False), episodes, cameras=("wrist", "main"))
    row, episode = sample(data, 10), episodes.episode(1)
    np.testing.assert_array_equal(row["images_BIHW3"][0], episode.images["wrist"][2])
    np.testing.assert_array_equal(row["images_BIHW3"][1], episode.images["main"][2])


def test_codes_are_of_the_data_sets_own_camera(micro, toy):
    config = micro(model__cameras=1, data__cameras=("primary",))
    data = toy(config, cameras=("main",))
    key = data.members[0].episodes.episode(1).key
    codes = data.members[0].codes.grid_of(key, "main").codes[2]
    assert (sample(data, 10)["depth_BMK"][0] == codes.reshape(-1)).all()
    with pytest.raises(ConfigError, match="no codes of camera 'elsewhere'"):
        toy(config, cameras=("elsewhere",))


def test_a_run_does_not_go_on_with_another_camera(micro, toy, tmp_path):
    config = micro(model__depth__expert=False)
    rows = [
        [identity(member, size, config.data.cameras) for member, size in data.sources()]
        for data in (toy(config), toy(config, cameras=("wrist", "main")))
    ]
    assert "cameras" not in rows[0][0][4]  # as before there were mixtures
    states = [TrainingState(0, {}, "", row, {}, {}) for row in rows]
    require_same_data(tmp_path, states[1], states[1])
    with pytest.raises(StaleStore, match="other cameras of toy"):
        require_same_data(tmp_path, *states)
