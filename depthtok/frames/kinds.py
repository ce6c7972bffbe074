"""What reads the frames of a view, and how an index says which: a name, a version, settings.

A row of the index is four uint32. What they are is a matter of the kind: see the file of each. New
kinds are a file here and a line in `registry.py`; stores of the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt32

from depthtok.disk.images import ImageFiles
from depthtok.errors import CorruptRecord, SourceError
from depthtok.json_values import JsonObject, value_of
from depthtok.sources.pixels import PixelFormat

Rows = UInt32[np.ndarray, "n 4"]
SPANS = "spans"


@dataclass(frozen=True)
class FrameKind:
    """Which kind of frame source reads a view. `needs` is the first depthtok that has it."""

    name: str = SPANS
    version: int = 1
    needs: str = ""
    settings: JsonObject = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """A plain dictionary."""
        settings = {"settings": dict(self.settings)} if self.settings else {}
        return {"kind": self.name, "version": self.version, "needs": self.needs, **settings}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> FrameKind:
        """The inverse of `to_json`. Raises `TypeError` and `KeyError`."""
        settings = value_of(data, "settings", dict) if "settings" in data else {}
        name, needs = value_of(data, "kind", str), value_of(data, "needs", str)
        return cls(name, value_of(data, "version", int), needs, settings)


@runtime_checkable
class Pixels(Protocol):
    """What a source must know of a view: how one frame is decoded from its bytes."""

    @property
    def format(self) -> PixelFormat: ...

    @property
    def frames_by(self) -> FrameKind: ...

    @property
    def channels(self) -> str: ...

    def decode(self, data: bytes) -> np.ndarray: ...


@runtime_checkable
class FrameSource(Protocol):
    """Reads the frames of one view. `files` are those of the part, by the numbers in its rows.
    Threads may share it."""

    def frames(self, files: Sequence[Path], rows: Rows) -> Iterator[np.ndarray]:
        """The frames [H, W, C] of these rows, in the order of the rows. Raises `CorruptRecord` for
        bytes that are not those that were indexed, and `SourceUnavailable`."""
        ...

    def check(self, files: Sequence[Path], rows: Rows) -> Iterator[SourceError]:
        """What is wrong with the bytes of these rows, without decoding them. Raises
        `SourceUnavailable`."""
        ...


Maker = Callable[[Pixels, ImageFiles], FrameSource]
"""Makes the source of a view; spans are read through the `ImageFiles` of its store."""


def one_by_one(
    checked: Callable[[Sequence[Path], Rows], Iterator[object]], files: Sequence[Path], rows: Rows
) -> Iterator[SourceError]:
    """What is wrong with each of these rows, by what `checked` raises as it reads it. Raises
    `SourceUnavailable`."""
    for row in range(len(rows)):
        try:
            list(checked(files, rows[row : row + 1]))
        except CorruptRecord as error:
            yield error


def file_numbers(rows: Rows) -> UInt32[np.ndarray, " n"]:
    """The number of each row's file, of the kinds that keep it above the 8 low bits of the second
    column."""
    return rows[:, 1] >> 8


def positions(rows: Rows) -> list[int]:
    """The 40 bits below that number: where in its file each frame is."""
    low, high = rows[:, 0].astype(np.uint64), (rows[:, 1] & 0xFF).astype(np.uint64)
    return (low | high << np.uint64(32)).tolist()
