"""Which steps and which episodes of a data set are used.

[keep]
drop_first_if_zero = "steps/action"     # a first step without motion is dropped
drop_last = 1

[keep.episodes]                         # others are left out, and counted
min_steps = 10
instruction = "not empty"
if_true = "episode_metadata/success"
equals = { "episode_metadata/kind" = "good" }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from depthtok.errors import SchemaError
from depthtok.sources.columns import FeatureFacts, ReadableEpisode, SchemaColumns, numbers_a_step
from depthtok.sources.episode_rules import EpisodeRules
from depthtok.sources.table import SchemaTable

TOLERANCE = 1e-3
"""A first step is without motion if none of its numbers is larger than this share of the episode's
typical motion. Real BridgeData has first actions of up to 4e-5 of it, where zeros are meant."""


@dataclass(frozen=True)
class MotionColumns:
    """Columns `take` of a feature; None for the motion columns that the action reads from it."""

    path: str
    take: str | None = None

    @classmethod
    def parse(cls, value: object, where: str) -> MotionColumns:
        """Reads a path, or a table with `from` and `take`. Raises `SchemaError`."""
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, dict):
            raise SchemaError(
                f"{where}: drop_first_if_zero = {value!r}",
                remedy='write paths, or { from = "steps/action", take = "0:6" }',
            )
        table = SchemaTable(value, f"{where} drop_first_if_zero")
        motion = cls(table.take("from", str), table.take("take", str))
        table.finish()
        return motion

    def to_json(self) -> str | dict:
        """What `parse` reads."""
        return self.path if self.take is None else {"from": self.path, "take": self.take}

    def columns(self, action: Sequence[SchemaColumns], width: int) -> list[int]:
        """Indices of those of the feature's `width` columns that must be zero: those that the
        action reads as anything but a gripper; if there are none, all but a gripper's."""
        if self.take is not None:
            return SchemaColumns(("",), self.path, self.take).indices(width, self.path)
        read, grippers = set(), set()
        for columns in (columns for columns in action if columns.path == self.path):
            motion = columns.motion(width)
            read |= {*motion}
            grippers |= {*columns.indices(width, self.path)} - {*motion}
        return sorted(read or {*range(width)} - grippers)


@dataclass(frozen=True)
class Keep:
    """Which steps of an episode are used, and which episodes.

    `drop_first` and `drop_last` steps are always dropped. Otherwise the first step is dropped if
    all of `drop_first_if_zero` are zero there, up to `tolerance`, a share of the episode's typical
    motion: the median over its other steps of the largest number.
    """

    drop_first: int = 0
    drop_last: int = 0
    drop_first_if_zero: tuple[MotionColumns, ...] = ()
    tolerance: float = TOLERANCE
    episodes: EpisodeRules = field(default_factory=EpisodeRules)

    @classmethod
    def parse(cls, table: SchemaTable) -> Keep:
        """Reads a `[keep]` table. Raises `SchemaError`."""
        values = table.data.get("drop_first_if_zero", [])
        values = values if isinstance(values, list) else [values]
        table.asked.append("drop_first_if_zero")
        keep = cls(
            table.take("drop_first", int, 0),
            table.take("drop_last", int, 0),
            tuple(MotionColumns.parse(value, table.where) for value in values),
            table.take("tolerance", float, TOLERANCE),
            EpisodeRules.parse(
                SchemaTable(table.take("episodes", dict, {}), f"{table.where} episodes")
            ),
        )
        table.finish()
        if keep.drop_first < 0 or keep.drop_last < 0:
            raise SchemaError(f"{table.where}: a negative count", remedy="give 0 or more")
        if not 0 <= keep.tolerance < 1:
            raise SchemaError(
                f"{table.where}: tolerance = {keep.tolerance}",
                remedy="give a share of the typical motion, from 0 to 1",
            )
        return keep

    def to_json(self) -> dict:
        """The table that `parse` reads."""
        table: dict = {
            "drop_first": self.drop_first,
            "drop_last": self.drop_last,
            "drop_first_if_zero": [motion.to_json() for motion in self.drop_first_if_zero],
        }
        table |= {"tolerance": self.tolerance} if self.tolerance != TOLERANCE else {}
        rules = self.episodes.to_json()
        return table | ({"episodes": rules} if rules else {})

    def check(
        self, features: Mapping[str, FeatureFacts], action: Sequence[SchemaColumns], where: str
    ) -> None:
        """Raises `SchemaError` unless the features exist, and are of the type that is needed."""
        count = 0
        for motion in self.drop_first_if_zero:
            width = numbers_a_step(features, motion.path, f"{where}, keep")
            count += len(motion.columns(action, width))
        if self.drop_first_if_zero and not count:
            raise SchemaError(
                f"{where}, keep: drop_first_if_zero looks at gripper columns only",
                remedy="name the features of the motion",
            )
        self.episodes.check(features, f"{where}, keep.episodes")

    @property
    def by_motion(self) -> bool:
        """Whether it depends on the first step's motion how many steps are dropped."""
        return self.drop_first == 0 and bool(self.drop_first_if_zero)

    @property
    def words(self) -> str:
        """Which steps are dropped; "" if none are."""
        first = f"the first {self.drop_first}" if self.drop_first > 1 else "the first"
        last = f"the last {self.drop_last}" if self.drop_last > 1 else "the last"
        ends = [first] * bool(self.drop_first) + [last] * bool(self.drop_last)
        rules = [f"{' and '.join(ends)} of each episode"] if ends else []
        if self.by_motion:
            rules.insert(0, "the first of each episode that begins without motion")
        return ", and ".join(rules)

    def steps(self, raw: ReadableEpisode, action: Sequence[SchemaColumns] = ()) -> slice:
        """The steps kept; an empty slice if there are none. `action`: the action's columns."""
        start = self.drop_first
        if self.drop_first_if_zero and start == 0 and len(raw) > 0:
            motions = self.drop_first_if_zero
            start = int(all(self._begins_still(raw, motion, action) for motion in motions))
        return slice(start, max(start, len(raw) - self.drop_last))

    def _begins_still(
        self, raw: ReadableEpisode, motion: MotionColumns, action: Sequence[SchemaColumns]
    ) -> bool:
        """Whether the first step has no motion."""
        values = np.abs(np.asarray(raw.values(motion.path), np.float64).reshape(len(raw), -1))
        values = values[:, motion.columns(action, values.shape[1])]
        largest = values[1:].max(axis=1, initial=0)
        largest = largest[np.isfinite(largest)]
        typical = float(np.median(largest)) if len(largest) else 0.0
        return bool((values[0] <= self.tolerance * typical).all())
