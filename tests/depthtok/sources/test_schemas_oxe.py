"""A schema for each Open X-Embodiment set, against its true features where they are published."""

import pytest

from depthtok.errors import SchemaError
from depthtok.sources.schema import Schema
from tests.depthtok.sources.oxe import DOCUMENTED, OB, TRUE, tables

VERIFIED = {"utokyo_xarm_bimanual_converted_externally_to_rlds"}
NOT_READ = {"imperialcollege_sawyer_wrist_cam": {OB + "image"}}  # the wrist's picture once more
LACKING = {"bridge": {"image_1"}}  # of cameras that some releases have
DEPTH = {  # unit, and which cameras
    "taco_play": ("unknown", {"rgb_static", "rgb_gripper"}),
    "berkeley_autolab_ur5": ("unknown", {"image"}),
    "nyu_franka_play_dataset_converted_externally_to_rlds": (
        "unknown",
        {"image", "image_additional_view"},
    ),
    "maniskill_dataset_converted_externally_to_rlds": ("m/1024", {"image", "wrist_image"}),
    "fmb": ("unknown", {"image_side_1", "image_side_2", "image_wrist_1", "image_wrist_2"}),
    "stanford_robocook_converted_externally_to_rlds": (
        "mm",
        {"image_1", "image_2", "image_3", "image_4"},
    ),
    "uiuc_d3field": ("unknown", {"image_1", "image_2", "image_3", "image_4"}),
    "stanford_kuka_multimodal_dataset_converted_externally_to_rlds": ("unknown", {"image"}),
    "bridge_data_msr": ("unknown", {"image_0"}),
}


def test_every_set_has_a_schema_that_its_name_finds():
    assert len(TRUE) == 55
    statuses = {dataset: Schema.find(dataset).status for dataset in TRUE}
    assert {name for name, status in statuses.items() if status == "verified"} == VERIFIED
    assert set(statuses.values()) == {"verified", "catalogue"}


@pytest.mark.parametrize("dataset", sorted(TRUE))
def test_the_schema_fits_the_true_features(dataset):
    schema, features = Schema.find(dataset), TRUE[dataset]
    fitted = schema.fitted(features, dataset)
    cameras = {camera.name for camera in fitted.cameras}
    assert {camera.name for camera in schema.cameras} - cameras == LACKING.get(dataset, set())
    pictures = {p for p, f in features.items() if f.dtype == "uint8" and f.shape[2:] == (3,)}
    read = {camera.key for camera in fitted.cameras}
    assert pictures - read == NOT_READ.get(dataset, set())
    texts = {path for path, feature in features.items() if path.endswith("language_instruction")}
    assert {*schema.instruction.paths} == {
        path for path in texts if "structured" not in path and path.startswith("steps/")
    }
    with_depth = {camera.name: camera.depth_unit for camera in fitted.cameras if camera.depth_key}
    unit, names = DEPTH.get(dataset, ("", set()))
    assert with_depth == dict.fromkeys(names, unit)


def test_no_depth_is_forgotten_and_each_encoding_is_one_that_is_read():
    stored = {
        (name, path)
        for name, features in TRUE.items()
        for path, feature in features.items()
        if "depth" in path.rsplit("/", 1)[-1] and feature.kind in ("image", "tensor")
    }
    depth_keys = {(n, c.depth_key) for n in TRUE for c in Schema.find(n).cameras if c.depth_key}
    assert stored - depth_keys == {("io_ai_tech", OB + "depth")}  # of another size than its picture
    known = tables("features.txt")["oxe_depth_encodings"]  # whose values were read back exactly
    sample = Schema.load("oxe_depth_encodings").fitted(known)
    read = {(known[c.depth_key].kind, known[c.depth_key].dtype) for c in sample.cameras}
    used = {(TRUE[name][key].kind, TRUE[name][key].dtype) for name, key in depth_keys}
    assert used - read == {("image", "uint8")}  # a picture of grey, read as such


@pytest.mark.parametrize("dataset", sorted(DOCUMENTED))
def test_a_documented_schema_is_taken_where_it_fits(dataset):
    schema = Schema.find(dataset)
    assert schema.status == "documented"
    assert len(schema.fitted(DOCUMENTED[dataset], dataset).cameras) == len(schema.cameras)


@pytest.mark.parametrize("dataset", sorted(DOCUMENTED))
def test_a_documented_schema_is_refused_where_it_does_not_fit(dataset):
    features, schema = DOCUMENTED[dataset], Schema.find(dataset)
    column = next(columns.path for columns in schema.action_columns if columns.path)
    for key in (schema.cameras[0].key, column, schema.instruction.paths[0]):
        lacking = {path: feature for path, feature in features.items() if path != key}
        with pytest.raises(SchemaError, match=f"no feature '{key}'.*from documentation") as error:
            schema.check(lacking, dataset)
        assert "depthtok inspect DIR --draft" in error.value.remedy


def test_another_action_than_documented_is_refused():
    features = DOCUMENTED["language_table"]
    wider = dict(features, **{"steps/action": TRUE["bridge_data_msr"]["steps/action"]})
    with pytest.raises(SchemaError, match=r"7 columns, but dims names 2.*from documentation"):
        Schema.find("language_table").check(wider, "language_table")


def test_only_documented_schemas_say_that_they_are():
    lacking = {k: f for k, f in TRUE["roboturk"].items() if k != OB + "front_rgb"}
    with pytest.raises(SchemaError) as error:
        Schema.find("roboturk").check(lacking, "roboturk")
    assert "documentation" not in error.value.problem
