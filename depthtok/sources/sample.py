"""The numbers of a data set's first episodes, for drafting its schema."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from jaxtyping import Float64

from depthtok.errors import SourceError, SourceUnavailable
from depthtok.sources.features import Feature
from depthtok.sources.files import FileDataset
from depthtok.sources.rlds import RldsDirectory

EPISODES, BYTES = 20, 1 << 26  # whichever comes first; at least one episode
WIDEST = 1024  # numbers a step; larger features are pictures and clouds

Sample = Mapping[str, list[Float64[np.ndarray, "_ _"]]]
"""The values of each episode, float64[T, n], by path of a numeric feature of the step."""


def sample(rlds: RldsDirectory, episodes: int = EPISODES) -> Sample:
    """The numbers of the first `episodes` episodes that can be read; empty lists if none can."""
    paths = [path for path, feature in rlds.features.items() if _is_small(feature)]
    values: dict[str, list[np.ndarray]] = {path: [] for path in paths}
    read = size = 0
    for split in rlds.splits.values():
        for shard in split.shards:
            try:
                for raw in filter(len, rlds.records(shard)):
                    for path in paths:
                        try:
                            rows = np.asarray(raw.values(path), np.float64)
                        except SourceError:
                            continue
                        values[path].append(rows.reshape(len(raw), -1))
                    read, size = read + 1, size + len(raw.data)
                    if read == episodes or size > BYTES:
                        return values
            except (SourceError, SourceUnavailable):
                continue  # not downloaded, or damaged: `convert` says so
    return values


def sample_files(dataset: FileDataset, episodes: int = EPISODES) -> Sample:
    """The same of a data set in files."""
    paths = [path for path, feature in dataset.features.items() if _is_small(feature)]
    values: dict[str, list[np.ndarray]] = {path: [] for path in paths}
    read = 0
    for group in (group for split in dataset.splits for group in dataset.groups(split, [])):
        try:
            for _, raw in dataset.episodes(group, []):
                if isinstance(raw, SourceError) or not len(raw):
                    continue
                for path in paths:
                    with suppress(SourceError):
                        rows = np.asarray(raw.values(path), np.float64)
                        values[path].append(rows.reshape(len(raw), -1))
                read += 1
                if read == episodes:
                    return values
        except SourceUnavailable:
            continue  # not downloaded: `convert` says so
    return values


def _is_small(feature: Feature) -> bool:
    return (
        feature.per_step
        and feature.kind in ("tensor", "scalar")
        and feature.size is not None
        and 0 < feature.size <= WIDEST
    )
