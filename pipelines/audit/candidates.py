"""The estimators of a comparison, by the stores of depth that they made, and which truth is of the
same data set as each store.

Stores that were made by the same estimator, weights and settings are one candidate, whatever data
sets they are of. Two such stores of one data set are two candidates, named after their directories.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from depthtok.errors import ConfigError
from depthtok.json_values import JsonObject
from depthtok.stores.depth import DepthStore
from pipelines.annotate.speed import Speed, recorded
from pipelines.depth.vida.published import SHIPPED
from vqvae.codec import Codec

OF_DATA = ("camera", "size")  # settings that may differ between the data sets of one estimator


@dataclass(frozen=True)
class Candidate:
    """An estimator. `doubt` says why its figures are no reason to choose it; "" where they are."""

    name: str
    stores: tuple[DepthStore, ...]
    licence: str  # of its weights; "" where it has none
    doubt: str
    speed: Speed | None  # of the last run on its first store; None: not recorded

    @property
    def estimator(self) -> JsonObject:
        """What made the depth."""
        return self.stores[0].estimator


@dataclass(frozen=True)
class Meeting:
    """One candidate's store, and the truth of the same data set."""

    candidate: str
    estimated: DepthStore
    truth: DepthStore


def candidates_of(stores: Sequence[DepthStore]) -> list[Candidate]:
    """The estimators that made some stores, in their order, each with a name of its own."""
    groups: dict[str, list[DepthStore]] = {}
    for store in stores:
        what = {name: value for name, value in store.spec.what.items() if name not in OF_DATA}
        groups.setdefault(json.dumps(what, sort_keys=True, default=str), []).append(store)
    apart = [part for group in groups.values() for part in _one_a_data_set(group)]
    names = [str(group[0].estimator["name"]) for group in apart]
    counts = Counter(names)
    named = [
        name if counts[name] == 1 else f"{name} ({group[0].path.name})"
        for name, group in zip(names, apart, strict=True)
    ]
    twice = Counter(named)
    named = [
        name if twice[name] == 1 else f"{group[0].estimator['name']} ({group[0].path})"
        for name, group in zip(named, apart, strict=True)
    ]
    return [_candidate(name, group) for name, group in zip(named, apart, strict=True)]


def _one_a_data_set(group: list[DepthStore]) -> list[list[DepthStore]]:
    """A group as it is, or each store alone where two are of the same episodes and cameras."""
    views = [(key, c) for store in group for key, c in {(_shards(store), c) for c in store.cameras}]
    if len(set(views)) == len(views):
        return [group]
    return [[store] for store in group]


def _shards(store: DepthStore) -> str:
    """What tells the data of two stores apart: the source's content."""
    return f"{store.about['dataset']} {store.spec.upstream}"


def _candidate(name: str, group: Sequence[DepthStore]) -> Candidate:
    licence = str(group[0].estimator.get("licence", ""))
    speeds = [speed for store in group if (speed := recorded(store.path))]
    doubts = [text for store in group if (text := doubt_of(store))]
    return Candidate(name, tuple(group), licence, next(iter(doubts), ""), next(iter(speeds), None))


def doubt_of(store: DepthStore) -> str:
    """Why what made a store is none that anybody would use: a demo's weights, or weights of which
    nothing says what they are, which random ones are among; "" where there is no doubt."""
    estimator = store.estimator
    digest, name = str(estimator.get("weights", "")), str(estimator["name"])
    origin, fetched = (str(store.spec.place.get(k, "")) for k in ("weights", "weights_from"))
    return doubt_about(name, digest, fetched or origin)


def doubt_about(name: str, digest: str, origin: str) -> str:
    """The same of an estimator by name, hash of its weights and what is known of their origin."""
    if not digest:
        return ""  # the data's own depth, or codes
    if digest in _of_demos():
        return "a demo's weights"
    if name.startswith("hf:") and "/" in name and not origin:
        return ""  # of the Hub: the repository is its name, the revision one of its settings
    if not origin:
        return "weights of which nothing records what they are"
    if origin.endswith("shapes of its tensors"):
        return "weights of which only the shapes are known, perhaps random"
    return "weights of unknown origin, perhaps random" if origin.startswith("unknown") else ""


@cache
def _of_demos() -> frozenset[str]:
    """The hashes of the weights that ship with the package, by the cards beside them."""
    cards = [json.loads(path.read_bytes()) for path in sorted(SHIPPED.glob("*.json"))]
    return frozenset(str(card["weights_sha256"]) for card in cards)


def meetings(candidates: Sequence[Candidate], truths: Sequence[DepthStore]) -> list[Meeting]:
    """Every store with the truth of its data set. Raises `ConfigError` for a store or a truth
    without a partner, and where several truths are of the same episodes."""
    shared: list[Meeting] = []
    for candidate in candidates:
        for store in candidate.stores:
            matches = [truth for truth in truths if _same_data(store, truth)]
            if not matches:
                raise ConfigError(
                    f"no --truth is of the data set of {store.path} "
                    f"({store.about['dataset']}, or other episodes of it)",
                    remedy="give its truth too: `depthtok annotate EPISODES --estimator dataset`",
                )
            if len(matches) > 1:
                names = ", ".join(str(truth.path) for truth in matches)
                raise ConfigError(
                    f"{names} are all truth of {store.path}", remedy="give one --truth a data set"
                )
            shared.append(Meeting(candidate.name, store, matches[0]))
    met = {str(meeting.truth.path) for meeting in shared}
    for truth in truths:
        if str(truth.path) not in met:
            raise ConfigError(
                f"no --estimated is of the data set of {truth.path} ({truth.about['dataset']})",
                remedy="leave this --truth out, or give estimates of its data set",
            )
    return shared


def _same_data(store: DepthStore, truth: DepthStore) -> bool:
    """Whether two stores have an episode in common."""
    if store.about["dataset"] != truth.about["dataset"]:
        return False
    keys = ({e.key for part in s.parts() for e in part.episodes} for s in (store, truth))
    return bool(set.intersection(*keys))


def require_codebook(path: Path, table: Sequence[Meeting]) -> Codec:
    """The codebook's networks. Raises `ConfigError` where a store is not of its size,
    `DepthKindError` where its range is of depth of another kind."""
    codec = Codec.load(path)
    book = codec.codebook
    for meeting in table:
        for store in (meeting.estimated, meeting.truth):
            book.normalisation.require(store.kind)
            if store.size != book.size:
                raise ConfigError(
                    f"{store.path} is {store.size} px, the codebook {path} is for {book.size} px",
                    remedy=f"annotate with --size {book.size[0]}, or leave --codebook out",
                )
    return codec
