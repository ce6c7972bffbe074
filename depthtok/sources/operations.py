"""The named operations of schemas: small functions over all steps of one episode.

An operation is written as its name followed by its numbers: `"invert"`, `"clip 0 1"`. It maps
float64[T, n] to float64[T, m]. `OPERATIONS` is the full list, shown in docs/schemas.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from depthtok.errors import SchemaError, did_you_mean
from depthtok.sources import rotations

Rows = Float[np.ndarray, "T n"]
Result = Float[np.ndarray, "T m"]


@dataclass(frozen=True)
class Operation:
    """One entry of the list: its description, its numbers, and the widths that it maps."""

    name: str
    doc: str
    function: Callable[..., Result]
    arguments: tuple[str, ...] = ()
    takes: int | None = None  # columns; None: any number
    gives: int | None = None  # columns; None: the same number


@dataclass(frozen=True)
class Call:
    """An operation, by name, with its numbers. Picklable."""

    name: str
    numbers: tuple[float, ...] = ()

    @property
    def operation(self) -> Operation:
        """The operation of this name."""
        return OPERATIONS[self.name]

    @classmethod
    def parse(cls, text: str, where: str) -> Call:
        """Reads `"clip 0 1"`. Raises `SchemaError` naming `where` if that fails."""
        name, *words = text.split() or [""]
        if name not in OPERATIONS:
            raise SchemaError(
                f"{where}: there is no operation {name!r}",
                remedy=did_you_mean(name, list(OPERATIONS)),
            )
        try:
            numbers = tuple(float(word) for word in words)
        except ValueError:
            numbers = (math.nan,)
        arguments = OPERATIONS[name].arguments
        if len(numbers) != len(arguments) or not all(map(math.isfinite, numbers)):
            usage = " ".join([name, *arguments])
            raise SchemaError(
                f"{where}: {text!r} does not match {usage!r}", remedy="give these numbers"
            )
        is_range = numbers[0] < numbers[1] if name == "clip" else len(set(numbers)) == len(numbers)
        if not is_range:  # `clip 1 0` would make every number 0
            raise SchemaError(
                f"{where}: {text!r} leaves no range of numbers",
                remedy="write two numbers that differ, the smaller one first",
            )
        return cls(name, numbers)

    def __str__(self) -> str:
        return " ".join([self.name, *(repr(number) for number in self.numbers)])

    def __call__(self, values: Rows) -> Result:
        return self.operation.function(values, *self.numbers)

    def width(self, width: int, where: str) -> int:
        """The number of output columns for `width` columns. Raises `SchemaError` for a mismatch."""
        takes, gives = self.operation.takes, self.operation.gives
        if takes is not None and width != takes:
            raise SchemaError(
                f"{where}: {self.name!r} takes {takes} columns, but gets {width}",
                remedy="change `take`, or the operation",
            )
        return width if gives is None else gives


def _binarize_gripper(values: Rows) -> Rows:
    """Intermediate values belong to a motion, so they get the state that is reached next. A motion
    cut off by the end of the episode has no such state, and is rounded."""
    values = _hold(values)  # NaN: a step that is not used
    decided = np.where(values > 0.95, 1.0, np.where(values < 0.05, 0.0, np.nan))
    decided[-1:] = np.where(np.isnan(decided[-1:]), values[-1:] >= 0.5, decided[-1:])
    return _hold(decided[::-1])[::-1]


def _absolute_gripper(values: Rows) -> Rows:
    """A relative command sets the state from then on. Before the first one the gripper must have
    been in the other state, since closing a closed gripper makes no sense; without any command it
    is open."""
    state = np.where(values > 0.1, 0.0, np.where(values < -0.1, 1.0, np.nan))
    is_command = ~np.isnan(state)
    first = np.take_along_axis(state, is_command.argmax(axis=0)[None], axis=0)
    start = np.where(is_command.any(axis=0), 1 - first, 1.0)
    state[:1] = np.where(is_command[:1], state[:1], start)
    return _hold(state)


def _hold(values: Rows) -> Rows:
    """Replaces every NaN by the last number before it in its column."""
    rows = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, rows), axis=0)
    return np.take_along_axis(values, last, axis=0)


def _delta(values: Rows) -> Rows:
    """The last step has no next one: its row is 0 (drop it with `keep`)."""
    return np.diff(values, axis=0, append=values[-1:])


def _pose(rows: Float[np.ndarray, "T 16"], order: str) -> Float[np.ndarray, "T 6"]:
    pose = rows.reshape(-1, 4, 4)
    if order == "columns":
        pose = pose.transpose(0, 2, 1)
    rotation = pose[:, :3, :3].reshape(-1, 9)
    return np.hstack([pose[:, :3, 3], rotations.convert(rotation, "matrix", "euler")])


def _simple() -> list[Operation]:
    low_high = ("low", "high")
    return [
        Operation("scale", "times a factor", lambda v, by: v * by, ("by",)),
        Operation("offset", "plus a number", lambda v, by: v + by, ("by",)),
        Operation("clip", "limited to [low, high]", np.clip, low_high),
        Operation(
            "unit_interval",
            "low becomes 0, high becomes 1, the rest in proportion (not limited)",
            lambda v, low, high: (v - low) / (high - low),
            low_high,
        ),
        Operation("invert", "1 - x: open and closed change places", lambda v: 1 - v),
        Operation(
            "threshold",
            "1 above the limit, else 0",
            lambda v, limit: (v > limit).astype(np.float64),
            ("limit",),
        ),
        Operation(
            "binarize_gripper",
            "0 below 0.05, 1 above 0.95; what lies between takes the state that is reached next",
            _binarize_gripper,
        ),
        Operation(
            "absolute_gripper",
            "from relative commands (+1 closes, -1 opens, 0 leaves) to the state: 1 open, 0 closed",
            _absolute_gripper,
        ),
        Operation("delta", "next step minus this step; 0 at the last step", _delta),
        Operation("wrap_angle", "radians brought into (-pi, pi]", rotations.wrap),
        Operation("reverse", "columns in reverse order (yaw, pitch, roll)", lambda v: v[:, ::-1]),
        Operation(
            "pose_rows_to_xyz_euler",
            "4 x 4 pose, stored row by row, to x, y, z, roll, pitch, yaw",
            lambda v: _pose(v, "rows"),
            takes=16,
            gives=6,
        ),
        Operation(
            "pose_columns_to_xyz_euler",
            "4 x 4 pose, stored column by column, to x, y, z, roll, pitch, yaw",
            lambda v: _pose(v, "columns"),
            takes=16,
            gives=6,
        ),
    ]


def _rotation(source: str, target: str) -> Operation:
    return Operation(
        f"{source}_to_{target}",
        f"rotation: {source} to {target}",
        lambda values: rotations.convert(values, source, target),
        takes=rotations.width(source),
        gives=rotations.width(target),
    )


OPERATIONS = MappingProxyType(
    {
        operation.name: operation
        for operation in [
            *_simple(),
            *(_rotation(a, b) for a in rotations.FORMS for b in rotations.FORMS if a != b),
        ]
    }
)
"""Every operation by name."""
