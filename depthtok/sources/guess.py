"""Guesses the meaning of an action's or a state's columns by the feature's name, its description,
and the values of a few episodes. Without such evidence it stays unknown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from depthtok.meaning import UNKNOWN
from depthtok.sources.columns import FeatureFacts
from depthtok.sources.features import values_in

LABELS = re.compile(
    r"success|reward|(^|_)is_|discount|index|idx|(^|_)id$|timestamp|(^|_)time$|terminat|truncat"
    r"|done|label|length|embedding|intervention|autonomous"
)
"""Last parts of paths that mark a step or an episode; they are no state of the robot."""

STATES = re.compile(
    r"state|proprio|robot_obs|pose|joint|gripper|finger|eef|(^|_)ee(_|$)|tcp|position|(^|_)pos(_|$)"
    r"|xyz|quat|(^|_)rot(_|$)|axis_angle"
)
"""Last parts of paths that are likely the robot's own state."""

WHOLE = re.compile(r"(^|_)(state|proprio|robot_obs|robot_state)$")
"""Last parts of paths that likely hold the whole state, which the others repeat."""

ASIDE = re.compile(
    r"vel|force|torque|effort|wrench|contact|bound|target|goal|box|start|initial|final|intrinsic"
    r"|extrinsic|cam|object|flow|cloud|action|sensor|trajectory|delta|_to_go"
)
"""Words of vectors that are rarely part of a state: they are offered, commented."""

_NOT_ITS_OPENING = r"velocit|yaw|roll|pitch|rotation|orientation|pose"
MOSTLY = 0.9  # share of the steps at one of two values that makes a column two-valued


@dataclass(frozen=True)
class ColumnGroup:
    """Neighbouring columns `start` to `stop` of a feature, and their likely meaning."""

    start: int
    stop: int
    names: tuple[str, ...]
    gripper: bool = False
    reference: str = UNKNOWN
    note: str = ""  # the evidence, for people


def groups(
    kind: str, path: str, found: FeatureFacts, values: Sequence[np.ndarray]
) -> list[ColumnGroup]:
    """The columns of a feature, in order; `kind` is "action" or "proprio". `values` are those of
    some episodes, float[T, width] each, or none."""
    width = values_in(found.shape)
    assert width is not None, f"{path} has no fixed number of columns"
    stem = re.sub(r"\W", "_", re.sub(r"^steps/(observation/|action/)?", "", in_tree(path)))
    parts = _groups_of_description(kind, getattr(found, "description", ""), width)
    parts = parts or _groups_of_names(kind, getattr(found, "names", ()), reference_of(path))
    if parts is None:
        gripper = kind == "action" and "grip" in in_tree(path).rsplit("/", 1)[-1] and width <= 2
        stem = _gripper_name(stem, gripper) if kind == "action" else stem
        names = (stem,) if width == 1 else tuple(f"{stem}_{i}" for i in range(width))
        note = _values_in_words(values, 0) if gripper else ""
        parts = [ColumnGroup(0, width, names, gripper, reference_of(path), note)]
    if kind == "action" and not any(group.gripper for group in parts):
        two_valued = [column for column in range(width) if _is_two_valued(values, column)]
        for number, column in enumerate(two_valued):
            name = "gripper" if len(two_valued) == 1 else f"gripper_{number}"
            parts = _split(parts, column, name, _values_in_words(values, column))
    return parts


def reference_of(words: str) -> str:
    """The reference ("velocity", "delta" or unknown) that a name or a description states."""
    if re.search(r"velocit|(^|[_/])vel(_|$)", words):
        return "velocity"
    return "delta" if re.search(r"delta|displacement|residual", words) else UNKNOWN


def _groups_of_description(kind: str, text: str, width: int) -> list[ColumnGroup] | None:
    """Groups by a description such as `7x joint velocities, 1x gripper position`; None if it does
    not account for all columns."""
    matches = re.findall(r"(\d+)\s*x\s+([^,;\[\].]+)", text)
    if not matches or sum(int(digits) for digits, _ in matches) != width:
        return None
    parts: list[ColumnGroup] = []
    used: set[str] = set()
    start = 0
    for count, words in ((int(digits), words.strip()) for digits, words in matches):
        is_opening = "gripper" in words.lower() and not re.search(_NOT_ITS_OPENING, words.lower())
        gripper = is_opening and count <= 2
        name = "terminate" if "terminat" in words else re.sub(r"\W+", "_", words.lower()).strip("_")
        if kind == "action":
            name = "gripper" if gripper else _gripper_name(name, gripper)
        while name in used:
            name += "_2"
        used.add(name)
        names = (name,) if count == 1 else tuple(f"{name}_{i}" for i in range(count))
        note = f'the data set says "{words}"'
        parts.append(
            ColumnGroup(start, start + count, names, gripper, reference_of(words.lower()), note)
        )
        start += count
    return parts


