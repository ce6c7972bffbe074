"""The codes of an export, episode by episode, from its data files or shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.errors import CorruptRecord, SourceError, StaleStore
from depthtok.json_values import value_of
from depthtok.remote.whole import holding
from depthtok.sources.columns import ReadableEpisode
from depthtok.sources.lerobot.dataset import LeRobotDirectory
from depthtok.sources.lerobot.listing import read_table
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.tfrecord import CorruptPayload
from depthtok.stores.frame_files import FILES, differs
from depthtok.stores.origin import shard_differs
from depthtok.stores.parts import Part
from pipelines.export.lerobot_meta import BY_EPISODE
from pipelines.own_codes.recorded import RecordedCodes

Ranges = Mapping[str, Float32[np.ndarray, "2"]]


@dataclass(frozen=True)
class OwnEpisode:
    """An episode of the export, with the range of disparity of every camera; NaN of one that it
    does not have."""

    raw: ReadableEpisode
    ranges: Ranges

    def grids(
        self, recorded: RecordedCodes, camera: str, steps: slice
    ) -> UInt8[np.ndarray, "T h w"] | None:
        """The codes of these steps; None of a camera that the episode does not have. Raises
        `CorruptRecord` for what are no codes of the codebook, or have no range."""
        key = value_of(recorded.features, camera, str)
        values = self.raw.values(key).reshape(len(self.raw), *recorded.grid)[steps]
        has_range = np.isfinite(self.ranges[camera])
        if (values < 0).all() and not has_range.any():
            return None
        if not has_range.all():
            raise CorruptRecord(f"{key} has codes without the range that they are of")
        lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
        if lowest < 0 or highest >= recorded.codes:
            wrong = lowest if lowest < 0 else highest
            raise CorruptRecord(f"{key} holds {wrong}, which is no code of {recorded.codes}")
        return values.astype(np.uint8)


Episodes = Iterator[tuple[int, OwnEpisode | SourceError]]


@dataclass(frozen=True)
class LeRobotCodes:
    """Codes in columns of an export as LeRobot; ranges lie beside, in a table by episode."""

    recorded: RecordedCodes

    @cached_property
    def _dataset(self) -> LeRobotDirectory:
        return LeRobotDirectory.open(self.recorded.root)

    def episodes(self, part: Part) -> Episodes:
        """Those of a part of the EpisodeStore that was made of the export. Raises `StaleStore`
        where a file is another one since, `SourceUnavailable` where it is not there."""
        root, shard = self.recorded.root, part.shard
        if reason := differs(part, root):
            raise _changed(reason)
        groups = (
            self._dataset.groups(shard.split, []) if shard.split in self._dataset.splits else []
        )
        group = groups[shard.shard] if shard.shard < len(groups) else None
        if group is None or group.files[0] != part.meta[FILES][0]:
            raise _changed(f"{root} lists other files")
        with holding(group.paths(root)) as paths:
            self.recorded.require_as_exported(group.files, paths)
            for index, raw in self._dataset.episodes(replace(group, fixed=paths), []):
                if isinstance(raw, SourceError):
                    yield index, raw
                else:
                    yield index, OwnEpisode(raw, self._ranges_of(index))

    @cached_property
    def _table(self) -> Mapping[str, np.ndarray]:
        """The ranges by column, and `episode_index`, ascending."""
        path = self.recorded.root / BY_EPISODE
        ends = [f"{key}/{end}" for key in self.recorded.ranges.values() for end in ("low", "high")]
        with holding([path]) as (held,):
            self.recorded.require_as_exported([BY_EPISODE], [held])
            table = read_table(held, ["episode_index", *ends])
        columns = {name: table[name].to_numpy() for name in ends}
        numbers = {name: values.astype(np.float32) for name, values in columns.items()}
        return {**numbers, "episode_index": table["episode_index"].to_numpy()}

    def _ranges_of(self, index: int) -> Ranges:
        row = int(np.searchsorted(self._table["episode_index"], index))
        keys = self.recorded.ranges.items()
        ends = {c: [self._table[f"{key}/{end}"][row] for end in ("low", "high")] for c, key in keys}
        return {camera: np.array(values, np.float32) for camera, values in ends.items()}


@dataclass(frozen=True)
class RldsCodes:
    """Codes and ranges in the records of an export as RLDS."""

    recorded: RecordedCodes

    @cached_property
    def _directory(self) -> RldsDirectory:
        return RldsDirectory.open(self.recorded.root)

    def episodes(self, part: Part) -> Episodes:
        """As `LeRobotCodes.episodes`."""
        root, key = self.recorded.root, part.shard
        split = self._directory.splits.get(key.split)
        if split is None or len(split.shards) != key.shards:
            raise _changed(f"{root} lists other shards")
        shard = split.shards[key.shard]
        if reason := shard_differs(part.meta, shard, root):
            raise _changed(f"{shard.path}: {reason}")
        bad: list[tuple[int, CorruptPayload]] = []
        with holding([shard.path]) as (path,):
            name = shard.path.relative_to(root).as_posix()
            self.recorded.require_as_exported([name], [path])
            held = replace(shard, path=path)
            for raw in self._directory.records(held, lambda *failure: bad.append(failure)):
                yield raw.index, OwnEpisode(raw, self._ranges_of(raw))
        yield from bad

    def _ranges_of(self, raw: ReadableEpisode) -> Ranges:
        keys = self.recorded.ranges.items()
        return {c: raw.values(str(key)).astype(np.float32) for c, key in keys}


OwnCodes = LeRobotCodes | RldsCodes


def reader_of(recorded: RecordedCodes) -> OwnCodes:
    """What reads the codes of an export."""
    return RldsCodes(recorded) if recorded.is_rlds else LeRobotCodes(recorded)


def _changed(reason: str) -> StaleStore:
    return StaleStore(
        f"the export changed since it was converted: {reason}",
        remedy="run `depthtok convert` again, as before: it makes the parts of changed files anew",
    )
