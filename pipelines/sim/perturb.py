"""Views and robot starts that differ from the benchmark's, by LIBERO-Plus's formulas (arXiv
2510.13626; MIT), and seeded draws of them in stated ranges.

    position, quaternion = moved(position, quaternion, Viewpoint(orbit=30))
    robot_start(120)                                 # one of the 500 published ones
    Ranges("orbit -15:15, distance 100:130", "0.1:0.3").draw(seed)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from jaxtyping import Float64

from depthtok.errors import ConfigError, did_you_mean
from pipelines.sim.variation import Start, Variation, Viewpoint

JOINTS = (0.0, -0.161037389, 0.0, -2.44459747, 0.0, 2.2267522, np.pi / 4)
"""The robot's joints at the start of every LIBERO task (rad)."""
STARTS = 500  # published: 100 each at 0.1, 0.2, ... 0.5 rad from the usual joints
_PIVOT = np.array([0, 0, 0.8])  # m; about which a camera is raised and withdrawn
_SEED = 42  # of the published starts
_DIGITS = 4  # LIBERO-Plus rounds poses to these, step by step
_WIDEST = {"orbit": 180.0, "height": 60.0, "distance": 300.0, "turn": 30.0, "tilt": 30.0}
_FURTHEST = 1.0  # rad

Quaternion = Float64[np.ndarray, " 4"]  # w x y z
Position = Float64[np.ndarray, " 3"]  # m


def moved(
    position: Position, quaternion: Quaternion, view: Viewpoint
) -> tuple[Position, Quaternion]:
    """A camera's pose in the world (MuJoCo's: it looks along its -z) from another viewpoint."""
    if view.height:
        raising = _about((0, 1, 0), -view.height)
        position = _rotated(raising, position - _PIVOT) + _PIVOT
        position, quaternion = _rounded(position, _product(raising, quaternion))
    orbiting = _about((0, 0, 1), view.orbit)
    position, quaternion = _rounded(
        _rotated(orbiting, position), _product(orbiting, _unit(quaternion))
    )
    if view.distance != 100:
        withdrawn = _PIVOT + (position - _PIVOT) * view.distance / 100
        position, quaternion = _rounded(withdrawn, quaternion)
    for axis, degrees in (((0, 0, 1), view.turn), ((0, 1, 0), -view.tilt)):
        if degrees:
            turned = _product(_about(axis, degrees), _unit(quaternion))
            position, quaternion = _rounded(position, turned)
    return position, _unit(quaternion)


