"""What an EpisodeStore holds, counted in one pass over its tables, a part at a time: histograms of
every column, and what repeats. No frame is decoded: two are equal where their bytes are, by length
and CRC32C. Beside the counts, 8 bytes an episode are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Integer, UInt64

from depthtok.frames.kinds import SPANS
from depthtok.progress import progress
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.parts import Part
from depthtok.stores.statistics import ColumnStatistics, Statistics

BINS = 40
SIDES = ("action", "proprio")


@dataclass
class ColumnCounts:
    """The histogram of a column, and how many steps lie exactly at its smallest and its largest
    value; `not_finite` ones are in neither."""

    edges: Float[np.ndarray, " edges"]
    counts: Int64[np.ndarray, " bins"]
    at_low: int = 0
    at_high: int = 0
    not_finite: int = 0

    @classmethod
    def between(cls, low: float, high: float) -> ColumnCounts:
        """No counts yet, with the edges that numpy takes for values from `low` to `high`."""
        ends = np.array([low, high]) if np.isfinite([low, high]).all() else np.zeros(1)
        edges = np.histogram_bin_edges(ends, BINS)
        return cls(edges, np.zeros(BINS, np.int64))

    def add(self, values: Float32[np.ndarray, " N"], low: float, high: float) -> None:
        """Counts values between the column's ends."""
        finite = values[np.isfinite(values)]
        self.counts += np.histogram(finite, self.edges)[0]
        self.at_low += int((finite == low).sum())
        self.at_high += int((finite == high).sum())
        self.not_finite += len(values) - len(finite)


@dataclass
class Repeats:
    """Frames of a camera that are the same bytes as the frame before, by episode number."""

    frames: int = 0
    repeated: int = 0
    frozen: list[int] = field(default_factory=list)  # episodes in which every frame is the first
    frozen_count: int = 0


@dataclass
class Survey:
    """What was counted. Episodes are numbered in the store's order; of lists of them, the first few
    are kept, and how many there are."""

    statistics: Statistics
    columns: dict[str, list[ColumnCounts]]
    still: list[int] = field(default_factory=list)  # episodes whose motion never changes
    still_count: int = 0
    cameras: dict[str, Repeats] = field(default_factory=dict)
    not_compared: list[str] = field(default_factory=list)  # cameras whose frames have no CRC32C
    copies: Sequence[tuple[int, int]] = ()  # episodes with the actions and states of an earlier one
    copies_count: int = 0


KEPT = 5  # episodes of a list


def survey(store: EpisodeStore) -> Survey:
    """Counts a store."""
    statistics = store.statistics()
    counted = Survey(statistics, {side: _columns(getattr(statistics, side)) for side in SIDES})
    views = [(n, v.camera) for n, v in enumerate(store.views) if v.kind == "rgb"]
    compared = {c: n for n, c in views if store.views[n].frames_by.name == SPANS}
    counted.not_compared = [camera for _, camera in views if camera not in compared]
    counted.cameras = {camera: Repeats() for camera in compared}
    motion = [n for n in range(store.action_dim) if n not in store.gripper]
    marks, first = [np.zeros(0, np.uint64)], 0
    for part in _shown(store):
        tables = {side: part.map(side)[: int(part.frames.sum())] for side in SIDES}
        for side, table in tables.items():
            figures = getattr(statistics, side)
            for number, column in enumerate(counted.columns[side]):
                column.add(table[:, number], figures.min[number], figures.max[number])
        if motion:
            still = _never(_changes(tables["action"][:, motion]), part)
            counted.still_count += int(still.sum())
            counted.still += _numbers(still, first, counted.still)
        for camera, view in compared.items():
            _count_repeats(counted.cameras[camera], part, part.map("images")[:, view], first)
        marks.append(_marks(part, [table for table in tables.values() if table.shape[1]]))
        first += len(part.frames)
    _find_copies(counted, np.concatenate(marks))
    return counted


def _shown(store: EpisodeStore) -> Iterator[Part]:
    """The parts with episodes; how far they are is shown on a terminal."""
    label = f"report {store.path}"
    with progress(len(store.part_names), "parts", label, plain=False) as bar:
        for part in store.parts():
            if len(part.frames):
                yield part
            bar.advance()


def _columns(figures: ColumnStatistics) -> list[ColumnCounts]:
    return [ColumnCounts.between(*ends) for ends in zip(figures.min, figures.max, strict=True)]


def _changes(rows: np.ndarray) -> Bool[np.ndarray, " N"]:
    """Which rows differ from the one before; the first does not."""
    differ = np.zeros(len(rows), bool)
    differ[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return differ


def _never(differ: Bool[np.ndarray, " N"], part: Part) -> Bool[np.ndarray, " E"]:
    """Which episodes of a part have several steps, none of which differs from the one before."""
    before = np.concatenate([[0], np.cumsum(differ)])
    starts = part.starts
    inside = before[starts + part.frames] - before[np.minimum(starts + 1, len(differ))]
    return (inside == 0) & (part.frames > 1)


def _numbers(which: Bool[np.ndarray, " E"], first: int, so_far: Sequence[int]) -> list[int]:
    """The numbers of some episodes of a part, as many as are still to be kept."""
    return (first + np.flatnonzero(which)[: KEPT - len(so_far)]).tolist()


def _count_repeats(
    repeats: Repeats, part: Part, spans: Integer[np.ndarray, "N 4"], first: int
) -> None:
    differ = _changes(spans[: int(part.frames.sum()), 2:])  # length and CRC32C
    differ[part.starts[part.frames > 0]] = True
    repeats.frames += len(differ)
    repeats.repeated += int((~differ).sum())
    frozen = _never(differ, part)
    repeats.frozen_count += int(frozen.sum())
    repeats.frozen += _numbers(frozen, first, repeats.frozen)


def _marks(part: Part, tables: Sequence[np.ndarray]) -> UInt64[np.ndarray, " E"]:
    """A hash of the actions and states of every episode; 0 where there is nothing to compare."""
    marks = np.zeros(len(part.frames), np.uint64)
    for row, (start, frames) in enumerate(zip(part.starts, part.frames, strict=True)):
        if frames > 1 and tables:
            content = b"".join(table[start : start + frames].tobytes() for table in tables)
            mark = hashlib.blake2b(content, digest_size=8).digest()
            marks[row] = np.frombuffer(mark, np.uint64)[0]
    return marks


def _find_copies(counted: Survey, marks: UInt64[np.ndarray, " E"]) -> None:
    """Notes which episodes equal an earlier one."""
    _, first, inverse = np.unique(marks, return_index=True, return_inverse=True)
    original = first[inverse]
    copies = np.flatnonzero((original != np.arange(len(marks))) & (marks != 0))
    counted.copies_count = len(copies)
    counted.copies = [(int(number), int(original[number])) for number in copies[:KEPT]]
