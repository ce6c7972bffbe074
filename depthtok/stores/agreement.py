"""Compares meanings: what differs, what is not known. Converts a gripper's convention."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float

from depthtok.errors import ConfigError, did_you_mean
from depthtok.meaning import GRIPPERS, UNKNOWN, Meaning, convert_gripper
from depthtok.orientation import Orientation

ASPECTS = (
    "gripper",
    "fps",
    *(
        f"{side}.{what}"
        for side in ("action", "proprio")
        for what in ("names", "reference", "unit")
    ),
)
"""The aspects that `Meaning.differences` compares."""

ORIENTATION = "orientation"
"""What a policy and a benchmark may differ in besides: which way up their pictures are."""


@dataclass(frozen=True)
class GripperChange:
    """Gripper columns of an action, from one convention to another."""

    columns: tuple[int, ...]
    source: str
    target: str

    @classmethod
    def of(cls, meaning: Meaning, target: str) -> GripperChange | None:
        """What brings actions of `meaning` to `target`; None where they are so already, or have no
        gripper. Raises `ConfigError` for a convention that is not known."""
        if not meaning.gripper_columns or meaning.gripper == target:
            return None
        convert_gripper(np.zeros(1), meaning.gripper, target)  # raises
        return cls(meaning.gripper_columns, meaning.gripper, target)

    def __call__(self, actions: Float[np.ndarray, "*n A"]) -> Float[np.ndarray, "*n A"]:
        """The actions, with their gripper in the other convention and clipped to its range."""
        converted, columns = np.array(actions), list(self.columns)
        low, high = sorted(GRIPPERS[self.target])
        grippers = convert_gripper(converted[..., columns], self.source, self.target)
        converted[..., columns] = grippers.clip(low, high)
        return converted


def require_aspects(
    names: Collection[str], setting: str, choices: tuple[str, ...] = ASPECTS
) -> None:
    """Raises `ConfigError` for a name in this setting or flag that is not one of `choices`."""
    for name in names:
        _require_known(name, choices, setting)


def require_gripper(name: str, where: str) -> None:
    """Raises `ConfigError` for a convention that is not one of GRIPPERS."""
    _require_known(name, tuple(GRIPPERS), where)


def _require_known(name: str, choices: tuple[str, ...], where: str) -> None:
    if name not in choices:
        raise ConfigError(f"{where} = {name!r} is not known", remedy=did_you_mean(name, choices))


def contradictions(
    ours: Meaning, theirs: Meaning, accepted: Collection[str] = (), *, state: bool = True
) -> dict[str, str]:
    """`Meaning.differences` without `accepted` aspects, without `state` also none of states."""
    return {
        aspect: words
        for aspect, words in ours.differences(theirs).items()
        if aspect not in accepted and (state or not aspect.startswith("proprio"))
    }


def for_robot(
    policy: Meaning | None, robot: Meaning, accepted: Collection[str] = ()
) -> GripperChange | None:
    """What makes a policy's actions those that a robot takes: its gripper's convention is
    converted.

    A policy without `proprio` sees no state; `accepted` aspects are not compared. Raises
    `ConfigError` where the two mean different things, or the gripper's convention is not known.
    """
    if policy is None or (policy.gripper == UNKNOWN and policy.gripper_columns):
        if "gripper" not in accepted and robot.gripper_columns:
            raise ConfigError(
                "the policy does not say what its gripper's numbers mean, and the robot's is "
                f"{robot.gripper}",
                remedy=f"say it with --gripper, one of {', '.join(GRIPPERS)}: the schema of its "
                "training data states it",
            )
        if policy is None:
            return None
    conflicts = contradictions(policy, robot, {*accepted, "gripper"}, state=bool(policy.proprio))
    if conflicts:
        listed = "; ".join(f"{aspect}: {words}" for aspect, words in conflicts.items())
        raise ConfigError(
            f"the policy's actions or states are not this robot's (policy, robot): {listed}",
            remedy="evaluate a policy that was trained on data of this robot; where only words "
            "differ, accept that: " + " ".join(f"--accept {aspect}" for aspect in conflicts),
        )
    if "gripper" in accepted or not robot.gripper_columns:
        return None
    return GripperChange.of(policy, robot.gripper)


def require_same_view(
    learnt: Mapping[str, Orientation], shown: Orientation, accepted: Collection[str] = ()
) -> None:
    """Raises `ConfigError` where a policy learnt from pictures that are another way up than those
    that it will be shown; what is unknown of either is no difference."""
    differ = {} if shown is Orientation.UNKNOWN or ORIENTATION in accepted else learnt
    ways = [
        f"{camera}: {way}, {shown}"
        for camera, way in differ.items()
        if way not in (shown, Orientation.UNKNOWN)
    ]
    if ways:
        raise ConfigError(
            "the policy learnt from pictures that are another way up than those that it would see "
            f"here (by camera: policy, benchmark): {'; '.join(ways)}",
            remedy="train on pictures as the benchmark shows them: `depthtok collect` records them "
            "so, with --demos also LIBERO's official demonstrations; or, where the schema of the "
            f'training data is wrong, state orientation = "{shown}" there, convert and train '
            f"again; --accept {ORIENTATION} evaluates as it is",
        )


def stated(meaning: Meaning | None, gripper: str | None, otherwise: Meaning) -> Meaning | None:
    """A policy's meaning, with its gripper as the user states it where it does not itself; of a
    policy that says nothing, all but the gripper is as in `otherwise`.

    Raises `ConfigError` where the two contradict each other, where no column of the policy is a
    gripper's, or this is no convention.
    """
    if gripper is None:
        return meaning
    require_gripper(gripper, "the policy's gripper")
    if meaning is not None and meaning.gripper not in (UNKNOWN, gripper):
        raise ConfigError(
            f"the policy's gripper is {meaning.gripper}, as its training data say, not {gripper}",
            remedy="leave out the flag that states it",
        )
    if meaning is not None and not meaning.gripper_columns:
        raise ConfigError(
            f"no action column of the policy is named a gripper, so {gripper} would change nothing",
            remedy="name it in the schema of its training data, convert and train again; or leave "
            "out the flag that states it",
        )
    return replace(meaning or otherwise, gripper=gripper)


def among(
    meanings: Mapping[str, Meaning], accepted: Collection[str], *, state: bool
) -> dict[str, str]:
    """Contradictions among data sets: aspect -> `first and second: this, that`, of one pair."""
    conflicts: dict[str, str] = {}
    for first, second in combinations(meanings, 2):
        pair = contradictions(meanings[first], meanings[second], accepted, state=state)
        for aspect, words in pair.items():
            conflicts.setdefault(aspect, f"{first} and {second}: {words}")
    return conflicts


def unlike(meanings: Mapping[str, Meaning], *, state: bool) -> dict[str, Sequence[str]]:
    """What is known of some data sets and not of others: aspect -> the names of the others."""

    def known_aspects(meaning: Meaning) -> dict[str, bool]:
        sides = {"action": meaning.action, **({"proprio": meaning.proprio} if state else {})}
        known_columns = {
            f"{side}.{what}": all(getattr(column, what) != UNKNOWN for column in columns)
            for side, columns in sides.items()
            for what in ("reference", "unit")
        }
        known_gripper, known_fps = meaning.gripper != UNKNOWN, meaning.fps is not None
        return {"gripper": known_gripper, "fps": known_fps, **known_columns}

    aspects_known = {name: known_aspects(meaning) for name, meaning in meanings.items()}
    aspects = {aspect for flags in aspects_known.values() for aspect in flags}
    return {
        aspect: [name for name, flags in aspects_known.items() if not flags[aspect]]
        for aspect in sorted(aspects)
        if len({flags[aspect] for flags in aspects_known.values()}) > 1
    }
