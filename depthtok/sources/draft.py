"""A draft schema for an unknown data set, guessed from its features, for a person to check.

Guesses are marked `# check` in the draft. The draft can be loaded, and matches its features. Less
likely states, texts and depth maps are in it as comments: none is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np

from depthtok.errors import SchemaError
from depthtok.meaning import REFERENCES, UNITS
from depthtok.sources import guess
from depthtok.sources.columns import FeatureFacts, number_kind
from depthtok.sources.features import values_in
from depthtok.sources.guess import ColumnGroup, in_tree
from depthtok.sources.guessed import GUESSED
from depthtok.sources.instruction import is_codes, is_text

_WORDS = (
    *("language_instruction", "instruction", "language", "lang"),
    *("task", "annotation", "prompt", "command", "caption", "goal"),
)
"""Words in the paths of instructions, the likeliest first."""

_PICTURES = re.compile(r"depth|segment|mask|flow|normal")


def describe(features: Mapping[str, FeatureFacts]) -> list[tuple[str, str, str, str, str]]:
    """Rows for printing: path, kind, dtype, shape ("256 x 256 x 3"), "step" or "episode"."""
    return [
        (
            path,
            feature.kind,
            feature.dtype,
            " x ".join("?" if size is None else str(size) for size in feature.shape),
            "step" if feature.per_step else "episode",
        )
        for path, feature in sorted(features.items())
    ]


def draft(
    features: Mapping[str, FeatureFacts],
    dataset_name: str,
    sample: Mapping[str, Sequence[np.ndarray]] | None = None,
    fps: float | None = None,
) -> str:
    """TOML text of a schema for a data set with these features.

    `sample`: the values of some features in a few episodes (see `depthtok.sources.sample`), which
    tell a gripper from a joint. `fps` is the rate in Hz, where the data set states it. Raises
    `SchemaError` if there is no image or no action.
    """
    steps = {path: feature for path, feature in sorted(features.items()) if feature.per_step}
    values = sample or {}
    cameras = [path for path, feature in steps.items() if _is_image(feature)]
    cameras = [path for path in cameras if not _PICTURES.search(_last(path))] or cameras
    actions = _action_paths(steps)
    if not cameras or not actions:
        raise SchemaError(
            f"data set {dataset_name!r} has no {'action' if cameras else 'camera image'} "
            "that can be recognised",
            remedy="write the schema by hand, see docs/schemas.md",
        )
    names: set[str] = set()
    groups = [
        (path, guess.distinct(group, names, after=f"_{_last(path)}"))
        for path in actions
        for group in guess.groups("action", path, steps[path], values.get(path, ()))
    ]
    parts = [
        _head(features, dataset_name, any(group.gripper for _, group in groups), fps),
        *_cameras(steps, cameras),
        *_intrinsics(features),
        _keep(features, actions),
        "# What does each column mean? In which unit? Which one is the gripper?\n"
        + "\n".join(_table("action", path, group) for path, group in groups),
        *_states(steps, actions, values),
    ]
    return "\n".join(parts)


def _head(
    features: Mapping[str, FeatureFacts], name: str, gripper: bool, fps: float | None = None
) -> str:
    hint = (
        "open1_closed0 is the aim, see docs/schemas.md"
        if gripper
        else 'name its column "gripper" in dims; "none" if there is no gripper'
    )
    return (
        f"# A draft made from the features of {name}. Go through the lines marked `check`.\n"
        f"datasets = {json.dumps([name])}\n"
        'status = "unseen"\n\n'
        f"{_rate(fps)}\n"
        f"{_instructions(features)}"
        f'gripper = "unknown"  # check: {hint}\n'
    )


def _rate(fps: float | None) -> str:
    if fps is None:
        return 'fps = "unknown"  # check: frames per second'
    return f"fps = {fps:g}  # as the data set states it"


def _instructions(features: Mapping[str, FeatureFacts]) -> str:
    """The line of the likeliest instruction; as comments the others, and texts that may be one."""
    likely = [path for path in features if _instruction_rank(path, features[path]) < len(_WORDS)]
    likely.sort(key=lambda path: (not features[path].per_step, len(path), path))
    likely.sort(key=lambda path: _instruction_rank(path, features[path]))
    texts = [path for path in sorted(features) if is_text(features[path]) and path not in likely]
    lines = [f"{_instruction(path, features[path])}  # check" for path in likely]
    if not likely:
        question = "which of these says what to do?" if texts else "there is no text"
        lines = [f"instruction = []  # check: {question}"]
    lines += [] if likely else [_instruction(path, features[path]) for path in texts]
    return lines[0] + "\n" + "".join(f"# {line}\n" for line in lines[1:])


def _instruction(path: str, feature: FeatureFacts) -> str:
    if is_codes(feature):
        return f'instruction = {{ from = "{path}", ops = ["characters"] }}'
    return f'instruction = "{path}"'


def _instruction_rank(path: str, feature: FeatureFacts) -> int:
    """Smaller is more likely to be an instruction; the number of words if it is none."""
    codes = is_codes(feature) and (feature.shape[-1] or 0) >= 16
    if not (is_text(feature) or codes) or "embedding" in path:
        return len(_WORDS)
    name = in_tree(path).removeprefix("steps/").removeprefix("observation/")
    words = (rank for rank, word in enumerate(_WORDS) if word in name)
    return next(words, len(_WORDS))


def _intrinsics(features: Mapping[str, FeatureFacts]) -> list[str]:
    """Comments that name the matrices there may be: which camera each is of is not known."""
    named = [path for path, fact in sorted(features.items()) if _is_intrinsics(path, fact)]
    head = "# Of which camera? With it audit-depth --camera-height tests the unit of depth.\n"
    return [head + "".join(f'# intrinsics_key = "{path}"\n' for path in named)] if named else []


def _is_intrinsics(path: str, feature: FeatureFacts) -> bool:
    return "intrinsic" in path and tuple(feature.shape) in ((9,), (3, 3))


def _cameras(steps: Mapping[str, FeatureFacts], paths: list[str]) -> list[str]:
    """One table per camera; each depth map goes to the camera of its size with the closest name.
    Maps of 8 bits and those of no camera's size are left as comments."""
    maps = [path for path, feature in steps.items() if "depth" in path and _is_map(feature)]
    depths = [path for path in maps if steps[path].dtype != "uint8"]
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
        table += 'orientation = "unknown"  # check: identity, rotate180, mirror, flip\n'
        if path in depth_of:
            depth = depth_of[path]
            unit = "m" if number_kind(steps[depth].dtype) == "f" else "mm"
            is_video = steps[depth].encoding == "video"
            why = "as its video says" if is_video else GUESSED
            table += f'depth_key = "{depth}"\ndepth_unit = "{unit}"  # {why}\n'
        tables.append(table)
    unmatched = [
        f"# depth, but of no camera's size, or of one that has depth: {path}\n"
        for path in depths
        if path not in depth_of.values()
    ]
    coarse = [
        "# 8 bits hold no millimetres: a picture of depth, of unknown scale. If it has one, add to "
        f'its camera:\n# depth_key = "{path}"\n# depth_unit = "unknown"\n'
        for path in maps
        if path not in depths
    ]
    others = [path for path, feature in steps.items() if _is_image(feature) and path not in paths]
    pictures = [f"# a picture, but of no camera: {path}\n" for path in others]
    return tables + unmatched + coarse + pictures


