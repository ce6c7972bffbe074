"""Where in an EpisodeStore a column has its smallest or largest value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depthtok.data import EpisodeKey
from depthtok.stores.episodes import EpisodeStore


@dataclass(frozen=True)
class Extreme:
    """A value, and the episode and step that it is of."""

    value: float
    key: EpisodeKey
    step: int

    @property
    def where(self) -> str:
        """The episode and the step, for people."""
        return f"{self.key}, step {self.step}"

    def __str__(self) -> str:
        return f"{self.value:g} in {self.where}"


def find(store: EpisodeStore, table: str, column: int, end: str) -> Extreme:
    """The first smallest (`min`) or largest (`max`) value of a column of `action` or `proprio`.

    Reads that table once.
    """
    extreme: tuple[float, str, int] | None = None
    for part in store.parts():
        values = part.map(table)[:, column]
        if not len(values):
            continue
        row = int(values.argmin() if end == "min" else values.argmax())
        value = float(values[row])
        if extreme is None or (value < extreme[0] if end == "min" else value > extreme[0]):
            extreme = value, part.name, row
    assert extreme is not None, "a store without steps has no spike"
    value, name, row = extreme
    part = store.part(name)
    episode = int(np.searchsorted(part.starts, row, side="right")) - 1
    key = part.shard.episode(int(part.indices[episode]))
    return Extreme(value, key, row - int(part.starts[episode]))
