"""Clips to chunks of frames, prepared for a network; on a GPU by threads, a few chunks ahead.

A clip is cut from its first frame on, into chunks whose length depends on the size of its frames
alone: so the chunks are the same whichever other clips are estimated, and by whom.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from depthtok.data import FrameClip
from depthtok.disk.bounds import AT_ONCE, together
from depthtok.errors import SourceError

PIXEL = 32  # bytes that a pixel of a frame takes from its bytes to its depth


@dataclass(frozen=True)
class Chunk:
    """Some consecutive frames of a clip as a network takes them, or why they cannot be read."""

    clip: int
    source: FrameClip
    start: int
    frames: int
    inputs: Tensor | UInt8[np.ndarray, "n H W 3"] | None
    size: tuple[int, int]  # of the frames, px
    error: str = ""

    @property
    def last(self) -> bool:
        return bool(self.error) or self.start + self.frames == len(self.source)


@dataclass(frozen=True)
class _Task:
    clip: int
    source: FrameClip
    start: int
    stop: int
    error: str = ""


Prepare = Callable[[UInt8[np.ndarray, "n H W 3"]], Tensor | UInt8[np.ndarray, "n H W 3"]]


def chunks(
    clips: Iterable[FrameClip],
    prepare: Prepare,
    group: int,
    readers: int,
    waited: Callable[[float], None] = lambda seconds: None,
) -> Iterator[Chunk]:
    """All clips' frames in order, at most `group` in a chunk. A failure is its clip's last chunk.

    `waited` is called with the seconds in which no chunk was there.
    """
    failed, size = -1, (0, 0)
    stream = _ahead(_tasks(clips, group), partial(_chunk, prepare=prepare), readers)
    while True:
        started = time.monotonic()
        chunk = next(stream, None)
        waited(time.monotonic() - started)
        if chunk is None:
            return
        size = chunk.size if chunk.start == 0 else size
        if chunk.size != size and not chunk.error:
            reason = f"frame {chunk.start} is of {chunk.size} px, those before of {size}"
            chunk = replace(chunk, inputs=None, error=reason)
        if chunk.clip != failed:
            yield chunk
        failed = chunk.clip if chunk.error else failed


def _tasks(clips: Iterable[FrameClip], group: int) -> Iterator[_Task]:
    for number, clip in enumerate(clips):
        if not len(clip):
            yield _Task(number, clip, 0, 0, error="the clip has no frames")
            continue
        try:
            size = together(_pixels(clip) * PIXEL, group, AT_ONCE)
        except SourceError as error:
            yield _Task(number, clip, 0, 0, error=error.problem)
            continue
        for start in range(0, len(clip), size):
            yield _Task(number, clip, start, min(start + size, len(clip)))


def _pixels(clip: FrameClip) -> int:
    """Pixels of a frame, as the data set states them or the first one has them."""
    height, width = (getattr(clip.camera, side, None) for side in ("height", "width"))
    return height * width if height and width else int(np.prod(clip.read(0, 1).shape[1:3]))


def _ahead(tasks: Iterator[_Task], make: Callable[[_Task], Chunk], readers: int) -> Iterator[Chunk]:
    if not readers:
        yield from map(make, tasks)
        return
    with ThreadPoolExecutor(readers, thread_name_prefix="frames") as pool:
        coming: deque[Future[Chunk]] = deque()
        try:
            for task in tasks:
                coming.append(pool.submit(make, task))
                if len(coming) > readers + 1:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _chunk(task: _Task, prepare: Prepare) -> Chunk:
    position = task.clip, task.source, task.start, task.stop - task.start
    if task.error:
        return Chunk(*position, None, (0, 0), task.error)
    try:
        frames = task.source.read(task.start, task.stop)
        count = task.stop - task.start
        good = frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[::3] == (count, 3)
        if not good:
            raise SourceError(
                f"frames {task.start} to {task.stop} are {frames.dtype} {list(frames.shape)}; "
                f"expected uint8 [{count}, height, width, 3], one size in a clip"
            )
        return Chunk(*position, prepare(frames), (frames.shape[1], frames.shape[2]))
    except SourceError as error:
        return Chunk(*position, None, (0, 0), error.problem)