def _keep(features: Mapping[str, FeatureFacts], actions: list[str]) -> str:
    flags = [path for path in features if "success" in _last(path) and _is_vector(features[path])]
    table = (
        "# Steps to leave out, if there are any:\n"
        f"# [keep]\n# drop_first_if_zero = {json.dumps(actions)}\n"
    )
    if flags:
        table += "# Episodes to leave out:\n# [keep.episodes]\n"
        table += "".join(f'# if_true = "{path}"\n' for path in flags)
    return table


def _table(kind: str, path: str, group: ColumnGroup, comment: str = "") -> str:
    """One `[[action]]` or `[[proprio]]` table; commented out, under the `comment`, if there is
    one."""
    take = f"{group.start}:{group.stop}"
    take = str(group.start) if group.stop == group.start + 1 else take
    lines = [f"[[{kind}]]"]
    lines += [f"# {' '.join(group.note.split())}"] if group.note else []
    lines += [
        f'from = "{path}"',
        f'take = "{take}"',
        f"dims = {json.dumps(group.names)}  # check",
        f'reference = "{group.reference}"  # check: {", ".join(REFERENCES[:-1])}',
        f'unit = "unknown"  # check: {", ".join(UNITS[:-1])}',
    ]
    if comment:
        lines = [f"# {line.removeprefix('# ')}" for line in [comment, *lines]]
    return "\n".join(lines) + "\n"


