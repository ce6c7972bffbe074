"""Whether the data sets of a mixture mean the same by their numbers: opposite grippers, joints with
poses, other units or rates are refused, converted or accepted, as the settings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from depthtok.errors import ConfigError
from depthtok.meaning import GRIPPERS, UNKNOWN, Meaning
from depthtok.orientation import Orientation
from depthtok.sources import grippers
from depthtok.stores.agreement import GripperChange, among, unlike
from depthtok.stores.spread import ColumnRanges
from vla.config import Config

COMPLETE = (
    "Complete its schema's file (`depthtok inspect DIR --draft > FILE` drafts one), then `depthtok "
    "convert DIR --schema FILE --out EPISODES --overwrite`"
)
"""What to do where a data set's schema leaves something unknown."""


def change_of(name: str, meaning: Meaning, config: Config) -> GripperChange | None:
    """What `data.gripper` does to the actions of a data set. Raises `ConfigError` for one whose
    convention is not known."""
    target = config.data.gripper
    if not target:
        return None
    if meaning.gripper == UNKNOWN and meaning.gripper_columns:
        raise ConfigError(
            f"data.gripper = {target!r}, but what the gripper of {name} means is not known",
            remedy="state `gripper` in its schema (look at the images), and convert it again",
        )
    return GripperChange.of(meaning, target)


def require_same(meanings: Mapping[str, Meaning], config: Config) -> None:
    """Raises `ConfigError` for data sets that do not mean the same, naming what differs."""
    state = config.model.proprio_dim > 0
    differences = among(meanings, config.data.mix, state=state)
    if not differences:
        return
    ways = []
    if "gripper" in differences:
        ways.append("--set data.gripper=open1_closed0 converts every gripper to one convention")
    accepted = ", ".join(f'"{aspect}"' for aspect in (*config.data.mix, *differences))
    ways += [
        "a schema of your own can bring columns to the same names, reference and unit "
        "(docs/schemas.md)",
        f"--set 'data.mix=[{accepted}]' trains on them as they are",
    ]
    raise ConfigError(
        "the data sets do not mean the same: "
        + "; ".join(f"{aspect}: {words}" for aspect, words in differences.items()),
        remedy="; ".join(ways),
    )


def warnings(
    meanings: Mapping[str, Meaning],
    orientations: Mapping[str, Mapping[str, Orientation]],
    config: Config,
) -> list[str]:
    """What cannot be checked or is unusual in a mixture, in words: `orientations` are those of each
    data set's cameras, by the model's names."""
    lines = [
        f"{aspect} is not known of {', '.join(names)}, but of other data sets: whether they mean "
        "the same was not checked"
        for aspect, names in unlike(meanings, state=config.model.proprio_dim > 0).items()
    ]
    for name, meaning in meanings.items():
        gripper = meaning.gripper == UNKNOWN
        if columns := _unknown_columns(meaning, state=config.model.proprio_dim > 0):
            asked = gripper and meaning.gripper_columns
            asks = " (`eval` and `serve` will ask for the gripper)" if asked else ""
            lines.append(
                f"what the numbers of {name} mean is not known: "
                f"{', '.join([*columns, 'gripper'] if gripper else columns)}{asks}. {COMPLETE}"
            )
        elif gripper and meaning.gripper_columns:
            lines.append(
                f"what the gripper of {name} means is not known: `eval` and `serve` will ask for "
                f"it (state `gripper` in its schema: one of {', '.join(GRIPPERS)})"
            )
        elif gripper:
            lines.append(
                f"which action column of {name} is a gripper, if any, is not known, so all are "
                'normalised: name it "gripper" in the `dims` of its schema, or state '
                'gripper = "none"'
            )
    return lines + _orientations(orientations, config.data.cameras)


def _unknown_columns(meaning: Meaning, *, state: bool) -> list[str]:
    """`unit and reference of 26 action columns`: what is not known of actions, and of states if
    `state`; [] where everything is."""
    lines = []
    sides = (("action", meaning.action), ("state", meaning.proprio if state else ()))
    for side, columns in sides:
        unknown: dict[tuple[int, ...], list[str]] = {}  # columns -> what is not known of them
        for what in ("unit", "reference"):
            numbers = (n for n, c in enumerate(columns) if getattr(c, what) == UNKNOWN)
            unknown.setdefault(tuple(numbers), []).append(what)
        for which, aspects in unknown.items():
            if which:
                plural = "s" * (len(which) > 1)
                lines.append(f"{' and '.join(aspects)} of {len(which)} {side} column{plural}")
    return lines


def _orientations(
    orientations: Mapping[str, Mapping[str, Orientation]], used: Sequence[str]
) -> list[str]:
    """A mirrored or flipped view swaps sides of the picture, not of the actions. It is no error:
    each data set's camera stands elsewhere anyway, and LIBERO's views are mirrored in all of the
    field's mixtures."""
    lines = []
    for camera in used:
        ways: dict[str, list[str]] = {}
        for name, by_camera in orientations.items():
            if (way := by_camera.get(camera, Orientation.UNKNOWN)) != Orientation.UNKNOWN:
                ways.setdefault(str(way), []).append(name)
        if len(ways) > 1:
            listed = "; ".join(f"{way}: {', '.join(names)}" for way, names in ways.items())
            lines.append(
                f"camera {camera!r} is not published the same way up in all data sets ({listed}): "
                "the same edge of the picture means different sides"
            )
    return lines


def require_range(name: str, meaning: Meaning, statistics: ColumnRanges) -> None:
    """Raises `ConfigError` for a gripper column, which is not normalised, that does not lie where
    its convention says. `statistics` are those of the data set's actions."""
    for column in meaning.gripper_columns:
        low, high = float(statistics.min[column]), float(statistics.max[column])
        error = grippers.misfit(np.array([low, high]), meaning.gripper)
        if error is not None:
            raise ConfigError(
                f"{name}, action column {meaning.action[column].name!r}: its values go from "
                f"{low:g} to {high:g}, {grippers.stated(meaning.gripper)}; it is not normalised, "
                "so the policy would learn a wrong value",
                remedy=f"in the data set's schema: {error.remedy}; then convert it again, with "
                "--schema",
            )
