"""True features of published data sets, and made-up episodes that have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from depthtok.sources.features import Feature
from depthtok.sources.schema import Schema
from depthtok.sources.write import RldsWriter

DATA = Path(__file__).parents[2] / "data"
STEPS = 3


def tables(file: str) -> dict[str, dict[str, Feature]]:
    """The features of every data set of a text file: a line a feature."""
    sets: dict[str, dict[str, Feature]] = {}
    for line in (DATA / file).read_text("utf-8").splitlines():
        if line.startswith("["):
            features = sets[line.strip("[]")] = {}
        elif not line.startswith("#"):
            words, _, said = line.partition(" | ")
            path, kind, dtype, *shape = words.split()
            sizes = [s for s in ",".join(shape).split(",") if s]
            features[path] = Feature(
                path,
                kind,
                dtype,
                tuple(None if s in ("?", "None") else int(s) for s in sizes),
                per_step=path.startswith("steps/"),
                description=said,
            )
    return sets


TRUE = tables("oxe_features/features.txt")
"""The features of 55 Open X-Embodiment data sets as their catalogue states them, whole."""

OB = "steps/observation/"
RGB, NUMBERS = "image uint8", "tensor float32"


def listed(**rows: str) -> dict[str, Feature]:
    """Features of `name="kind dtype 3,4"`; in names `__` is a slash."""
    features = {}
    for name, words in rows.items():
        kind, dtype, *shape = words.split()
        path = "steps/" + name.replace("__", "/")
        sizes = tuple(int(s) for s in shape[0].split(",")) if shape else ()
        features[path] = Feature(path, kind, dtype, sizes)
    return features


DOCUMENTED = {
    "language_table": listed(
        observation__rgb=f"{RGB} 360,640,3",
        observation__instruction="tensor int32 512",
        observation__effector_translation=f"{NUMBERS} 2",
        observation__effector_target_translation=f"{NUMBERS} 2",
        action=f"{NUMBERS} 2",
        is_first="tensor bool",
    ),
    "furniture_bench_dataset_converted_externally_to_rlds": listed(
        observation__image=f"{RGB} 224,224,3",
        observation__wrist_image=f"{RGB} 224,224,3",
        observation__state=f"{NUMBERS} 35",
        action=f"{NUMBERS} 8",
        language_instruction="text str",
        is_first="tensor bool",
    ),
    "droid": listed(
        observation__exterior_image_1_left=f"{RGB} 180,320,3",
        observation__exterior_image_2_left=f"{RGB} 180,320,3",
        observation__wrist_image_left=f"{RGB} 180,320,3",
        observation__cartesian_position="tensor float64 6",
        observation__gripper_position="tensor float64 1",
        action_dict__cartesian_velocity="tensor float64 6",
        action_dict__gripper_position="tensor float64 1",
        language_instruction="text str",
        language_instruction_2="text str",
        language_instruction_3="text str",
        is_first="tensor bool",
    ),
}
"""What the documentation of data sets without published features says of theirs."""


def written(path: Path, name: str, features: Mapping[str, Feature], episodes: int = 2) -> Path:
    """An RLDS data set of made-up values with these features; JPEG and PNG as is usual."""
    encoded = {key: with_encoding(feature) for key, feature in features.items()}
    writer = RldsWriter(path, name, "0.1.0", encoded)
    writer.write("train", (episode(name, encoded, number) for number in range(episodes)), 1)
    return writer.finish()


def with_encoding(feature: Feature) -> Feature:
    """The feature as it is written: the catalogue does not say how pictures are encoded."""
    if feature.kind == "image":
        return replace(feature, encoding="jpeg" if feature.shape[2:] == (3,) else "png")
    is_packed = "clip_function_input" in feature.path  # kuka's state is stored compressed
    return replace(feature, encoding="zlib" if is_packed else "none")


def episode(name: str, features: Mapping[str, Feature], number: int) -> dict[str, object]:
    """Values of one episode: small numbers, grippers of 0 or 1, poses that are some, depth of one
    metre and more."""
    rng = np.random.default_rng([number, len(name)])
    schema = Schema.find(name)
    assert schema is not None
    depths = {camera.depth_key: camera.depth_unit for camera in schema.cameras if camera.depth_key}
    values: dict[str, object] = {}
    for path, feature in features.items():
        rows = [_value(feature, rng, depths.get(path)) for _ in range(STEPS)]
        values[path] = rows if feature.per_step else rows[0]
    for columns in schema.action_columns:
        if columns.path is None or not any(dim.startswith("gripper") for dim in columns.dims):
            continue
        stored = np.array(values[columns.path])
        flat = stored.reshape(STEPS, -1)
        states = rng.integers(0, 2, flat.shape)
        grippers = {*columns.indices(flat.shape[1], name)} - {*columns.motion(flat.shape[1])}
        flat[:, sorted(grippers)] = states[:, sorted(grippers)]
        values[columns.path] = list(flat.reshape(stored.shape))
    return values


def _value(feature: Feature, rng: np.random.Generator, depth_unit: str | None) -> object:
    """One value of a feature."""
    shape = tuple(size or 2 for size in feature.shape)
    if feature.kind == "text":
        return ["put it", "there"] if feature.shape else "pick it up"
    if depth_unit is not None and feature.dtype != "uint8":
        is_metres = feature.dtype == "float32" and depth_unit != "mm"
        value = rng.uniform(1.0, 1.8, shape) * (1 if is_metres else 1000)
        value[:3], value[3:6] = 0, 2000
    elif shape == (512,) and feature.dtype == "int32":  # the codes of characters
        value = np.pad(np.frombuffer(b"push it", np.uint8), (0, 505))
    elif shape == (3, 3):  # a camera's, the same at all steps
        value = np.array([[100.0, 0, 64], [0, 100, 64], [0, 0, 1]])
    elif shape == (4, 4):
        pose = np.c_[np.eye(3)[[1, 2, 0]], rng.uniform(-1, 1, 3)]
        value = np.vstack([pose, [0, 0, 0, 1]])
    elif feature.dtype.startswith("float"):
        value = rng.uniform(-0.5, 0.5, shape)
    else:
        value = rng.integers(0, 200 if feature.kind == "image" else 2, shape)
    return value.astype(feature.dtype)
