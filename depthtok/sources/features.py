"""features.json: the features of a data set's episodes, read as plain data, and written.

tensorflow-datasets describes features as a tree of messages, each with a `pythonClassName` and one
content: `featuresDict`, `sequence`, `tensor`, `image`, `text`, ... Here the tree becomes a flat
table by path. No class is imported: a feature of an unknown class is kept as kind "other".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from depthtok.disk.lfs import POINTER, PULL
from depthtok.disk.regular import require_file, require_given
from depthtok.errors import SourceError

STEPS = "steps/"
_DICT = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
_SEQUENCE = "tensorflow_datasets.core.features.sequence_feature.Sequence"
_DATASET = "tensorflow_datasets.core.features.dataset_feature.Dataset"
_CLASSES = {
    "image": "tensorflow_datasets.core.features.image_feature.Image",
    "tensor": "tensorflow_datasets.core.features.tensor_feature.Tensor",
    "scalar": "tensorflow_datasets.core.features.scalar.Scalar",
    "text": "tensorflow_datasets.core.features.text_feature.Text",
}
_LARGEST_STEP = 1 << 31  # values; the record of an episode cannot be larger
_STRINGS = ("string", "object", "str")
_NUMBERS = frozenset(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)) | {
    "bool",
    "float16",
    "float32",
    "float64",
    "bfloat16",
}


@dataclass(frozen=True)
class Feature:
    """One leaf of the tree. `shape` is that of one step if `per_step`, else of one episode."""

    path: str  # "steps/observation/image", "episode_metadata/file_path"
    kind: str  # "image" | "tensor" | "scalar" | "text" | "class_label" | "other"
    dtype: str  # numpy name: "uint8", "float32", "bool", ... ("bfloat16" too); "str" for text
    shape: tuple[int | None, ...] = ()
    encoding: str = ""  # image: "jpeg" | "png" | ""; tensor: "none" | "bytes" | "zlib"
    per_step: bool = True
    description: str = ""

    @property
    def size(self) -> int | None:
        """The number of values per step (or episode); None if a dimension is unknown."""
        return values_in(self.shape)


Features = Mapping[str, Feature]  # by path


def values_in(shape: tuple[int | None, ...]) -> int | None:
    """The number of values of an array of this shape; None if a dimension is unknown."""
    sizes = [size for size in shape if size is not None]
    return math.prod(sizes) if len(sizes) == len(shape) else None


def read_features(path: Path) -> dict[str, Feature]:
    """The features of a features.json, by path and in its order.

    Raises `SourceError` if it is not such a file, or describes no steps.
    """
    tree = read_json(path)
    try:
        features = {feature.path: feature for feature in _leaves(tree, "")}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise SourceError(
            f"{path} is not a features.json of tensorflow-datasets ({error!r})",
            remedy="download it again; files from before tensorflow-datasets 4.5 must be rewritten",
        ) from error
    if not any(feature.per_step for feature in features.values()):
        raise SourceError(
            f"{path} describes no `steps`: this is not an RLDS data set of episodes",
            remedy=f"give one in RLDS format; this one has {', '.join(features) or 'no features'}",
        )
    return features


def read_json(path: Path) -> dict:
    """A JSON object from a file. Raises `SourceError` with the reason if that fails."""
    require_file(path)
    try:
        text = path.read_bytes()
        if text.startswith(POINTER):
            raise SourceError(
                f"{path} is a Git LFS pointer, not the file itself",
                remedy=PULL,
            )
        value = json.loads(text)
    except OSError as error:
        require_given(path, error)
        raise SourceError(
            f"{path} cannot be read ({error.strerror})",
            remedy="an RLDS directory contains dataset_info.json, features.json and the shards",
        ) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{path} is not valid JSON ({error})", remedy="download the file again"
        ) from error
    if not isinstance(value, dict):
        raise SourceError(f"{path} is not a JSON object", remedy="download the file again")
    return value


def _leaves(node: dict, path: str) -> Iterator[Feature]:
    """The leaves under a node, with slash-separated paths."""
    if "featuresDict" in node:
        for name, child in node["featuresDict"].get("features", {}).items():
            yield from _leaves(child, f"{path}/{name}" if path else name)
    elif "sequence" in node and path == STEPS.rstrip("/"):
        yield from _leaves(node["sequence"]["feature"], path)
    elif "sequence" in node:
        length = int(node["sequence"].get("length", -1))
        for leaf in _leaves(node["sequence"]["feature"], path):
            yield _in_sequence(leaf, None if length < 0 else length)
    elif "pythonClassName" not in node:
        raise ValueError(f"{path or 'the root'} has no pythonClassName")
    else:
        yield _leaf(node, path)


def _leaf(node: dict, path: str) -> Feature:
    last = str(node["pythonClassName"]).rsplit(".", 1)[-1]
    about = str(node.get("description", ""))
    leaf = Feature(path, "other", "", (), last, path.startswith(STEPS), about)
    if "image" in node and last in ("Image", "LabeledImage"):
        image = node["image"]
        dtype = str(image.get("dtype") or "uint8")
        shape = _shape(image) or (None, None, 3)
        encoding = image.get("encodingFormat", "")
        return replace(leaf, kind="image", dtype=dtype, shape=shape, encoding=encoding)
    if "text" in node:
        return replace(leaf, kind="text", dtype="str", encoding="")
    if "classLabel" in node:
        return replace(leaf, kind="class_label", dtype="int64", encoding="none")
    if "tensor" in node and last in ("Tensor", "Scalar"):
        tensor = node["tensor"]
        dtype = str(tensor["dtype"])
        encoding = str(tensor.get("encoding") or "none").lower()
        if dtype in _STRINGS:
            return replace(leaf, kind="text", dtype="str", shape=_shape(tensor), encoding="")
        if dtype in _NUMBERS and encoding in ("none", "bytes", "zlib"):
            kind = "scalar" if last == "Scalar" else "tensor"
            shape = _shape(tensor)
            return replace(leaf, kind=kind, dtype=dtype, shape=shape, encoding=encoding)
    return leaf


def _in_sequence(leaf: Feature, length: int | None) -> Feature:
    """A leaf inside a sequence other than the steps: one more leading dimension."""
    if leaf.kind == "text" or leaf.encoding == "none":
        return replace(leaf, shape=(length, *leaf.shape))
    return replace(leaf, kind="other", encoding=f"Sequence of {leaf.kind} ({leaf.encoding})")


def _shape(content: dict) -> tuple[int | None, ...]:
    sizes = [int(size) for size in content.get("shape", {}).get("dimensions", [])]
    if math.prod(size for size in sizes if size > 0) > _LARGEST_STEP:
        raise ValueError(f"shape {sizes} has more than {_LARGEST_STEP} values")
    return tuple(None if size < 0 else size for size in sizes)


def to_json(features: Features) -> dict:
    """The tree of features.json, as tensorflow-datasets reads it.

    Raises `SourceError` for a kind that cannot be represented.
    """
    steps = {name.removeprefix(STEPS): f for name, f in features.items() if f.per_step}
    rest = {name: f for name, f in features.items() if not f.per_step}
    root = _dict_node(rest)
    sequence = {"feature": _dict_node(steps), "length": "-1"}
    root["featuresDict"]["features"]["steps"] = {"pythonClassName": _DATASET, "sequence": sequence}
    return root


def _dict_node(features: Features) -> dict:
    """A FeaturesDict node for features, given by their relative paths."""
    children: dict[str, dict] = {}
    groups: dict[str, dict[str, Feature]] = {}
    for path, feature in features.items():
        head, _, tail = path.partition("/")
        if tail:
            groups.setdefault(head, {})[tail] = feature
        else:
            children[head] = _leaf_node(feature)
    children |= {head: _dict_node(group) for head, group in groups.items()}
    return {"pythonClassName": _DICT, "featuresDict": {"features": children}}


def _leaf_node(feature: Feature) -> dict:
    if feature.kind not in _CLASSES:
        raise SourceError(
            f"{feature.path}: features of kind {feature.kind!r} cannot be written",
            remedy=f"use one of {', '.join(_CLASSES)}",
        )
    sizes = ["-1" if size is None else str(size) for size in feature.shape]
    shape = {"dimensions": sizes} if sizes else {}
    node: dict = {"pythonClassName": _CLASSES[feature.kind]}
    if feature.description:
        node["description"] = feature.description
    if feature.kind == "text":
        if feature.shape == (None,):  # a list of texts
            leaf = {"pythonClassName": _CLASSES["text"], "text": {}}
            sequence = {"feature": leaf, "length": "-1"}
            return node | {"pythonClassName": _SEQUENCE, "sequence": sequence}
        if feature.shape:
            content = {"shape": shape, "dtype": "string", "encoding": "none"}
            return node | {"pythonClassName": _CLASSES["tensor"], "tensor": content}
        return node | {"text": {}}
    content = {"shape": shape, "dtype": feature.dtype}
    if feature.kind == "image":
        return node | {"image": content | {"encodingFormat": feature.encoding}}
    return node | {"tensor": content | {"encoding": feature.encoding or "none"}}
