"""Where cameras stood at every step, from the data set itself: an EpisodeStore does not keep it.

`depthtok collect` writes `camera_to_world` beside `camera_intrinsics` (row by row, 4 x 4, axes x
right, y down, z forward, of the upright view), once an episode for a camera that stands and at
every step for one on the wrist. Every RLDS data set that names its features so is read.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from depthtok.data import EpisodeKey
from depthtok.disk.bytes_of import bytes_of
from depthtok.errors import CorruptRecord, DepthtokError
from depthtok.json_values import values_of
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.tfrecord import HEADER, OVERHEAD, payload_length
from depthtok.stores.episodes import EpisodeStore

INTRINSICS, POSE = "camera_intrinsics", "camera_to_world"
PLACES = ("episode_metadata", "steps/observation")


class Poses:
    """The poses of an EpisodeStore's cameras, one episode in memory at a time."""

    def __init__(self, episodes: EpisodeStore) -> None:
        self._directory, self._keys = _source(episodes)
        self._offsets = cache(_record_offsets)

    def of(self, key: EpisodeKey, camera: str, frames: int) -> Float[np.ndarray, "T 4 4"] | None:
        """Camera to world at every step; None where the data set does not say. Raises
        `CorruptRecord` for another number of poses than steps, or ones that are not finite."""
        if self._directory is None or camera not in self._keys:
            return None
        shards = self._directory.splits[key.split].shards
        shard = next((shard for shard in shards if shard.index == key.shard), None)
        if shard is None:
            return None
        offset = self._offsets(shard.path)[key.index]
        feature = self._keys[camera]
        values = self._directory.record(shard, offset, key.index).values(feature)
        poses = np.asarray(values, np.float64).reshape(-1, 4, 4)
        poses = np.repeat(poses, frames, axis=0) if len(poses) == 1 else poses
        if len(poses) != frames or not np.isfinite(poses).all():
            raise CorruptRecord(
                f"{key}: {feature} has {len(poses)} poses, or some that are not finite, for "
                f"{frames} steps"
            )
        return poses


def _source(episodes: EpisodeStore) -> tuple[RldsDirectory | None, dict[str, str]]:
    """The data set that episodes were converted from, and the features of its cameras' poses; none
    where it is not there, or is no RLDS."""
    schema = episodes.spec.what.get("schema")
    if episodes.spec.stage != "convert" or not isinstance(schema, dict):
        return None, {}
    try:
        directory = RldsDirectory.open(episodes.source_root)
    except DepthtokError:
        return None, {}
    keys = {}
    for camera in values_of(schema, "camera", dict):
        name = str(camera.get("intrinsics_key", "")).rpartition("/")[2]
        poses = [f"{folder}/{name.replace(INTRINSICS, POSE)}" for folder in PLACES]
        present = [feature for feature in poses if feature in directory.features]
        if INTRINSICS in name and present:
            keys[camera["name"]] = present[0]
    return directory, keys


def _record_offsets(path: Path) -> list[int]:
    """Where the records of a shard begin, from their headers alone. Raises `CorruptRecord`."""
    offsets: list[int] = []
    with bytes_of(path, scattered=True) as file:
        offset = 0
        while offset < file.size:
            try:
                length = payload_length(file.read(HEADER.size, offset), file.size - offset)
            except ValueError as error:
                raise CorruptRecord(f"{path}: record {len(offsets)}: {error}") from error
            offsets.append(offset)
            offset += OVERHEAD + length
    return offsets
