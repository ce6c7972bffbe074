"""Tables of what the columns of actions and states are, and how they are spread; no command
itself."""

from __future__ import annotations

from collections.abc import Sequence

from depthtok.meaning import UNKNOWN, Column, Meaning
from depthtok.stores.agreement import among
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.extremes import find
from depthtok.stores.spread import Spread
from depthtok.stores.statistics import ColumnStatistics, Statistics, mixed_columns
from pipelines.inspect.facts import Tables

FIELDS = ("mean", "std", "min", "q01", "q99", "max")
TITLES = {"action": "Actions", "proprio": "States"}


def of_store(store: EpisodeStore, figures: Statistics) -> Tables:
    """Each column of actions and states, in the data set's own units, and what is unusual in it."""
    tables: Tables = {}
    for side, title in TITLES.items():
        columns = getattr(figures, side)
        rows = [
            (*row, _note(store, side, index, columns))
            for index, row in enumerate(_rows(getattr(store.meaning, side), columns))
        ]
        if rows:
            tables[title] = (("dimension", *FIELDS, "note"), rows)
    return tables


def _rows(names: Sequence[object], columns: ColumnStatistics) -> list[tuple]:
    values = zip(*(getattr(columns, field) for field in FIELDS), strict=True)
    return [
        (str(name), *(f"{value:.4g}" for value in row))
        for name, row in zip(names, values, strict=False)
    ]


def _note(store: EpisodeStore, side: str, index: int, columns: ColumnStatistics) -> str:
    """What is unusual in a column; of a spike, the episode."""
    spread = Spread.of(columns, index)
    if spread.spike is None:
        return spread.note
    return f"{spread.note} ({find(store, side, index, spread.spike).where})"


def of_mixture(stores: Sequence[EpisodeStore]) -> Tables:
    """What data sets do not agree in, and statistics of the columns that mean the same in all, with
    every step equally likely. Columns of other meaning are never merged."""
    meanings = {_name(stores, index): store.meaning for index, store in enumerate(stores)}
    tables: Tables = {}
    differ = among(meanings, (), state=True)
    if differ:
        rows = [(aspect, words) for aspect, words in differ.items()]
        tables["What differs (such columns are not merged)"] = (("aspect", "between"), rows)
    for side, title in TITLES.items():
        agreed = _agreed(list(meanings.values()), side)
        if not agreed:
            continue
        filled = [store for store in stores if store.steps]
        if not filled:
            continue
        parts = [_picked(store, side, [column.name for column in agreed]) for store in filled]
        merged = mixed_columns(parts, [store.steps for store in filled])
        rows = [
            (*row, Spread.of(merged, index).note) for index, row in enumerate(_rows(agreed, merged))
        ]
        tables[title] = (("dimension", *FIELDS, "note"), rows)
    return tables


def _name(stores: Sequence[EpisodeStore], index: int) -> str:
    """The data set's name, or the store's path where two are of one data set."""
    names = [store.dataset for store in stores]
    return names[index] if names.count(names[index]) == 1 else str(stores[index].path)


def _agreed(meanings: Sequence[Meaning], side: str) -> list[Column]:
    """The columns that all have, once, and that mean the same in all, as far as all say it: not a
    gripper of another convention, nor changes at another rate."""
    agreed = []
    for column in getattr(meanings[0], side):
        same = [[c for c in getattr(m, side) if c.name == column.name] for m in meanings]
        if any(len(columns) != 1 for columns in same):
            continue
        columns = [columns[0] for columns in same]
        aspects: list[Sequence[object]] = [
            [c.reference for c in columns],
            [c.unit for c in columns],
        ]
        if side == "action" and column.name.startswith("gripper"):
            aspects.append([m.gripper for m in meanings])
        if any(c.reference == "delta" for c in columns):
            aspects.append([m.fps for m in meanings])
        if all(len({*values} - {UNKNOWN, None}) < 2 for values in aspects):
            agreed.append(Column(column.name, *(_shared(values) for values in aspects[:2])))
    return agreed


def _shared(values: Sequence[object]) -> str:
    """What all say; unknown where one of them does not say it."""
    return str(values[0]) if len({*values}) == 1 else UNKNOWN


def _picked(store: EpisodeStore, side: str, names: Sequence[str]) -> ColumnStatistics:
    """The statistics of some columns, by name."""
    have = [column.name for column in getattr(store.meaning, side)]
    return getattr(store.statistics(), side).picked([have.index(name) for name in names])