def robot_start(number: int) -> Start:
    """Published start 1 to 500. Raises `ConfigError` for another number."""
    if not 1 <= number <= STARTS:
        raise ConfigError(f"there is no robot start {number}", remedy=f"give 1 to {STARTS}")
    return _start(_published()[number - 1], (1 + (number - 1) // 100) / 10, f"start {number}")


@cache
def _published() -> Float64[np.ndarray, "n 7"]:
    """The directions in which the published starts lie from the usual joints."""
    directions = np.random.RandomState(_SEED).randn(STARTS, len(JOINTS))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _start(direction: Float64[np.ndarray, " 7"], away: float, name: str) -> Start:
    return Start(tuple((np.array(JOINTS) + away * direction).tolist()), away, name)


@dataclass(frozen=True)
class Ranges:
    """From which views and starts to draw, as the settings say it: `views` by the parts of a
    `Viewpoint` (`orbit -30:-15|15:30, distance 100:130`), `starts` as a distance from the usual
    joints in rad (`0.1:0.3`), both "" for the usual ones. Raises `ConfigError`."""

    views: str = ""
    starts: str = ""

    def __post_init__(self) -> None:
        self._view_ranges, self._start_ranges  # noqa: B018 - read here, so that it is refused here

    def __bool__(self) -> bool:
        return bool(self.views or self.starts)

    def draw(self, seed: int) -> Variation:
        """The variation that belongs to a seed: values uniform in their ranges."""
        return Variation(self.draw_view(seed), self._draw_start(seed))

    def draw_view(self, seed: int, number: int = 0) -> Viewpoint | None:
        """The view that belongs to a seed, or another one (`number`); None without ranges."""
        # To numpy [seed, 1, 0] is [seed, 1]: in a recording the first view is drawn by the numbers
        # of the expert's `Style`, its orbit by those of the detour (a start by those of the noise
        # of the first grasp). Other seeds would change recorded sets, and trials of `eval`.
        rng = np.random.default_rng([seed, 1, number])
        drawn = {name: round(_uniform(rng, spans), 2) for name, spans in self._view_ranges.items()}
        return Viewpoint(**drawn) if drawn else None

    def _draw_start(self, seed: int) -> Start | None:
        if not self._start_ranges:
            return None
        rng = np.random.default_rng([seed, 2])
        away = round(_uniform(rng, self._start_ranges), 3)
        direction = rng.standard_normal(len(JOINTS))
        direction /= np.linalg.norm(direction)
        return _start(direction, away, f"start seed {seed} {away:g} rad")

    @property
    def _view_ranges(self) -> dict[str, list[tuple[float, float]]]:
        ranges = {}
        for piece in filter(None, (piece.strip() for piece in self.views.split(","))):
            name, _, spans = piece.partition(" ")
            names = [field.name for field in fields(Viewpoint)]
            if name not in names:
                raise ConfigError(f"views has no part {name!r}", remedy=did_you_mean(name, names))
            ranges[name] = _spans(spans, f"views: {name}", _WIDEST[name])
        if any(low <= 0 for low, _ in ranges.get("distance", ())):
            raise ConfigError("views: a camera cannot be at its pivot", remedy="distance 100:130")
        return ranges

    @property
    def _start_ranges(self) -> list[tuple[float, float]]:
        return _spans(self.starts, "starts", _FURTHEST) if self.starts.strip() else []


def _spans(text: str, what: str, widest: float) -> list[tuple[float, float]]:
    """`-30:-15|15:30` as pairs, `5` as the pair of itself. Raises `ConfigError`."""
    number = r"-?\d+(?:\.\d+)?"
    spans = []
    for piece in text.split("|"):
        match = re.fullmatch(rf"\s*({number})(?::({number}))?\s*", piece)
        low, high = (float(match[1]), float(match[2] or match[1])) if match else (1.0, 0.0)
        if low > high or max(abs(low), abs(high)) > widest:
            raise ConfigError(
                f"{what} cannot be {text!r}",
                remedy=f"give ranges within {widest:g}, such as -30:-15|15:30",
            )
        spans.append((low, high))
    return spans


def _uniform(rng: np.random.Generator, spans: list[tuple[float, float]]) -> float:
    """A value from one of the spans, each by its width."""
    offset = rng.random() * sum(high - low for low, high in spans)
    for low, high in spans:
        if offset <= high - low:
            return low + offset
        offset -= high - low
    return spans[-1][1]


def _about(axis: tuple[int, int, int], degrees: float) -> Quaternion:
    half = np.radians(degrees) / 2
    return np.array([np.cos(half), *(np.sin(half) * np.array(axis))])


def _product(a: Quaternion, b: Quaternion) -> Quaternion:
    """The rotation `b`, then `a`."""
    vector = a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])
    return np.array([a[0] * b[0] - a[1:] @ b[1:], *vector])


def _rotated(rotation: Quaternion, point: Position) -> Position:
    conjugate = rotation * [1, -1, -1, -1]
    return _product(_product(rotation, np.array([0.0, *point])), conjugate)[1:]


def _unit(quaternion: Quaternion) -> Quaternion:
    return quaternion / np.linalg.norm(quaternion)


def _rounded(position: Position, quaternion: Quaternion) -> tuple[Position, Quaternion]:
    exact = ([round(float(value), _DIGITS) for value in part] for part in (position, quaternion))
    return np.array(next(exact)), np.array(next(exact))
