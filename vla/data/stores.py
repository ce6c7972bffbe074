"""What a training uses of the stores of episodes, codes and depth: `depthtok.stores` has them."""

# E episodes of a part or store, K codes, D width of a code's vector

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Integer

from depthtok.data import Camera, DepthClip, DepthKind, Episode, EpisodeKey, ImageTransform
from depthtok.meaning import Meaning
from depthtok.stores.parts import Failure, ShardKey
from depthtok.stores.statistics import Statistics


@runtime_checkable
class EpisodePart(Protocol):
    """A part of a store: its shard, which of the shard's episodes it holds, how long they are, and
    what it records of its origin."""

    @property
    def shard(self) -> ShardKey: ...

    @property
    def indices(self) -> Integer[np.ndarray, " E"]: ...

    @property
    def frames(self) -> Integer[np.ndarray, " E"]: ...

    @property
    def meta(self) -> Mapping[str, Any]: ...


@runtime_checkable
class AnyStore(Protocol):
    """Any store."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def content(self) -> str: ...

    def parts(self) -> Iterable[EpisodePart]: ...


@runtime_checkable
class Episodes(AnyStore, Protocol):
    """A `depthtok.stores.episodes.EpisodeStore`."""

    @property
    def cameras(self) -> Mapping[str, Camera]: ...

    @property
    def lengths(self) -> Integer[np.ndarray, " E"]: ...

    @property
    def action_dim(self) -> int: ...

    @property
    def proprio_dim(self) -> int: ...

    @property
    def gripper(self) -> Sequence[int]: ...

    @property
    def meaning(self) -> Meaning: ...

    def episode(self, number: int) -> Episode: ...

    def statistics(self) -> Statistics: ...


@runtime_checkable
class Views(AnyStore, Protocol):
    """A store that was made from the cameras' pictures."""

    @property
    def cameras(self) -> Sequence[str]: ...

    @property
    def transform(self) -> ImageTransform: ...

    def missing(self) -> list[str]: ...


@runtime_checkable
class Targets(Views, Protocol):
    """A source of depth targets."""

    @property
    def codebook(self) -> str: ...

    @property
    def grid(self) -> tuple[int, int]: ...


@runtime_checkable
class Steps(Protocol):
    """The targets of a clip, step by step."""

    def __getitem__(self, step: int, /) -> np.ndarray: ...


@runtime_checkable
class Grid(Protocol):
    """A `depthtok.data.CodeGrid`, or what replaces it."""

    @property
    def codes(self) -> Steps: ...


@runtime_checkable
class Codes(Targets, Protocol):
    """A `depthtok.stores.codes.CodeStore`."""

    def find_grid(self, key: EpisodeKey, camera: str) -> Grid | None: ...


@runtime_checkable
class CodeVectors(Protocol):
    """A `depthtok.stores.codebook.Codebook`."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def vectors(self) -> Float32[np.ndarray, "K D"]: ...


@runtime_checkable
class Clip(Protocol):
    """A `depthtok.stores.depth.StoredDepth`."""

    @property
    def key(self) -> EpisodeKey: ...

    @property
    def camera(self) -> str: ...

    @property
    def disparity_quantiles(self) -> tuple[float, ...]: ...

    def read(self, start: int, stop: int) -> DepthClip: ...


@runtime_checkable
class Depth(Views, Protocol):
    """A `depthtok.stores.depth.DepthStore`."""

    @property
    def kind(self) -> DepthKind: ...

    @property
    def size(self) -> tuple[int, int]: ...

    def failures(self) -> list[Failure]: ...

    def clips(self) -> Iterator[Clip]: ...
