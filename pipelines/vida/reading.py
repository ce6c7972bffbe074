"""Clips to jobs: the frames of every window, optionally read ahead by threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from depthtok.data import FrameClip
from depthtok.errors import SourceError
from pipelines.vida.plan import Window, plan
from pipelines.vida.preprocess import network_size
from pipelines.vida.runner import Job

T = TypeVar("T")
AHEAD = 8  # windows per reading thread


@dataclass(frozen=True)
class Failure:
    """A clip that cannot be continued, and why."""

    clip: int
    reason: str


@dataclass(frozen=True)
class Task:
    """A window to be read; no window for a clip without frames."""

    clip: int
    source: FrameClip
    window: Window | None


def read_jobs(
    clips: Iterable[FrameClip],
    *,
    align: bool,
    input_size: int,
    readers: int,
    waited: Callable[[float], None] = lambda seconds: None,
) -> Iterator[Job | Failure]:
    """The windows of all clips in order, with their frames. A failure is the last item of its clip.

    With `readers` > 0, that many threads call the clips' `read`. `waited` is called with the
    seconds in which no window was available.
    """
    failed, shape = -1, (0, 0, 0)
    for task, frames in _timed(_read_ahead(_tasks(clips, align), readers), waited):
        if task.clip == failed:
            continue
        try:
            if isinstance(frames, SourceError):
                raise frames
            first = task.window.index == 0
            shape = frames.shape[1:] if first else shape
            if not len(frames):  # a last window may bring no new frame
                frames = frames.reshape(0, *shape)
            job = _job(task, frames, shape, input_size)
        except SourceError as error:  # what else may come is not the clip's
            failed = task.clip
            yield Failure(task.clip, error.problem)
        else:
            yield job


def _timed(items: Iterator[T], waited: Callable[[float], None]) -> Iterator[T]:
    """The items; `waited` is called with the time that each took."""
    while True:
        started = time.monotonic()
        try:
            item = next(items)
        except StopIteration:
            return
        waited(time.monotonic() - started)
        yield item


def _tasks(clips: Iterable[FrameClip], align: bool) -> Iterator[Task]:
    for number, clip in enumerate(clips):
        if len(clip) == 0:
            yield Task(number, clip, None)
        else:
            yield from (Task(number, clip, window) for window in plan(len(clip), align=align))


def _read_ahead(
    tasks: Iterator[Task], readers: int
) -> Iterator[tuple[Task, np.ndarray | SourceError]]:
    if readers == 0:
        yield from ((task, _read(task)) for task in tasks)
        return
    pool = ThreadPoolExecutor(readers)
    waiting = deque()
    try:
        for task in tasks:
            waiting.append((task, pool.submit(_read, task)))
            if len(waiting) > AHEAD * readers:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(task: Task) -> np.ndarray | SourceError:
    if task.window is None:
        return SourceError("the clip has no frames")
    start, stop = task.window.fresh
    try:
        return task.source.read(start, stop) if stop > start else np.empty((0,), np.uint8)
    except SourceError as error:
        return error


def _job(task: Task, frames: np.ndarray, shape: tuple[int, ...], input_size: int) -> Job:
    """Builds a job; checks `frames`, because they come from outside."""
    start, stop = task.window.fresh
    if frames.dtype != np.uint8 or frames.shape != (stop - start, *shape) or shape[2:] != (3,):
        raise SourceError(
            f"frames {start} to {stop} are {frames.dtype} {list(frames.shape)}; "
            f"expected uint8 [{stop - start}, height, width, 3], one size in a clip"
        )
    size = network_size(shape[0], shape[1], input_size)
    return Job(task.clip, task.window, torch.from_numpy(np.ascontiguousarray(frames)), size)
