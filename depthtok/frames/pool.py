"""Readers that stay open between calls, each used by one thread at a time."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import Generic, Protocol, TypeVar, runtime_checkable

OPEN = 8


@runtime_checkable
class Reader(Protocol):
    """Reads one file forwards; `position` is how far it is."""

    @property
    def path(self) -> Path: ...

    @property
    def position(self) -> float: ...

    def close(self) -> None: ...


R = TypeVar("R", bound=Reader)


class Pool(Generic[R]):
    """Readers made by `opened`; at most `OPEN` stay open while nobody uses them, and no longer than
    the pool."""

    def __init__(self, opened: Callable[[Path], R]) -> None:
        self._opened = opened
        self.idle: deque[R] = deque()
        self._lock = Lock()
        weakref.finalize(self, _close, self.idle).atexit = False

    def take(self, path: Path, position: float) -> R:
        """A reader of a file that nobody uses: of several the nearest before `position`."""
        with self._lock:
            idle = [reader for reader in self.idle if reader.path == path]
            if idle:
                before = [reader for reader in idle if reader.position < position]
                nearest = max(before or idle, key=lambda reader: reader.position)
                self.idle.remove(nearest)
                return nearest
        return self._opened(path)

    def give_back(self, reader: R | None) -> None:
        """Keeps a reader for later; None is nothing."""
        if reader is None:
            return
        with self._lock:
            self.idle.append(reader)
            surplus = self.idle.popleft() if len(self.idle) > OPEN else None
        if surplus:
            surplus.close()


def _close(readers: Iterable[Reader]) -> None:
    for reader in readers:
        reader.close()