def in_tree(path: str) -> str:
    """The path of a feature as RLDS would have it: LeRobot's and HDF5's have their own style."""
    if path.startswith(("steps/", "episode_metadata/")):
        return path
    return "steps/" + re.sub(r"^obs/", "observation/", path.replace(".", "/"))


def _groups_of_names(kind: str, names: Sequence[str], reference: str) -> list[ColumnGroup] | None:
    """Groups by the names that the data set gives its columns; None where it gives none."""
    if not names:
        return None
    columns = [
        re.sub(r"\W+", "_", name).strip("_") or f"column_{k}" for k, name in enumerate(names)
    ]
    columns = [n if columns.count(n) == 1 else f"{n}_{k}" for k, n in enumerate(columns)]
    grips = [kind == "action" and "gripper" in name.lower() for name in columns]
    if kind == "action":
        columns = [_gripper_name(n, grip) for n, grip in zip(columns, grips, strict=True)]
    parts: list[ColumnGroup] = []
    for column, (name, grip) in enumerate(zip(columns, grips, strict=True)):
        if parts and parts[-1].gripper == grip:
            last = parts.pop()
            parts.append(replace(last, stop=column + 1, names=(*last.names, name)))
        else:
            note = "names as the data set gives them"
            parts.append(ColumnGroup(column, column + 1, (name,), grip, reference, note))
    return parts


def _gripper_name(stem: str, gripper: bool) -> str:
    """The name `stem`, changed so that it begins with `gripper` if and only if `gripper`."""
    if gripper == stem.startswith("gripper"):
        return stem
    return f"gripper_{stem}" if gripper else stem.replace("gripper", "grip", 1)


def distinct(
    group: ColumnGroup, taken: set[str], *, before: str = "", after: str = ""
) -> ColumnGroup:
    """The group with names that are not `taken`, to which they are added: its own, or with `before`
    and `after` around each, or numbered, too."""
    names, number = group.names, 1
    while not taken.isdisjoint(names):
        ending = after if number == 1 else f"{after}_{number}"
        names, number = tuple(f"{before}{name}{ending}" for name in group.names), number + 1
    taken.update(names)
    return replace(group, names=names)


def _split(parts: list[ColumnGroup], column: int, name: str, note: str) -> list[ColumnGroup]:
    """The groups `parts` with one column as a gripper group of its own."""
    split = []
    for group in parts:
        if not group.start <= column < group.stop:
            split.append(group)
            continue
        cut = column - group.start
        before = ColumnGroup(group.start, column, group.names[:cut], reference=group.reference)
        after = ColumnGroup(
            column + 1, group.stop, group.names[cut + 1 :], reference=group.reference
        )
        gripper = ColumnGroup(column, column + 1, (name,), gripper=True, note=note)
        split += [part for part in (before, gripper, after) if part.names]
    return split


def _is_two_valued(values: Sequence[Float[np.ndarray, "_ n"]], column: int) -> bool:
    """Whether a column takes one of two values at nearly every step, and is not the mark of an
    episode's end."""
    if not values:
        return False
    rows, inner = (
        np.concatenate([episode[:stop, column] for episode in values]) for stop in (None, -1)
    )
    rows, inner = (numbers[np.isfinite(numbers)] for numbers in (rows, inner))
    if not len(rows) or np.ptp(rows) == 0:
        return False
    middle = ~np.isin(rows, (rows.min(), rows.max()))
    return bool(middle.mean() <= 1 - MOSTLY and len(np.unique(inner)) > 1)


def _values_in_words(values: Sequence[Float[np.ndarray, "_ n"]], column: int) -> str:
    """The values of a column, in words; "" where none are known."""
    rows = [episode[:, column] for episode in values]
    distinct = np.unique(np.concatenate(rows)) if rows else np.empty(0)
    distinct = distinct[np.isfinite(distinct)]
    if not len(distinct):
        return ""
    if len(distinct) <= 3:
        return "in the first episodes it is " + " or ".join(f"{v:.4g}" for v in distinct)
    return f"in the first episodes it is {distinct[0]:.4g} to {distinct[-1]:.4g}"
