"""Readers that stay open between calls, each used by one thread at a time."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Generic, Protocol, TypeVar, runtime_checkable

from depthtok.errors import SourceError, SourceUnavailable

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

    @contextmanager
    def in_turn(self) -> Iterator[Callable[[Path, float], R]]:
        """Gives a function from a file and a position in it to a reader of that file: the same one
        as long as the file is the same. After an error of the file a reader is not used again, as
        where it is then is not known."""
        readers: list[R] = []  # the one in use, if any

        def reader_of(path: Path, position: float) -> R:
            if not readers or readers[0].path != path:
                self.give_back(readers.pop() if readers else None)
                readers.append(self.take(path, position))
            return readers[0]

        try:
            yield reader_of
        except (SourceError, SourceUnavailable):
            if readers:
                readers.pop().close()
            raise
        finally:
            self.give_back(readers.pop() if readers else None)


def _close(readers: Iterable[Reader]) -> None:
    for reader in readers:
        reader.close()
