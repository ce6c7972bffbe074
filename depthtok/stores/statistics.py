"""Statistics of actions and proprioception, for normalisation.

Mean and standard deviation come from one streaming pass, quantiles are exact order statistics found
by counting 16 bits at a time: memory does not grow with the data, and the result does not depend on
how the data are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from depthtok.errors import as_type

Block = Float32[np.ndarray, "n D"]
Blocks = Callable[[], Iterable[Block]]
ROWS = 1 << 16  # rows summed together


@dataclass(frozen=True)
class ColumnStatistics:
    """Statistics of D columns; each field but `count` has D numbers, in the columns' own units."""

    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...]
    q99: tuple[float, ...]

    def picked(self, places: Sequence[int]) -> ColumnStatistics:
        """Some of the columns, in this order."""
        fields = (getattr(self, name) for name in ("mean", "std", "min", "max", "q01", "q99"))
        return ColumnStatistics(
            self.count, *(tuple(values[p] for p in places) for values in fields)
        )


@dataclass(frozen=True)
class Statistics:
    """Statistics of a data set, or of a mixture of data sets."""

    action: ColumnStatistics
    proprio: ColumnStatistics
    episodes: int
    steps: int

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Statistics:
        """The inverse of `to_json`."""
        action, proprio = (_columns(data[name]) for name in ("action", "proprio"))
        for columns in (action, proprio):
            for name in ("mean", "std", "min", "max", "q01", "q99"):
                np.asarray(getattr(columns, name), np.float64).reshape(len(columns.mean))
            as_type(int, columns.count)
        return cls(action, proprio, as_type(int, data["episodes"]), as_type(int, data["steps"]))


def _columns(data: Mapping[str, Any]) -> ColumnStatistics:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return ColumnStatistics(**fields)


def of_columns(blocks: Blocks) -> ColumnStatistics:
    """Statistics over the rows of all blocks; `blocks` is called twice and must repeat itself."""
    count, coarse = 0, np.zeros((), np.int64)
    mean, squares, low, high = (np.array(start) for start in (0.0, 0.0, np.inf, -np.inf))
    for block in _recut(blocks()):
        rows = block.astype(np.float64)
        # Chan's merge of two sets: exact sums of squares without cancellation.
        gap, total = rows.mean(0) - mean, count + len(rows)
        squares = squares + ((rows - rows.mean(0)) ** 2).sum(0) + gap**2 * count * len(rows) / total
        mean, count = mean + gap * len(rows) / total, total
        low, high = np.minimum(low, rows.min(0)), np.maximum(high, rows.max(0))
        coarse = coarse + _count(_sortable(block) >> 16)
    if count == 0:
        return ColumnStatistics(0, (), (), (), (), (), ())
    q01, q99 = _quantiles(blocks, coarse, count, (0.01, 0.99))
    as_floats = (
        tuple(map(float, x)) for x in (mean, np.sqrt(squares / count), low, high, q01, q99)
    )
    return ColumnStatistics(count, *as_floats)


def quantiles(blocks: Blocks, shares: Sequence[float]) -> list[Float64[np.ndarray, " D"]]:
    """Exact quantiles of the columns over the rows of all blocks, at each of the shares; `blocks`
    is called twice and must repeat itself."""
    count, coarse = 0, np.zeros((), np.int64)
    for block in _recut(blocks()):
        count, coarse = count + len(block), coarse + _count(_sortable(block) >> 16)
    return _quantiles(blocks, coarse, count, shares)


def _recut(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same rows in blocks of `ROWS`, so that sums round the same however the data are cut."""
    pending: list[Block] = []
    rows = 0
    for block in blocks:
        for start in range(0, len(block), ROWS):
            pending.append(block[start : start + ROWS])
            rows += len(pending[-1])
            if rows >= ROWS:
                merged = np.concatenate(pending)
                yield merged[:ROWS]
                pending, rows = [merged[ROWS:]], rows - ROWS
    if rows:
        yield np.concatenate(pending)


def _quantiles(
    blocks: Blocks, coarse: Int64[np.ndarray, "D 65536"], count: int, shares: Sequence[float]
) -> list[Float64[np.ndarray, " D"]]:
    """Quantiles as numpy's default ("linear"): between the two nearest order statistics."""
    positions = [share * (count - 1) for share in shares]
    ranks = sorted({int(rank) for p in positions for rank in (np.floor(p), np.ceil(p))})
    below = np.cumsum(coarse, axis=1)
    high = {r: (below <= r).sum(1) for r in ranks}  # the upper 16 bits of the rank's value
    fine = dict.fromkeys(ranks, np.zeros((), np.int64))
    for block in _recut(blocks()):
        keys = _sortable(block)
        for r in ranks:
            inside = (keys >> 16) == high[r].astype(np.uint32)
            fine[r] = fine[r] + _count(keys & 0xFFFF, inside)
    values = {}
    for r in ranks:
        before = below[np.arange(len(below)), high[r]] - coarse[np.arange(len(below)), high[r]]
        low = (np.cumsum(fine[r], axis=1) <= (r - before)[:, None]).sum(1)
        values[r] = _unsortable((high[r] << 16 | low).astype(np.uint32)).astype(np.float64)
    return [
        values[int(np.floor(p))] * (1 - p % 1) + values[int(np.ceil(p))] * (p % 1)
        for p in positions
    ]


def _sortable(values: Float32[np.ndarray, "n D"]) -> np.ndarray:
    """Floats as unsigned integers of the same order."""
    bits = (np.ascontiguousarray(values, np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _unsortable(keys: np.ndarray) -> np.ndarray:
    return np.where(keys >> 31, keys & np.uint32(0x7FFFFFFF), ~keys).astype(np.uint32).view("f4")


def _count(keys: np.ndarray, inside: np.ndarray | None = None) -> Int64[np.ndarray, "D 65536"]:
    columns = (
        keys[:, d] if inside is None else keys[inside[:, d], d] for d in range(keys.shape[1])
    )
    counts = [np.bincount(column, minlength=1 << 16) for column in columns]
    return np.stack(counts) if counts else np.zeros((0, 1 << 16), np.int64)


def mixture(parts: Sequence[tuple[Statistics, float]]) -> Statistics:
    """Statistics of data sets drawn with the given weights.

    Mean and variance are exact; bounds and quantiles are the widest of the parts, so that none is
    clipped more than it would be alone.
    """
    weights = [weight for _, weight in parts]
    action, proprio = (
        mixed_columns([getattr(statistics, name) for statistics, _ in parts], weights)
        for name in ("action", "proprio")
    )
    episodes, steps = (sum(getattr(s, n) for s, _ in parts) for n in ("episodes", "steps"))
    return Statistics(action, proprio, episodes, steps)


def mixed_columns(
    columns: Sequence[ColumnStatistics], weights: Sequence[float]
) -> ColumnStatistics:
    """`mixture` of columns that mean the same."""
    shares = [weight / sum(weights) for weight in weights]
    of = {field: np.array([getattr(c, field) for c in columns]) for field in asdict(columns[0])}
    mean = np.average(of["mean"], axis=0, weights=shares)
    square = np.average(of["std"] ** 2 + of["mean"] ** 2, axis=0, weights=shares)
    low, q01 = of["min"].min(0), of["q01"].min(0)
    high, q99 = of["max"].max(0), of["q99"].max(0)
    std = np.sqrt(np.maximum(square - mean**2, 0))
    fields = (tuple(map(float, x)) for x in (mean, std, low, high, q01, q99))
    return ColumnStatistics(int(of["count"].sum()), *fields)
