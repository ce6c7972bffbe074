"""Which tables stay mapped. Every map holds an open file, whose number is limited by process, so
all stores of a process share one limit."""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, lru_cache
from threading import RLock
from typing import Protocol, runtime_checkable

import numpy as np

OTHERS = 512  # open files left to all else: images, weights, sockets, libraries
ENOUGH = 65_536


@runtime_checkable
class TableSource(Protocol):
    """What has tables: a part of a store."""

    def map(self, name: str) -> np.ndarray: ...


class Tables:
    """The `most` recently used tables by source and name. Threads may share it."""

    def __init__(self, most: int) -> None:
        # A store that is collected while its thread holds the lock drops its tables at once.
        self._most, self._lock = most, RLock()
        self._mapped: OrderedDict[tuple[TableSource, str], np.ndarray] = OrderedDict()

    def get(self, source: TableSource, name: str) -> np.ndarray:
        """The table, mapped if it is not. Views of one that gives way stay good."""
        key = (source, name)
        table = self._mapped.get(key)
        if table is not None:
            try:  # noqa: SIM105 (`suppress` would cost more than the look-up)
                self._mapped.move_to_end(key)
            except KeyError:  # it has just given way to another thread's
                pass
            return table
        table = source.map(name)
        with self._lock:
            self._mapped[key] = table
            while len(self._mapped) > self._most:
                self._mapped.popitem(last=False)
        return table

    def drop(self, sources: Iterable[TableSource]) -> None:
        """Unmaps all tables of these."""
        dropped = set(sources)
        with self._lock:
            for key in list(self._mapped):
                if key[0] in dropped:
                    self._mapped.pop(key, None)


@lru_cache(maxsize=1)
def tables(most: int) -> Tables:
    """Those of this process: at most `most`, and no more than it may open files."""
    limit = open_files()
    return Tables(max(1, min(most, max(limit - OTHERS, limit // 2))))


@cache
def open_files() -> int:
    """How many files this process may open, after raising the limit as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return soft if soft != resource.RLIM_INFINITY else most
    with suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