def _states(
    steps: Mapping[str, FeatureFacts],
    actions: list[str],
    values: Mapping[str, Sequence[np.ndarray]],
) -> list[str]:
    """Tables of the likely state, and commented out those of every other vector."""
    vectors = [
        path
        for path, feature in steps.items()
        if path not in actions and _is_state(feature) and not guess.LABELS.search(_last(path))
    ]
    likely = [
        path
        for path in vectors
        if in_tree(path).startswith("steps/observation/")
        and guess.STATES.search(in_tree(path).removeprefix("steps/observation/"))
        and not guess.ASIDE.search(_last(path))
        and _is_vector(steps[path])
    ]
    whole_states = [path for path in likely if guess.WHOLE.search(_last(path))]
    used = whole_states[:1] or likely
    if not used:  # a name that says nothing is still more likely than none
        used = [path for path in vectors if _is_vector(steps[path])]
        used = [path for path in used if not guess.ASIDE.search(_last(path))][:1]
    tables: list[str] = []
    names: set[str] = set()
    for path in sorted(vectors, key=lambda path: path not in used):
        comment = "" if path in used else "also there; part of the state?"
        for group in guess.groups("proprio", path, steps[path], values.get(path, ())):
            group = guess.distinct(group, names, before=f"{_last(path)}_")
            tables.append(_table("proprio", path, group, comment))
    return tables


def _action_paths(steps: Mapping[str, FeatureFacts]) -> list[str]:
    unsplit = [path for path in steps if in_tree(path) in ("steps/action", "steps/actions")]
    if unsplit:
        return [path for path in unsplit if _is_vector(steps[path])][:1]
    return [
        path
        for path, feature in steps.items()
        if in_tree(path).startswith("steps/action/")
        and "terminate" not in path
        and _is_vector(feature)
    ]


def _last(path: str) -> str:
    return in_tree(path).rsplit("/", 1)[-1]


def _is_image(feature: FeatureFacts) -> bool:
    return feature.dtype == "uint8" and len(feature.shape) == 3 and feature.shape[2] == 3


def _is_map(feature: FeatureFacts) -> bool:
    flat = len(feature.shape) == 2 or (len(feature.shape) == 3 and feature.shape[2] == 1)
    large = all(size is not None and size >= 8 for size in feature.shape[:2])
    return (
        flat
        and large
        and feature.kind in ("image", "tensor")
        and number_kind(feature.dtype) in "uif"
    )


def _is_vector(feature: FeatureFacts) -> bool:
    numeric = feature.kind in ("tensor", "scalar") and feature.dtype not in ("str", "object")
    return numeric and len(feature.shape) <= 1 and None not in feature.shape


def _is_state(feature: FeatureFacts) -> bool:
    """A vector, or a small matrix, of floats; or a single flag."""
    numeric = feature.kind in ("tensor", "scalar") and feature.dtype not in ("str", "object")
    count = values_in(feature.shape)
    small = count is not None and len(feature.shape) <= 2 and count <= 256
    return numeric and small and (number_kind(feature.dtype) == "f" or count == 1)


def _unlikeness(camera: str, depth: str) -> int:
    """The number of words in the last parts of two paths that are not in both."""
    words = [set(re.split(r"[_\W]", _last(path))) for path in (camera, depth)]
    return len((words[0] ^ words[1]) - {"depth", "image", "rgb", "with", ""})


def _names(paths: list[str]) -> dict[str, str]:
    """The last part of each path, or the whole path if that is not unique."""
    ends = [_last(path) for path in paths]
    return {
        path: end if ends.count(end) == 1 else re.sub(r"[/.]", "_", path)
        for path, end in zip(paths, ends, strict=True)
    }
