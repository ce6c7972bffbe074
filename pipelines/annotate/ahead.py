"""Read-ahead: the next frames are read while the current ones are processed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
from torch import Tensor

from depthtok.data import DepthClip
from depthtok.stores.depth import StoredDepth
from vqvae.codec import GROUP, Codec, FrameGroup, one_ahead

T = TypeVar("T")


def ahead(tasks: Iterable[Callable[[], T]], threads: int, most: int) -> Generator[Future[T]]:
    """The tasks in their order, run by threads, at most `most` before they are asked for."""
    with ThreadPoolExecutor(threads, thread_name_prefix="read-ahead") as pool:
        coming: deque[Future[T]] = deque()
        try:
            for task in tasks:
                coming.append(pool.submit(task))
                if len(coming) > most:
                    yield coming.popleft()
            while coming:
                yield coming.popleft()
        finally:
            for future in coming:
                future.cancel()


def disparity_blocks(clip: StoredDepth, read: int, size: int) -> Iterator[DepthClip]:
    """A clip as disparity, `size` frames at a time. A thread reads `read` frames (a multiple) per
    call, because calls to the store have overhead, and stays one read ahead.

    Errors from reading are raised here, in order.
    """
    reads = (
        partial(clip.stored, start, min(start + read, len(clip)))
        for start in range(0, len(clip), read)
    )
    for future in ahead(reads, 1, 1):
        yield from _disparity(clip, future.result(), size)


def _disparity(clip: StoredDepth, rows: np.ndarray, size: int) -> Iterator[DepthClip]:
    """Stored rows as disparity, `size` frames at a time: memory for more would be newly mapped each
    time, and its page faults cost more than the arithmetic."""
    for first in range(0, len(rows), size):
        yield clip.unpacked(rows[first : first + size]).to_disparity()


class CodesAhead:
    """The codes of many clips in their order, for a GPU: threads read and normalise, and a group is
    on its way to the GPU while it encodes the one before, whichever clips they belong to."""

    def __init__(
        self, codec: Codec, sticky: float, clips: Sequence[StoredDepth], readers: int
    ) -> None:
        self._codec, self._sticky = codec, sticky
        self._positions = [
            (clip, start)
            for clip in clips
            if not clip.absent
            for start in range(0, len(clip), codec.group)
        ]
        self._futures = ahead(
            (partial(self._read, *position) for position in self._positions), readers, 2 * readers
        )
        self._groups = one_ahead(self._begun())

    def codes(self, clip: StoredDepth) -> Iterator[np.ndarray]:
        """The codes of a clip, a group at a time. Clips come in order; some may be left out, or
        not read to their end. What went wrong with one is raised here."""
        previous = None
        for start in range(0, len(clip), self._codec.group):
            position, group = next(self._groups)
            while position != (id(clip), start):  # of a clip that failed
                position, group = next(self._groups)
            if isinstance(group, BaseException):
                raise group
            codes = group.codes(self._sticky, previous)[: len(clip) - start]
            previous = codes[-1]
            yield codes

    def close(self) -> None:
        """Ends the threads."""
        self._groups.close()
        self._futures.close()

    def _read(self, clip: StoredDepth, start: int) -> Tensor:
        span = self._codec.codebook.normalisation.range_of(clip.disparity_quantiles)
        rows = clip.stored(start, min(start + self._codec.group, len(clip)))
        return self._codec.staged(_disparity(clip, rows, GROUP), span, start)

    def _begun(self) -> Iterator[tuple[tuple[int, int], FrameGroup | BaseException]]:
        for (clip, start), future in zip(self._positions, self._futures, strict=True):
            error = future.exception()
            group = error or self._codec.begin(future.result(), sticky=self._sticky > 0)
            yield (id(clip), start), group
