"""The source of an action's or state's columns: a feature, selected columns, operations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from depthtok.errors import CorruptRecord, SchemaError, did_you_mean
from depthtok.meaning import REFERENCES, UNITS, UNKNOWN, Column
from depthtok.sources.features import values_in
from depthtok.sources.operations import Call
from depthtok.sources.table import SchemaTable


@runtime_checkable
class FeatureFacts(Protocol):
    """What schemas need to know about a feature."""

    @property
    def kind(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int | None, ...]: ...
    @property
    def encoding(self) -> str: ...  # of what is stored: "video", "png", "none", ...
    @property
    def per_step(self) -> bool: ...


@runtime_checkable
class ReadableEpisode(Protocol):
    """What schemas need from a raw episode."""

    @property
    def index(self) -> int: ...
    @property
    def features(self) -> Mapping[str, FeatureFacts]: ...
    def __len__(self) -> int: ...
    def values(self, path: str) -> np.ndarray: ...
    def texts(self, path: str) -> list[tuple[str, ...]]: ...


def feature(features: Mapping[str, FeatureFacts], key: str, where: str) -> FeatureFacts:
    """The feature at this path. Raises `SchemaError` naming `where` if there is none."""
    if key not in features:
        raise SchemaError(
            f"{where}: the data set has no feature {key!r}",
            remedy=did_you_mean(key, list(features)),
        )
    return features[key]


def number_kind(dtype: str) -> str:
    """numpy's letter for a dtype: "f" for floats, "u", "i" and "b" for integers and bool."""
    return "f" if dtype == "bfloat16" else np.dtype(dtype).kind  # which numpy does not know


def numbers_a_step(features: Mapping[str, FeatureFacts], key: str, where: str) -> int:
    """The number of values per step of a feature. Raises `SchemaError` if it is not numeric."""
    source = feature(features, key, where)
    if source.kind not in ("tensor", "scalar") or source.dtype in ("str", "object"):
        raise SchemaError(
            f"{where}: {key!r} is {source.kind} of {source.dtype}, not numbers",
            remedy="name a tensor or a scalar",
        )
    count = values_in(source.shape)
    if not source.per_step or count is None:
        raise SchemaError(
            f"{where}: {key!r} has no fixed number of values per step (shape {source.shape})",
            remedy="name a feature under steps/ of known shape",
        )
    return count


