"""features.json as a table."""

import json
from pathlib import Path

import pytest

from depthtok.errors import SourceError
from depthtok.sources.features import Feature, read_features, to_json

SAMPLE = Path(__file__).parents[2] / "data/rlds/oxe_depth_encodings/1.0.0/features.json"
CLASSES = "tensorflow_datasets.core.features."


def _read(tmp_path, tree) -> dict[str, Feature]:
    path = tmp_path / "features.json"
    path.write_text(json.dumps(tree))
    return read_features(path)


def _dict(**features):
    return {"pythonClassName": f"{CLASSES}FeaturesDict", "featuresDict": {"features": features}}


def _sequence(feature, length="-1"):
    return {
        "pythonClassName": f"{CLASSES}sequence_feature.Sequence",
        "sequence": {"feature": feature, "length": length},
    }


def _tensor(dtype, *sizes, encoding="none", name="Tensor"):
    shape = {"dimensions": [str(size) for size in sizes]} if sizes else {}
    content = {"shape": shape, "dtype": dtype, "encoding": encoding}
    return {"pythonClassName": f"{CLASSES}x.{name}", "tensor": content}


def test_the_sample():
    features = read_features(SAMPLE)
    assert len(features) == 20
    depth = features["steps/observation/depth_f32_zlib"]
    assert (depth.kind, depth.dtype, depth.shape) == ("tensor", "float32", (64, 64, 1))
    assert (depth.encoding, depth.per_step, depth.size) == ("zlib", True, 4096)
    assert depth.description.startswith("Metres")
    assert features["steps/observation/image"].encoding == "jpeg"
    assert features["steps/is_first"].kind == "scalar"
    path = features["episode_metadata/file_path"]
    assert (path.kind, path.dtype, path.shape, path.per_step) == ("text", "str", (), False)


def test_what_is_written_is_read(tmp_path):
    features = read_features(SAMPLE)
    again = _read(tmp_path, to_json(features))
    assert again == features


def test_every_kind_of_leaf(tmp_path):
    image = {"pythonClassName": f"{CLASSES}image_feature.Image", "image": {"shape": {}}}
    steps = _dict(
        a=_dict(b=_tensor("float32", 2, -1)),
        string=_tensor("string", name="Scalar"),
        label={"pythonClassName": f"{CLASSES}ClassLabel", "classLabel": {"numClasses": "3"}},
        image=image,
        points=_sequence(_dict(x=_tensor("int32", 2)), "4"),
        words=_sequence({"pythonClassName": f"{CLASSES}Text", "text": {}}),
        video=_sequence(image),
        sound={"pythonClassName": f"{CLASSES}audio_feature.Audio", "audio": {}},
        mine={"pythonClassName": "my_package.Custom", "tensor": {"dtype": "float32"}},
        odd=_tensor("complex64", 2),
    )
    features = _read(tmp_path, _dict(steps=_sequence(steps), note=_sequence(_tensor("float64"))))
    table = {path.removeprefix("steps/"): feature for path, feature in features.items()}
    assert table["a/b"].shape == (2, None)
    assert table["a/b"].size is None
    assert (table["string"].kind, table["string"].dtype) == ("text", "str")
    assert (table["label"].kind, table["label"].dtype) == ("class_label", "int64")
    assert (table["image"].shape, table["image"].dtype) == ((None, None, 3), "uint8")
    assert table["points/x"].shape == (4, 2)
    assert (table["words"].kind, table["words"].shape) == ("text", (None,))
    assert {table[name].kind for name in ("video", "sound", "mine", "odd")} == {"other"}
    assert (table["note"].shape, table["note"].per_step) == ((None,), False)


@pytest.mark.parametrize(
    "tree",
    [
        {"featuresDict": 3},
        {"featuresDict": {"features": {"steps": 4}}},
        {"featuresDict": {"features": {"steps": {"sequence": {}}}}},
        _dict(steps=_sequence(_dict(a=_tensor("float32", "x")))),
        _dict(steps=_sequence(_dict(a=_tensor("float32", 1 << 20, 1 << 20, 1 << 40)))),
        _dict(steps=_sequence(_dict(a={"tensor": {}}))),
        {"type": "tensorflow_datasets.core.features.features_dict.FeaturesDict", "content": {}},
    ],
)
def test_trees_that_are_none(tmp_path, tree):
    with pytest.raises(SourceError, match=r"features\.json") as caught:
        _read(tmp_path, tree)
    assert caught.value.remedy


def test_a_data_set_without_steps(tmp_path):
    with pytest.raises(SourceError, match="no `steps`") as caught:
        _read(tmp_path, _dict(picture=_tensor("uint8", 2, 2)))
    assert "picture" in caught.value.remedy


def test_kinds_that_cannot_be_written():
    feature = Feature("steps/sound", "other", "")
    with pytest.raises(SourceError, match="steps/sound"):
        to_json({feature.path: feature})
