"""What the columns of an action or a state may be: by a feature's name, by its description, and
by the values of a few episodes. Evidence only: where there is none, nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from depthtok.meaning import UNKNOWN
from depthtok.sources.columns import Feature
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
"""Last parts of paths that likely hold the whole state, so that the others repeat it."""

ASIDE = re.compile(
    r"vel|force|torque|effort|wrench|contact|bound|target|goal|box|start|initial|final|intrinsic"
    r"|extrinsic|cam|object|flow|cloud|action|sensor|trajectory|delta|_to_go"
)
"""Words of vectors that are rarely part of a state: they are offered, commented."""

_NOT_ITS_OPENING = r"velocit|yaw|roll|pitch|rotation|orientation|pose"
MOSTLY = 0.9  # share of the steps at one of two values that makes a column two-valued


@dataclass(frozen=True)
class Group:
    """Neighbouring columns `start` to `stop` of a feature, and what they may be."""

    start: int
    stop: int
    names: tuple[str, ...]
    gripper: bool = False
    reference: str = UNKNOWN
    note: str = ""  # for people: why


def groups(kind: str, path: str, found: Feature, values: Sequence[np.ndarray]) -> list[Group]:
    """The columns of a feature of an `action` or a `proprio`, in order. `values` are those of some
    episodes, float[T, width] each, or none."""
    width = values_in(found.shape)
    assert width is not None, f"{path} has no fixed number of columns"
    stem = re.sub(r"\W", "_", re.sub(r"^steps/(observation/|action/)?", "", path))
    said = _described(kind, getattr(found, "description", ""), width)
    if said is None:
        gripper = kind == "action" and "grip" in path.rsplit("/", 1)[-1] and width <= 2
        stem = _named(stem, gripper) if kind == "action" else stem
        names = (stem,) if width == 1 else tuple(f"{stem}_{i}" for i in range(width))
        note = _values_seen(values, 0) if gripper else ""
        said = [Group(0, width, names, gripper, reference_of(path), note)]
    if kind == "action" and not any(group.gripper for group in said):
        two = [column for column in range(width) if _is_two_valued(values, column)]
        for number, column in enumerate(two):
            name = "gripper" if len(two) == 1 else f"gripper_{number}"
            said = _split(said, column, name, _values_seen(values, column))
    return said


def reference_of(words: str) -> str:
    """Whether a name or a description says that numbers are velocities, or changes."""
    if re.search(r"velocit|(^|[_/])vel(_|$)", words):
        return "velocity"
    return "delta" if re.search(r"delta|displacement|residual", words) else UNKNOWN


def _described(kind: str, text: str, width: int) -> list[Group] | None:
    """Groups by a description such as `7x joint velocities, 1x gripper position`; None if it does
    not account for all columns."""
    said = [(int(n), what.strip()) for n, what in re.findall(r"(\d+)\s*x\s+([^,;\[\].]+)", text)]
    if not said or sum(count for count, _ in said) != width:
        return None
    found, start, taken = [], 0, set()
    for count, what in said:
        opening = "gripper" in what.lower() and not re.search(_NOT_ITS_OPENING, what.lower())
        gripper = opening and count <= 2
        name = "terminate" if "terminat" in what else re.sub(r"\W+", "_", what.lower()).strip("_")
        if kind == "action":
            name = "gripper" if gripper else _named(name, gripper)
        while name in taken:
            name += "_2"
        taken.add(name)
        names = (name,) if count == 1 else tuple(f"{name}_{i}" for i in range(count))
        note = f'the data set says "{what}"'
        found.append(Group(start, start + count, names, gripper, reference_of(what.lower()), note))
        start += count
    return found


def _named(stem: str, gripper: bool) -> str:
    """A name that begins with `gripper` where it is one, and only there."""
    if gripper == stem.startswith("gripper"):
        return stem
    return f"gripper_{stem}" if gripper else stem.replace("gripper", "grip", 1)


def _split(said: list[Group], column: int, name: str, note: str) -> list[Group]:
    """The groups with one column taken out as a gripper."""
    found = []
    for group in said:
        if not group.start <= column < group.stop:
            found.append(group)
            continue
        cut = column - group.start
        before = Group(group.start, column, group.names[:cut], reference=group.reference)
        after = Group(column + 1, group.stop, group.names[cut + 1 :], reference=group.reference)
        alone = Group(column, column + 1, (name,), gripper=True, note=note)
        found += [part for part in (before, alone, after) if part.names]
    return found


def _is_two_valued(values: Sequence[Float[np.ndarray, "T n"]], column: int) -> bool:
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


def _values_seen(values: Sequence[Float[np.ndarray, "T n"]], column: int) -> str:
    """The values of a column, in words; "" where none are known."""
    rows = [episode[:, column] for episode in values]
    distinct = np.unique(np.concatenate(rows)) if rows else np.empty(0)
    distinct = distinct[np.isfinite(distinct)]
    if not len(distinct):
        return ""
    if len(distinct) <= 3:
        return "in the first episodes it is " + " or ".join(f"{v:.4g}" for v in distinct)
    return f"in the first episodes it is {distinct[0]:.4g} to {distinct[-1]:.4g}"