@dataclass(frozen=True)
class SchemaColumns:
    """Some columns of an action or a state: columns `take` of feature `path`, processed by `calls`.

    Without a path they are constant: `fill`. `dims` are their names; `references` and `units` say
    what they are after the operations (see `depthtok.meaning`): one for each of `dims`, or () where
    none is stated.
    """

    dims: tuple[str, ...]
    path: str | None = None
    take: str = ":"
    calls: tuple[Call, ...] = ()
    fill: float = 0.0
    references: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    @classmethod
    def parse(cls, table: SchemaTable) -> SchemaColumns:
        """Reads one `[[action]]` or `[[proprio]]` table. Raises `SchemaError`."""
        dims = table.texts("dims")
        if not dims:
            raise SchemaError(f"{table.where}: dims is empty", remedy="name each column")
        references = _words(table, "reference", REFERENCES, len(dims))
        units = _words(table, "unit", UNITS, len(dims))
        if "fill" in table.data:
            fill = table.take("fill", float)
            table.finish()
            if not np.isfinite(fill):
                raise SchemaError(f"{table.where}: fill = {fill}", remedy="give a finite number")
            return cls(dims, fill=fill, references=references, units=units)
        path, take = table.take("from", str), table.take("take", str, ":")
        calls = tuple(Call.parse(text, table.where) for text in table.texts("ops", []))
        table.asked.append("fill")
        table.finish()
        _ranges(take, table.where)
        return cls(dims, path, take, calls, references=references, units=units)

    def to_json(self) -> dict:
        """The table that `parse` reads."""
        stated = {"reference": list(self.references)} if self.references else {}
        stated |= {"unit": list(self.units)} if self.units else {}
        if self.path is None:
            return {"dims": list(self.dims), "fill": self.fill, **stated}
        ops = [str(call) for call in self.calls]
        table = {"dims": list(self.dims), "from": self.path, "take": self.take, "ops": ops}
        return {**table, **stated}

    @property
    def meaning(self) -> tuple[Column, ...]:
        """What each column is."""
        unknown = (UNKNOWN,) * len(self.dims)
        rows = zip(self.dims, self.references or unknown, self.units or unknown, strict=True)
        return tuple(Column(*row) for row in rows)

    def check(self, features: Mapping[str, FeatureFacts], where: str) -> None:
        """Raises `SchemaError` unless the feature exists, is numeric, per step, and wide enough."""
        if self.path is None:
            return
        location = f"{where} from {self.path!r}"
        stored_width = numbers_a_step(features, self.path, location)
        width = len(self.indices(stored_width, location))
        for call in self.calls:
            width = call.width(width, location)
        if width != len(self.dims):
            raise SchemaError(
                f"{location}: there are {width} columns, but dims names {len(self.dims)}",
                remedy="change `take` or `dims`",
            )

    def read(self, raw: ReadableEpisode, keep: slice = slice(None)) -> Float32[np.ndarray, "T n"]:
        """The columns of all steps. Raises `CorruptRecord` for numbers that are not finite in the
        steps of `keep`; those of the others are not looked at, and may be anything."""
        steps = len(raw)
        if self.path is None or steps == 0:
            return np.full((steps, len(self.dims)), self.fill, np.float32)
        stored = np.asarray(raw.values(self.path), np.float64).reshape(steps, -1)
        values = stored[:, self.indices(stored.shape[1], self.path)]
        values = self._finite(values, raw, keep, "the data have")
        with np.errstate(over="ignore", invalid="ignore"):  # the result is checked below
            for call in self.calls:
                values = call(values)
            values = np.asarray(values, np.float32)
        return self._finite(values, raw, keep, "the operations produce")

    def _finite(
        self, values: Float[np.ndarray, "T n"], raw: ReadableEpisode, keep: slice, what: str
    ) -> Float[np.ndarray, "T n"]:
        """The values, with NaN where those of steps outside `keep` are not finite. Raises
        `CorruptRecord` for one in `keep`; `what` begins the message."""
        finite = np.isfinite(values)
        if finite.all():
            return values
        bad_steps = ~finite.all(axis=1)
        steps = np.arange(len(values))[keep]
        if bad_steps[steps].any():
            raise CorruptRecord(
                f"episode {raw.index}, {self.path}, step {int(steps[bad_steps[steps].argmax()])}: "
                f"{what} a number that is not finite",
                remedy="the episode is left out; ask the data set's authors, fix the file, or drop "
                "the step with the schema's [keep]",
            )
        return np.where(finite, values, np.nan).astype(values.dtype)

    def motion(self, width: int) -> list[int]:
        """Indices of those of the feature's `width` columns that are not read as a gripper's."""
        indices = self.indices(width, str(self.path))
        if len(indices) != len(self.dims):  # an operation makes other columns: a rotation
            return indices
        pairs = zip(indices, self.dims, strict=True)
        return [index for index, dim in pairs if not dim.startswith("gripper")]

    def indices(self, width: int, where: str) -> list[int]:
        """The columns that `take` selects of `width`. Raises `SchemaError` where it cannot."""
        indices: list[int] = []
        for start, stop in _ranges(self.take, where):
            first = 0 if start is None else start + width * (start < 0)
            last = width if stop is None else stop + width * (stop < 0)
            if start is not None and start == stop:  # a single column
                last = first + 1
            if not 0 <= first < last <= width:
                raise SchemaError(
                    f"{where}: take = {self.take!r} does not fit {width} columns",
                    remedy=f"columns are 0 to {width - 1}; a range excludes its end",
                )
            indices += range(first, last)
        return indices


def _words(table: SchemaTable, name: str, choices: tuple[str, ...], width: int) -> tuple[str, ...]:
    """The field `name`, one of `choices` for each of `width` columns; () if all are unknown. In
    the table it may be one text for all of them. Raises `SchemaError`."""
    words = table.texts(name, [])
    for word in words:
        if word not in choices:
            raise SchemaError(
                f"{table.where}: {name} = {word!r} is not known",
                remedy=did_you_mean(word, list(choices)),
            )
    if isinstance(table.data.get(name), str):
        words *= width
    if words and len(words) != width:
        raise SchemaError(
            f"{table.where}: {len(words)} of {name} for {width} columns",
            remedy="give one for all columns, or one for each of `dims`",
        )
    return words if set(words) != {UNKNOWN} else ()


def _ranges(take: str, location: str) -> list[tuple[int | None, int | None]]:
    """`"0:3, 6"` as [(0, 3), (6, 6)]: a single column starts and stops at itself."""
    ranges = []
    for piece in take.split(","):
        match = re.fullmatch(r"(-?\d+)?(:)?(-?\d+)?", piece.strip())
        if match is None or not piece.strip() or (not match[2] and match[3] is not None):
            raise SchemaError(
                f"{location}: take = {take!r} cannot be parsed",
                remedy='write columns as "0:6", "6", "-1" or "0:3, 7:10"',
            )
        start, stop = (None if text is None else int(text) for text in (match[1], match[3]))
        if match[2] and start is not None and start == stop:
            raise SchemaError(
                f"{location}: take = {take!r} selects no columns", remedy="a range excludes its end"
            )
        ranges.append((start, stop if match[2] else start))
    return ranges
