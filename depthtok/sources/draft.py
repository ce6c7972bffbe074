"""A draft schema for an unknown data set, guessed from its features, for a person to check.

Guesses are marked `# check` in the draft. The draft can be loaded, and matches its features.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import numpy as np

from depthtok.errors import SchemaError
from depthtok.sources.columns import Feature


def describe(features: Mapping[str, Feature]) -> list[tuple[str, str, str, str, str]]:
    """Rows for printing: path, kind, dtype, shape ("256 x 256 x 3"), "step" or "episode"."""
    return [
        (
            path,
            found.kind,
            found.dtype,
            " x ".join("?" if size is None else str(size) for size in found.shape),
            "step" if found.per_step else "episode",
        )
        for path, found in sorted(features.items())
    ]


def draft(features: Mapping[str, Feature], dataset_name: str) -> str:
    """TOML text of a schema for a data set with these features.

    Raises `SchemaError` if they have no image or no action.
    """
    steps = {path: found for path, found in sorted(features.items()) if found.per_step}
    cameras = [path for path, found in steps.items() if _is_image(found)]
    actions = _action_paths(steps)
    if not cameras or not actions:
        raise SchemaError(
            f"data set {dataset_name!r} has no {'action' if cameras else 'camera image'} "
            "that can be recognised",
            remedy="write the schema by hand, see docs/schemas.md",
        )
    action = [_columns("action", path, steps[path]) for path in actions]
    proprio = [_columns("proprio", path, steps[path]) for path in _state_paths(steps)]
    gripper = "unknown" if any(_has_gripper(table) for table in action) else "none"
    parts = [
        _head(features, dataset_name, gripper),
        *_cameras(steps, cameras),
        "# Steps to leave out, if there are any:\n"
        f"# [keep]\n# drop_first_if_zero = {json.dumps(actions)}\n",
        "# What does each column mean? In which unit? Which one is the gripper?\n" + action[0],
        *action[1:],
        *proprio,
    ]
    return "\n".join(parts)


def _head(features: Mapping[str, Feature], name: str, gripper: str) -> str:
    texts = [path for path in sorted(features) if _instruction_rank(path, features[path]) < 9]
    texts.sort(key=lambda path: (_instruction_rank(path, features[path]), path))
    return (
        f"# A draft made from the features of {name}. Go through the lines marked `check`.\n"
        f"datasets = {json.dumps([name])}\n"
        'status = "unseen"\n\n'
        "fps = 10.0  # check: frames per second\n"
        f"instruction = {json.dumps(texts[:1])}  # check\n"
        f'gripper = "{gripper}"  # check: open1_closed0 is the aim, see docs/schemas.md\n'
    )


def _cameras(steps: Mapping[str, Feature], paths: list[str]) -> list[str]:
    """One table per camera; each depth map goes to the camera of its size with the closest name."""
    depths = [path for path, found in steps.items() if "depth" in path and _is_map(found)]
    pairs = sorted(
        (_unlikeness(camera, depth), camera, depth)
        for camera in paths
        for depth in depths
        if steps[camera].shape[:2] == steps[depth].shape[:2]
    )
    depth_of: dict[str, str] = {}
    for _, camera, depth in pairs:
        if camera not in depth_of and depth not in depth_of.values():
            depth_of[camera] = depth
    names = _names(paths)
    tables = []
    for path in paths:
        table = f'[[camera]]\nname = "{names[path]}"\nkey = "{path}"\n'
        table += 'orientation = "unknown"  # check: identity, rotate180 or mirror\n'
        if path in depth_of:
            depth = depth_of[path]
            unit = "m" if np.dtype(steps[depth].dtype).kind == "f" else "mm"
            table += f'depth_key = "{depth}"\ndepth_unit = "{unit}"  # check: a guess by dtype\n'
        tables.append(table)
    left = [depth for depth in depths if depth not in depth_of.values()]
    return tables + [f"# depth of no camera here: {depth}\n" for depth in left]


def _columns(kind: str, path: str, found: Feature) -> str:
    width = int(np.prod(found.shape))
    stem = re.sub(r"\W", "_", path.split("/", 2)[-1] if kind == "proprio" else path[6:])
    dims = [stem] if width == 1 else [f"{stem}_{i}" for i in range(width)]
    if kind == "action" and "gripper" in path:
        dims = ["gripper_" + dim for dim in dims]
    elif path == "steps/action" and width > 1:
        dims[-1] = "gripper"
    return f'[[{kind}]]\nfrom = "{path}"\ntake = "0:{width}"\ndims = {json.dumps(dims)}  # check\n'


def _has_gripper(table: str) -> bool:
    return '"gripper' in table


def _action_paths(steps: Mapping[str, Feature]) -> list[str]:
    if "steps/action" in steps:
        return ["steps/action"] if _is_vector(steps["steps/action"]) else []
    return [
        path
        for path, found in steps.items()
        if path.startswith("steps/action/") and "terminate" not in path and _is_vector(found)
    ]


def _state_paths(steps: Mapping[str, Feature]) -> list[str]:
    vectors = [
        path
        for path, found in steps.items()
        if path.startswith("steps/observation/")
        and "embedding" not in path
        and np.dtype(found.dtype if _is_vector(found) else "O").kind == "f"
    ]
    likely = [path for path in vectors if re.search(r"state|proprio|robot_obs|pose", path)]
    exact = [path for path in likely if path.endswith(("/state", "/proprio", "/robot_obs"))]
    return exact[:1] or likely[:1] or vectors[:1]


def _instruction_rank(path: str, found: Feature) -> int:
    """Smaller is more likely to be an instruction; 9 is not one."""
    if found.kind != "text" and found.dtype not in ("str", "object"):
        return 9
    for rank, word in enumerate(("language_instruction", "instruction", "language", "task")):
        if word in path:
            return 2 * rank + (not found.per_step)
    return 9


def _is_image(found: Feature) -> bool:
    return found.dtype == "uint8" and len(found.shape) == 3 and found.shape[2] == 3


def _is_map(found: Feature) -> bool:
    flat = len(found.shape) == 2 or (len(found.shape) == 3 and found.shape[2] == 1)
    return flat and found.kind in ("image", "tensor") and np.dtype(found.dtype).kind in "uif"


def _is_vector(found: Feature) -> bool:
    numeric = found.kind in ("tensor", "scalar") and found.dtype not in ("str", "object")
    return numeric and len(found.shape) <= 1 and None not in found.shape


def _unlikeness(camera: str, depth: str) -> int:
    """The number of words in the last parts of two paths that are not in both."""
    words = [set(re.split(r"[_\W]", path.rsplit("/", 1)[-1])) for path in (camera, depth)]
    return len((words[0] ^ words[1]) - {"depth", "image", "rgb", "with", ""})


def _names(paths: list[str]) -> dict[str, str]:
    """The last part of each path, or the whole path if that is not unique."""
    ends = [path.rsplit("/", 1)[-1] for path in paths]
    return {
        path: end if ends.count(end) == 1 else path.replace("/", "_")
        for path, end in zip(paths, ends, strict=True)
    }
