"""Which episodes are held out of a training: one rule for codebooks, policies and estimators.

A hash of an episode's key gives it a position between 0 and 1; episodes below the share are held
out. So an episode is on the same side in every training with this share, whatever the other
episodes, their order and the seed; a larger share holds out the same episodes and more. Only where
a data set would leave one side empty, its lowest or its highest episode goes there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int

from depthtok.data import EpisodeKey
from depthtok.stores.parts import ShardKey

KEYED = "key"
"""The name of this rule where it is recorded."""
BEFORE = ""
"""Trainings that record no rule have that of their own stage, by its former hash."""
GIVEN = "given"
"""Recorded where the caller said which episodes are held out: those of some tasks."""

Places = Float64[np.ndarray, " E"]


def places(shard: ShardKey, indices: Int[np.ndarray, " E"]) -> Places:
    """The positions in 0..1 of the episodes `indices` of a shard."""
    with np.errstate(over="ignore"):  # splitmix64, which wraps around
        mixed = np.uint64(_seed(shard)) + np.asarray(indices, np.uint64) * np.uint64(_STEP)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def place(key: EpisodeKey | str) -> float:
    """The position of one episode, the same as in `places`; of another key, by its text."""
    if isinstance(key, EpisodeKey):
        return float(places(ShardKey.of(key), np.array([key.index]))[0])
    return _hash(key) / 2.0**64


def names_task(instruction: str, tasks: Iterable[str]) -> bool:
    """Whether an instruction contains one of these texts; capitals do not matter."""
    text = instruction.casefold()
    return any(task.casefold() in text for task in tasks)


def limits(
    datasets: Sequence[str], episodes: Sequence[Float64[np.ndarray, " _"]], share: float
) -> list[float]:
    """The position below which episodes are held out, for each store of a training.

    `datasets` names the data set of each store, `episodes` are the positions of its episodes.
    Stores of one data set have one limit. A data set of one episode is learnt from; where all are,
    the lowest of all episodes is held out, if there are two.
    """
    pooled: dict[str, list[np.ndarray]] = {}
    for name, positions in zip(datasets, episodes, strict=True):
        pooled.setdefault(name, []).append(positions)
    distinct = {name: np.unique(np.concatenate(arrays)) for name, arrays in pooled.items()}
    limit = {name: _limit(positions, share) for name, positions in distinct.items()}
    lowest = {name: positions[0] for name, positions in distinct.items() if len(positions)}
    if share and len(lowest) > 1 and not any(limit.values()):
        limit[min(lowest, key=lowest.__getitem__)] = 1.0
    return [limit[name] for name in datasets]


def _limit(distinct: Places, share: float) -> float:
    """Of one data set: at least its lowest episode is below, and never its highest."""
    if share == 0 or len(distinct) < 2:
        return 0.0
    return float(min(max(share, np.nextafter(distinct[0], 1)), distinct[-1]))


@lru_cache(maxsize=4096)
def _seed(shard: ShardKey) -> int:
    return _hash(str(shard.episode(0)).removesuffix("00000"))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


_STEP = 0x9E3779B97F4A7C15  # the golden ratio in 64 bits, as in splitmix64
