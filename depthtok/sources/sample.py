"""The numbers of a data set's first episodes: what a draft of its schema goes by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from depthtok.errors import SourceError, SourceUnavailable
from depthtok.sources.features import Feature
from depthtok.sources.rlds import RldsDirectory

EPISODES, BYTES = 20, 1 << 26  # whichever comes first; at least one episode
WIDEST = 1024  # numbers a step; larger features are pictures and clouds

Sample = Mapping[str, list[Float64[np.ndarray, "T n"]]]
"""By path of a numeric feature of the step: its values in each episode."""


def sample(rlds: RldsDirectory, episodes: int = EPISODES) -> Sample:
    """The numbers of the first `episodes` episodes that can be read; no values if none can."""
    wanted = [path for path, found in rlds.features.items() if _is_small(found)]
    values: dict[str, list[np.ndarray]] = {path: [] for path in wanted}
    read = size = 0
    for split in rlds.splits.values():
        for shard in split.shards:
            try:
                for raw in filter(len, rlds.records(shard)):
                    for path in wanted:
                        try:
                            rows = np.asarray(raw.values(path), np.float64)
                        except SourceError:
                            continue
                        values[path].append(rows.reshape(len(raw), -1))
                    read, size = read + 1, size + len(raw.data)
                    if read == episodes or size > BYTES:
                        return values
            except (
                SourceError,
                SourceUnavailable,
            ):  # not downloaded, or damaged: `convert` says so
                continue
    return values


def _is_small(found: Feature) -> bool:
    return (
        found.per_step
        and found.kind in ("tensor", "scalar")
        and found.size is not None
        and 0 < found.size <= WIDEST
    )
