"""One object as a file to read: from its beginning to its end, ahead of the reader, or here and
there. All of it has the etag that it had when it was opened."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from depthtok.remote.location import Location

NEARBY = 1 << 16  # bytes: less than this, elsewhere than where the stream is, is a request alone


class Stream:
    """An object of `size` bytes. `read` may ask for bytes in any order; those that follow each
    other are fetched ahead, `Limits.in_flight` requests of `Limits.stream_bytes` at a time."""

    def __init__(self, location: Location, pool: ThreadPoolExecutor, *, scattered: bool) -> None:
        described = location.describe()
        self.location, self.size, self.etag = location, described.size, described.etag
        self._block, self._ahead = location.limits.stream_bytes, location.limits.in_flight
        self._pool, self._scattered = pool, scattered
        self._blocks: dict[int, Future[memoryview]] = {}

    def read(self, length: int, offset: int) -> bytes:
        """The bytes from `offset` on, fewer only where the object ends. Raises
        `SourceUnavailable`."""
        stop = min(offset + length, self.size)
        if stop <= offset:
            return b""
        if self._scattered and stop - offset < NEARBY:
            return self.location.read_range(offset, stop, self.etag)
        first, last = offset // self._block, (stop - 1) // self._block
        pieces = [self._piece(number, offset, stop) for number in range(first, last + 1)]
        return b"".join(pieces)

    def _piece(self, number: int, start: int, stop: int) -> memoryview:
        """What block `number` has of the bytes from `start` to `stop`."""
        for passed in [block for block in self._blocks if block < number - 1]:
            self._blocks.pop(passed).cancel()
        for ahead in range(number, number + self._ahead):
            if ahead not in self._blocks and ahead * self._block < self.size:
                self._blocks[ahead] = self._pool.submit(self._fetch, ahead)
        first = number * self._block
        return self._blocks[number].result()[max(start - first, 0) : stop - first]

    def _fetch(self, number: int) -> memoryview:
        start = number * self._block
        return self.location.view_range(start, min(start + self._block, self.size), self.etag)


@contextmanager
def streaming(location: Location, *, scattered: bool = False) -> Iterator[Stream]:
    """The object, opened; `scattered`: a few bytes here and there will be read. Raises
    `SourceUnavailable`."""
    pool = ThreadPoolExecutor(location.limits.in_flight, "depthtok-stream")
    try:
        yield Stream(location, pool, scattered=scattered)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
