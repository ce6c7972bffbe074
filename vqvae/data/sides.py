"""The clips that train a codebook and those that evaluate it: split by episode, and recorded, so
that a policy can say which of its own held-out episodes the codebook has seen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from depthtok.data import EpisodeKey
from depthtok.errors import ConfigError
from depthtok.held_out import BEFORE, GIVEN, KEYED, limits, place
from vqvae.data.clips import ClipSource, DepthSequence, where

Places = Float64[np.ndarray, " _"]
"""Where the clips of a source lie between 0 and 1: those below a limit are held out."""


@dataclass(frozen=True)
class Sides:
    """The clips to learn from and those held out, source by source.

    `limits` are the places below which each source's episodes are held out, by the rule `KEYED` of
    `depthtok.held_out`.
    """

    learn: list[ClipSource]
    held_out: list[ClipSource]
    rule: str = GIVEN
    limits: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What a codebook records: its sources, and which of their episodes were held out."""
        rows: list[dict[str, object]] = [
            {"name": s.name, "fingerprint": s.fingerprint, "weight": s.weight} for s in self.learn
        ]
        for row, source in zip(rows, self.learn, strict=True):
            if source.estimator is not None:
                row["estimator"] = dict(source.estimator)
        for row, limit in zip(rows, self.limits, strict=False):
            row["held_out_below"] = limit
        record: dict[str, Any] = {"sources": rows, "held_out_rule": self.rule}
        if self.rule == GIVEN:
            record["held_out_episodes"] = sorted(_names(self.held_out))
        return record


def split(sources: Sequence[ClipSource], share: float) -> Sides:
    """Clips by the one rule of `depthtok.held_out`. Raises `ConfigError` if there is only one
    episode for two sides."""
    places = [np.fromiter((place(_key(s, c)) for c in s.clips), np.float64) for s in sources]
    _require_two(places, share)
    below = tuple(limits([s.name for s in sources], places, share))
    return _sides(sources, places, below, KEYED)


def split_before(sources: Sequence[ClipSource], share: float, seed: int) -> Sides:
    """Clips by the rule of codebooks that record none: a hash of seed, data set and key, with one
    limit for all sources."""
    drawn = ((_place_before(name_of(s, c), seed) for c in s.clips) for s in sources)
    places = [np.fromiter(numbers, np.float64) for numbers in drawn]
    _require_two(places, share)
    distinct = np.unique(np.concatenate(places)) if places else np.empty(0)
    if share == 0 or not len(distinct):
        return _sides(sources, places, (0.0,) * len(sources), BEFORE)
    # Hashes below the share are held out: at least the lowest, and never the highest.
    limit = float(min(max(share, np.nextafter(distinct[0], 1)), distinct[-1]))
    return _sides(sources, places, (limit,) * len(sources), BEFORE)


def _sides(
    sources: Sequence[ClipSource], places: Sequence[Places], below: tuple[float, ...], rule: str
) -> Sides:
    rows = list(zip(sources, places, below, strict=True))
    learn = [where(source, at >= limit) for source, at, limit in rows]
    held_out = [where(source, at < limit) for source, at, limit in rows]
    return Sides(learn, held_out, rule, below if rule == KEYED else ())


def _require_two(places: Sequence[Places], share: float) -> None:
    if share and len(np.unique(np.concatenate([*places, np.empty(0)]))) == 1:
        raise ConfigError(
            "one episode cannot be both for training and held out",
            remedy="give more episodes, or set held_out = 0 to evaluate on the training data",
        )


def name_of(source: ClipSource, clip: DepthSequence) -> str:
    """The name of a clip's episode, the same for all its cameras."""
    return f"{source.name}|{clip.key}"


def _key(source: ClipSource, clip: DepthSequence) -> EpisodeKey | str:
    return clip.key if isinstance(clip.key, EpisodeKey) else name_of(source, clip)


def _place_before(name: str, seed: int) -> float:
    drawn = hashlib.sha256(f"{seed}|{name}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64


def _names(sources: Iterable[ClipSource]) -> set[str]:
    return {name_of(source, clip) for source in sources for clip in source.clips}


def learnt_from(meta: Mapping[str, Any], keys: Sequence[EpisodeKey]) -> int | None:
    """How many of these episodes were among those that a codebook learnt from, as its `meta` says;
    None where that cannot be told."""
    data, training = meta.get("data", {}), meta.get("training", {})
    by_name = {source["name"]: source for source in data.get("sources", ())}
    keys = [key for key in keys if key.dataset in by_name]
    if not keys:
        return 0
    listed = {*data.get("held_out", ()), *data.get("held_out_episodes", ())}
    rule = data.get("held_out_rule", BEFORE)
    if rule == KEYED:
        return sum(place(key) >= by_name[key.dataset]["held_out_below"] for key in keys)
    if rule == GIVEN:
        return sum(f"{key.dataset}|{key}" not in listed for key in keys)
    share, seed = training.get("held_out", 0), training.get("seed", 0)
    odd = [name for name in listed if _place_before(name, seed) >= share]
    if len(odd) > 1:  # they were held out by their task, which was not recorded
        return None
    names = {f"{key.dataset}|{key}" for key in keys} - listed
    return sum(_place_before(name, seed) >= share for name in names)
