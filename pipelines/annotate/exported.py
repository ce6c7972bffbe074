"""Depth that comes back from an export: it is what it was, the data set's own or an estimate."""

from __future__ import annotations

import json

from depthtok.data import DepthKind, EstimatorSpec
from depthtok.errors import as_written
from depthtok.json_values import value_of
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.lineage import ESTIMATED


def estimated_before(episodes: EpisodeStore) -> EstimatorSpec | None:
    """What estimated the depth that came with these episodes, before they were exported; None where
    it is the data set's own. Raises `CorruptPart` where that cannot be read."""
    text = episodes.spec.place.get(ESTIMATED)
    if text is None:
        return None
    with as_written(episodes.path, "convert the data set again"):
        recorded = json.loads(text)
        name, licence = (value_of(recorded, key, str) for key in ("name", "licence"))
        weights = value_of(recorded, "weights", str)
    settings = (("read_from", "an export"),)
    return EstimatorSpec(name, DepthKind.METRES, weights, licence=licence, settings=settings)
