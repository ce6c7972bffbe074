"""Millions of depth clips: listed by index, opened one at a time."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar, overload, runtime_checkable

import numpy as np
from jaxtyping import Bool, Integer

from depthtok.data import DepthClip
from depthtok.json_values import JsonObject
from depthtok.required import fulfilled
from depthtok.stores.depth import DepthStore, StoredDepth
from depthtok.stores.parts import Part

Clip = TypeVar("Clip", covariant=True)


@runtime_checkable
class DepthSequence(Protocol):
    """The depth of one camera in one episode, read on demand. Implemented by a store's clips."""

    @property
    def key(self) -> object: ...  # str(key) names the episode; equal for all its cameras
    @property
    def camera(self) -> str: ...
    @property
    def frames(self) -> int: ...
    @property
    def disparity_quantiles(self) -> tuple[float, ...]: ...  # at data.QUANTILES, of the clip

    def read(self, start: int, stop: int) -> DepthClip: ...


@dataclass(frozen=True)
class ClipSource:
    """The clips of one data set. A frame of weight 2 is drawn twice as often as one of weight 1.
    Raises `ConfigError` for a weight that is negative or not finite."""

    name: str
    fingerprint: str
    clips: Sequence[DepthSequence]
    weight: float = 1.0
    content: str = ""  # digest of the store's parts
    estimator: JsonObject | None = None  # what estimated the depth; None: not known

    def __post_init__(self) -> None:
        fulfilled(
            0 <= self.weight < math.inf,
            f"the weight {self.weight} of {self.name} is not a positive number",
            "2 draws a frame of this data set twice as often as one of weight 1",
        )


class _ByNumber(Sequence[Clip]):
    """Clips that are made when they are asked for."""

    @overload
    def __getitem__(self, number: int) -> Clip: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Clip]: ...

    def __getitem__(self, number: int | slice) -> Clip | Sequence[Clip]:
        numbers = range(len(self))[number]
        return self._clip(numbers) if isinstance(numbers, int) else list(map(self._clip, numbers))

    @abstractmethod
    def _clip(self, number: int) -> Clip: ...


class StoredClips(_ByNumber[StoredDepth]):
    """All clips of a DepthStore for some cameras, ordered by episode, then camera, without those of
    cameras that an episode does not have. A clip takes memory only while it is in use."""

    def __init__(
        self, store: DepthStore, cameras: Sequence[str], parts: Sequence[str] | None = None
    ) -> None:
        self.store, self.cameras = store, tuple(cameras)
        self._columns = [store.require_camera(name) for name in self.cameras]
        self._parts = [store.part(name) for name in (store.part_names if parts is None else parts)]
        self._present = [self._numbers(part) for part in self._parts]
        counts = [
            len(part.frames) * len(self.cameras) if numbers is None else len(numbers)
            for part, numbers in zip(self._parts, self._present, strict=True)
        ]
        self.absent = sum(len(p.frames) for p in self._parts) * len(self.cameras) - sum(counts)
        """How many clips are left out, because an episode does not have the camera."""
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._open: tuple[int, np.ndarray] | None = None  # part, its quantiles

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _clip(self, number: int) -> StoredDepth:
        index = int(np.searchsorted(self._ends, number, side="right"))
        part = self._parts[index]
        number -= int(self._ends[index - 1]) if index else 0
        if (present := self._present[index]) is not None:
            number = int(present[number])
        row, camera = divmod(number, len(self.cameras))
        key, name = part.shard.episode(int(part.indices[row])), self.cameras[camera]
        start, frames = int(part.starts[row]), int(part.frames[row])
        quantiles = self._quantiles(index, part)[row, self._columns[camera]]
        return StoredDepth(self.store, part, key, name, start, frames, tuple(quantiles.tolist()))

    @cached_property
    def lengths(self) -> Integer[np.ndarray, " n"]:
        """The number of frames of every clip."""
        columns = [
            np.repeat(part.frames, len(self.cameras))[slice(None) if numbers is None else numbers]
            for part, numbers in zip(self._parts, self._present, strict=True)
        ]
        return np.concatenate(columns).astype(np.int32) if columns else np.empty(0, np.int32)

    def _numbers(self, part: Part) -> np.ndarray | None:
        """Which of the part's clips there are, where some are not: episode by camera, in order."""
        absent = [part.absent.get(name, ()) for name in self.cameras]
        if not any(absent):
            return None
        return np.flatnonzero(np.stack([~np.isin(part.indices, a) for a in absent], axis=1))

    def _quantiles(self, index: int, part: Part) -> np.ndarray:
        if self._open is None or self._open[0] != index:
            self._open = index, part.map("quantiles")
        return self._open[1]


class Picked(_ByNumber[DepthSequence]):
    """A subset of clips, by index."""

    def __init__(self, clips: Sequence[DepthSequence], numbers: Integer[np.ndarray, " n"]) -> None:
        self._clips, self._numbers = clips, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def _clip(self, number: int) -> DepthSequence:
        return self._clips[int(self._numbers[number])]

    @cached_property
    def lengths(self) -> Integer[np.ndarray, " n"]:
        """The number of frames of every clip."""
        return lengths_of(self._clips)[self._numbers]


def lengths_of(clips: Sequence[DepthSequence]) -> Integer[np.ndarray, " n"]:
    """The number of frames of every clip."""
    if isinstance(clips, StoredClips | Picked):
        return clips.lengths
    return np.array([clip.frames for clip in clips], np.int32)


def where(source: ClipSource, chosen: Bool[np.ndarray, " n"] | Iterable[bool]) -> ClipSource:
    """The source restricted to the clips for which `chosen` is true."""
    marks = np.fromiter(chosen, bool, len(source.clips))
    numbers = np.flatnonzero(marks).astype(np.int32)
    return replace(source, clips=Picked(source.clips, numbers))


def spread(clips: Sequence[DepthSequence], number: int) -> Sequence[DepthSequence]:
    """At most `number` clips, evenly spread; 0: all."""
    return spread_over([ClipSource("", "", clips)], number)[0].clips


def spread_over(sources: Sequence[ClipSource], number: int) -> list[ClipSource]:
    """The sources with at most `number` clips in all, evenly spread over them; 0: all."""
    ends = np.cumsum([0] + [len(source.clips) for source in sources])
    if not number or number >= ends[-1]:
        return list(sources)
    chosen = np.linspace(0, ends[-1] - 1, number).astype(np.int64)
    picked = []
    for source, start, stop in zip(sources, ends[:-1], ends[1:], strict=True):
        numbers = chosen[(chosen >= start) & (chosen < stop)] - start
        picked.append(replace(source, clips=Picked(source.clips, numbers)))
    return picked
