"""The schemas that ship, and drafts, against the features of published data sets."""

import pickle
import re
from pathlib import Path

import pytest

from depthtok.errors import SchemaError
from depthtok.sources.draft import describe, draft
from depthtok.sources.features import Feature
from depthtok.sources.schema import Schema
from tests.depthtok.sources.oxe import DOCUMENTED, TRUE, tables
from tools.document_schemas import updated

ROOT = Path(__file__).parents[3]


FEATURES = tables("features.txt")
SHIPPED = {name for schema in Schema.names() for name in Schema.load(schema).datasets}


@pytest.mark.parametrize("dataset", FEATURES)
def test_shipped_schemas_fit_the_published_features(dataset):
    schema = Schema.find(dataset)
    schema.check(FEATURES[dataset], dataset)
    assert all(
        camera.key in FEATURES[dataset] for camera in schema.fitted(FEATURES[dataset]).cameras
    )


@pytest.mark.parametrize("dataset", sorted(TRUE))
def test_a_draft_fits_the_true_features(dataset, tmp_path):
    if dataset == "tidybot":  # its action is a text
        with pytest.raises(SchemaError, match="no action"):
            draft(TRUE[dataset], dataset)
        return
    path = tmp_path / "mine.toml"
    text = draft(TRUE[dataset], dataset)
    path.write_text(text, "utf-8")
    schema = Schema.load(path)
    schema.check(TRUE[dataset], dataset)
    assert schema.instruction.paths, "all of them have a language instruction"
    states = {
        path
        for path, feature in TRUE[dataset].items()
        if re.match(r"steps/observation/.*(state|pose|joint|gripper)", path)
        and feature.dtype == "float32"
        and len(feature.shape) <= 2
        and feature.kind != "image"
        and "depth" not in path
    }
    assert [path for path in states if f'from = "{path}"' not in text] == []
    assert not re.search(r'from = ".*(success|reward|is_last|discount)"', text)


GRIPPERS = {  # what the catalogue's own words say
    "aloha_mobile": [],
    "berkeley_fanuc_manipulation": [],
    "utokyo_xarm_bimanual_converted_externally_to_rlds": [],
    "taco_play": [],
    "stanford_robocook_converted_externally_to_rlds": [],
    "austin_buds_dataset_converted_externally_to_rlds": [6],
    "nyu_franka_play_dataset_converted_externally_to_rlds": [13],
    "cmu_play_fusion": [7],
    "stanford_mask_vit_converted_externally_to_rlds": [4],
    "viola": [0],
}


@pytest.mark.parametrize("dataset", GRIPPERS)
def test_a_draft_names_a_gripper_where_the_catalogue_does(dataset, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(draft(TRUE[dataset], dataset), "utf-8")
    assert list(Schema.load(path).gripper_dims) == GRIPPERS[dataset]


@pytest.mark.parametrize("name", Schema.names())
def test_shipped_schemas_are_whole(name):
    schema = Schema.load(name)
    assert schema.name == name
    assert schema.source
    assert {*schema.datasets} & {*FEATURES, *TRUE, *DOCUMENTED}
    assert pickle.loads(pickle.dumps(schema)) == schema


def test_no_data_set_has_two_schemas():
    datasets = [dataset for name in Schema.names() for dataset in Schema.load(name).datasets]
    assert len(datasets) == len(set(datasets))


def test_find_and_load_by_alias():
    assert Schema.find("libero_10_no_noops").name == "libero"
    assert Schema.load("bridge_orig").name == "bridge_dataset"
    assert Schema.find("no_such_set") is None
    with pytest.raises(SchemaError, match="Did you mean 'taco_play'"):
        Schema.load("taco_plai")
    with pytest.raises(SchemaError, match="there is no file"):
        Schema.load("nowhere/my.toml")


@pytest.mark.parametrize("dataset", FEATURES)
def test_a_draft_loads_and_fits(dataset, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(draft(FEATURES[dataset], "mine"), "utf-8")
    schema = Schema.load(path)
    schema.check(FEATURES[dataset])
    shipped = Schema.find(dataset).fitted(FEATURES[dataset])
    assert schema.datasets == ("mine",)
    assert {camera.key for camera in schema.cameras} == {camera.key for camera in shipped.cameras}
    if dataset != "oxe_depth_encodings":  # which has seven depth maps for two images
        assert {c.key: c.depth_key for c in schema.cameras} == {
            c.key: c.depth_key for c in shipped.cameras
        }


def test_a_draft_needs_images_and_actions():
    with pytest.raises(SchemaError, match="no camera image"):
        draft({"steps/action": Feature("steps/action", "tensor", "float32", (7,))}, "mine")
    with pytest.raises(SchemaError, match="no action"):
        draft({"steps/image": Feature("steps/image", "image", "uint8", (8, 8, 3))}, "mine")


def test_describe():
    image = Feature("steps/image", "image", "uint8", (8, 8, 3))
    rows = describe({"steps/image": image, "name": Feature("name", "text", "str", per_step=False)})
    assert rows[0] == ("name", "text", "str", "", "episode")
    assert ("steps/image", "image", "uint8", "8 x 8 x 3", "step") in rows


def test_the_page_is_up_to_date():
    page = (ROOT / "docs/schemas.md").read_text("utf-8")
    assert page == updated(page), "run python -m tools.document_schemas docs/schemas.md"


def test_the_example_on_the_page_loads(tmp_path):
    page = (ROOT / "docs/schemas.md").read_text("utf-8")
    path = tmp_path / "my_set.toml"
    path.write_text(page.split("```toml\n")[1].split("```")[0], "utf-8")
    assert Schema.load(path).action_dims[-1] == "gripper"


def test_a_camera_that_a_release_lacks_is_left_out():
    bridge = {k: f for k, f in FEATURES["bridge_dataset"].items() if not k.endswith("image_2")}
    names = [camera.name for camera in Schema.load("bridge_dataset").fitted(bridge).cameras]
    assert names == ["image_0", "image_1", "image_3"]
