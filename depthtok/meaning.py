"""What the numbers of actions and states mean: names, reference, units, gripper convention, rate.

Kept in the EpisodeStore, in every checkpoint and in the policy, and compared wherever two meet: a
mixture, an environment, a robot behind a server. What is not known is "unknown"; it contradicts
nothing and proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from depthtok.errors import ConfigError, did_you_mean

UNKNOWN = "unknown"
REFERENCES = ("absolute", "delta", "velocity", UNKNOWN)
"""Whether a column is a value to reach, a change of it, a change per second, or not stated."""

UNITS = ("m", "rad", "deg", "m/s", "rad/s", "1", UNKNOWN)
"""The unit of a column after the schema's operations; `1` is a number without unit."""

GRIPPERS = {
    "open1_closed0": (1.0, 0.0),
    "open0_closed1": (0.0, 1.0),
    "open-1_closed1": (-1.0, 1.0),
    "open1_closed-1": (1.0, -1.0),
}
"""The known conventions of gripper columns, as (value of open, value of closed)."""

SAME_RATE = 1e-5
"""Share by which two rates may differ that are written with more and with fewer digits."""


@dataclass(frozen=True)
class Column:
    """One column of an action or a state."""

    name: str
    reference: str = UNKNOWN  # one of REFERENCES
    unit: str = UNKNOWN  # one of UNITS

    def __str__(self) -> str:
        words = [word for word in (self.reference, self.unit) if word != UNKNOWN]
        return f"{self.name} ({', '.join(words)})" if words else self.name


@dataclass(frozen=True)
class Meaning:
    """What the actions and states of one data set are. `gripper` is the convention of the action's
    gripper columns (a key of GRIPPERS, "unknown", or "none"), `fps` the rate in Hz if known."""

    action: tuple[Column, ...]
    proprio: tuple[Column, ...]
    gripper: str = UNKNOWN
    fps: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        rows = {
            name: [[c.name, c.reference, c.unit] for c in getattr(self, name)]
            for name in ("action", "proprio")
        }
        return {**rows, "gripper": self.gripper, "fps": self.fps}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Meaning:
        """The inverse of `to_json`."""
        action, proprio = (tuple(Column(*row) for row in data[n]) for n in ("action", "proprio"))
        return cls(action, proprio, data["gripper"], data["fps"])

    @property
    def gripper_in_words(self) -> str:
        """`open is -1, closed is 1 (open-1_closed1)`; `unknown` and `none` as they are."""
        if self.gripper not in GRIPPERS:
            return self.gripper
        opened, closed = GRIPPERS[self.gripper]
        return f"open is {opened:g}, closed is {closed:g} ({self.gripper})"

    @property
    def gripper_columns(self) -> tuple[int, ...]:
        """The action's gripper columns: those whose name begins with `gripper`."""
        return tuple(i for i, c in enumerate(self.action) if c.name.startswith("gripper"))

    @property
    def unknown(self) -> list[str]:
        """What is not known, in words, for people; [] where everything is."""
        gripper = "gripper convention" if self.gripper_columns else "gripper column, if any"
        unknown = [gripper] if self.gripper == UNKNOWN else []
        unknown += ["rate"] if self.fps is None else []
        for name, columns in (("action", self.action), ("state", self.proprio)):
            for what in ("reference", "unit"):
                missing = sum(getattr(column, what) == UNKNOWN for column in columns)
                if missing:
                    unknown.append(f"{what} of {missing} {name} column{'s' * (missing > 1)}")
        return unknown

    def differences(self, other: Meaning) -> dict[str, str]:
        """Where two meanings contradict each other: aspect -> `this: that` in words.

        Aspects are `gripper`, `fps`, and `names`, `reference`, `unit` of `action` or `proprio`
        (`action.names`). Unknown contradicts nothing; rates are one if they differ in digits alone
        (29.97 Hz, 30000/1001 Hz).
        """
        differences: dict[str, str] = {}
        if UNKNOWN not in (self.gripper, other.gripper) and self.gripper != other.gripper:
            differences["gripper"] = f"{self.gripper}, {other.gripper}"
        if self.fps and other.fps and not math.isclose(self.fps, other.fps, rel_tol=SAME_RATE):
            differences["fps"] = f"{self.fps:g} Hz, {other.fps:g} Hz"
        for name in ("action", "proprio"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if [c.name for c in ours] != [c.name for c in theirs]:
                differences[f"{name}.names"] = f"{_names(ours)}; {_names(theirs)}"
                continue
            for what in ("reference", "unit"):
                differ = [
                    f"{a.name}: {getattr(a, what)}, {getattr(b, what)}"
                    for a, b in zip(ours, theirs, strict=True)
                    if UNKNOWN not in (getattr(a, what), getattr(b, what))
                    and getattr(a, what) != getattr(b, what)
                ]
                if differ:
                    differences[f"{name}.{what}"] = "; ".join(differ)
        return differences


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(column.name for column in columns) or "none"


def convert_gripper(
    values: Float[np.ndarray, "*any"], source: str, target: str
) -> Float[np.ndarray, "*any"]:
    """Gripper values of one convention in another, in proportion between open and closed.

    Raises `ConfigError` for a convention that is not one of GRIPPERS.
    """
    for name in (source, target):
        if name not in GRIPPERS:
            raise ConfigError(
                f"the gripper convention is {name!r}: its values cannot be converted",
                remedy=did_you_mean(name, list(GRIPPERS))
                + " State `gripper` in the data set's schema.",
            )
    if source == target:
        return values
    (open_in, closed_in), (open_out, closed_out) = GRIPPERS[source], GRIPPERS[target]
    openness = (values - closed_in) / (open_in - closed_in)
    return closed_out + openness * (open_out - closed_out)
