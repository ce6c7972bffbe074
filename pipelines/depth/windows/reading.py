"""Clips to jobs: the frames of every window, optionally read ahead by threads.

What is read ahead is bounded by bytes. Large frames become the network's input one by one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from depthtok.data import FrameClip
from depthtok.disk.bounds import together
from depthtok.errors import SourceError
from pipelines.depth.vida.preprocess import network_size, preprocess
from pipelines.depth.vida.runner import WindowInput
from pipelines.depth.windows.plan import STEP, Window, plan

T = TypeVar("T")
Shape = tuple[int, ...]
AHEAD = 8  # windows per reading thread at most
AHEAD_BYTES = 2 << 30  # of frames read ahead


@dataclass(frozen=True)
class ClipFailure:
    """A clip that cannot be continued, and why."""

    clip: int
    reason: str


@dataclass(frozen=True)
class WindowRead:
    """A window to be read; no window for a clip without frames. `pixels` of a frame: None where
    that is not known before it is read."""

    clip: int
    source: FrameClip
    window: Window | None
    pixels: int | None = None


@dataclass(frozen=True)
class Prepared:
    """Large frames as the network's input, float32 [n, 3, h, w], and what shape they had."""

    inputs: torch.Tensor
    shape: Shape


Frames = np.ndarray | Prepared


def read_jobs(
    clips: Iterable[FrameClip],
    *,
    align: bool,
    input_size: int,
    readers: int,
    largest_whole: int,
    waited: Callable[[float], None] = lambda seconds: None,
) -> Iterator[WindowInput | ClipFailure]:
    """The windows of all clips in order, with their frames. A failure is the last item of its clip.

    With `readers` > 0, that many threads call the clips' `read`. Frames of more than
    `largest_whole` pixels are prepared as they are read. `waited` is called with the seconds in
    which no window was available. A `SourceError` of reading is not raised, but given as a failure.
    """
    failed = -1
    shape: Shape = ()  # of the clip's frames
    read = partial(_read, input_size=input_size, largest_whole=largest_whole)
    for task, frames in _timed(_read_ahead(_tasks(clips, align, readers), readers, read), waited):
        if task.clip == failed:
            continue
        try:
            if isinstance(frames, SourceError):
                raise frames
            if task.window is None:
                raise SourceError("the clip has no frames")
            if task.window.index == 0:
                shape = frames.shape if isinstance(frames, Prepared) else frames.shape[1:]
            job = _job(task.clip, task.window, frames, shape, input_size, largest_whole)
        except SourceError as error:  # its later windows are skipped
            failed = task.clip
            yield ClipFailure(task.clip, error.problem)
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


def _tasks(clips: Iterable[FrameClip], align: bool, readers: int) -> Iterator[WindowRead]:
    for number, clip in enumerate(clips):
        if len(clip) == 0:
            yield WindowRead(number, clip, None)
            continue
        pixels = _stated_pixels(clip)
        if pixels is None and readers:  # to know how much can be read ahead
            with suppress(SourceError):  # said where the window is read
                pixels = int(np.prod(clip.read(0, 1).shape[1:3]))
        for window in plan(len(clip), align=align):
            yield WindowRead(number, clip, window, pixels)


def _stated_pixels(clip: FrameClip) -> int | None:
    """Pixels of a frame, where the data set states a size; some clips only name their camera."""
    height, width = (getattr(clip.camera, side, None) for side in ("height", "width"))
    return height * width if height and width else None


def _read_ahead(
    tasks: Iterator[WindowRead], readers: int, read: Callable[[WindowRead], Frames | SourceError]
) -> Iterator[tuple[WindowRead, Frames | SourceError]]:
    if readers == 0:
        yield from ((task, read(task)) for task in tasks)
        return
    pool = ThreadPoolExecutor(readers)
    waiting: deque[tuple[WindowRead, Future[Frames | SourceError]]] = deque()
    try:
        for task in tasks:
            size = 3 * STEP * (task.pixels or 0)
            while len(waiting) >= together(size, AHEAD * readers + 1, AHEAD_BYTES):
                first, future = waiting.popleft()
                yield first, future.result()
            waiting.append((task, pool.submit(read, task)))
        for task, future in waiting:
            yield task, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(task: WindowRead, input_size: int, largest_whole: int) -> Frames | SourceError:
    if task.window is None:
        return np.empty((0,), np.uint8)
    start, stop = task.window.fresh
    try:
        if stop <= start:
            return np.empty((0,), np.uint8)
        if task.pixels is not None and task.pixels <= largest_whole:
            return task.source.read(start, stop)
        frame = task.source.read(start, start + 1)
        if np.prod(frame.shape[1:3]) <= largest_whole:
            return _joined(frame, task.source, start + 1, stop)
        return _prepared(frame, task.source, start, stop, input_size)
    except SourceError as error:
        return error


def _joined(frame: np.ndarray, source: FrameClip, start: int, stop: int) -> np.ndarray:
    """A frame, and after it those from `start` to `stop`."""
    if start == stop:
        return frame
    frames = source.read(start, stop)
    if frames.shape[1:] != frame.shape[1:]:
        raise _sizes_differ(start, frame, frames)
    return np.concatenate((frame, frames))


def _prepared(
    frame: np.ndarray, source: FrameClip, start: int, stop: int, input_size: int
) -> Prepared:
    """Frames `start`, which is read, to `stop`, one by one as the network's input."""
    shape, inputs = frame.shape[1:], []
    for step in range(start, stop):
        if step > start:
            frame = source.read(step, step + 1)
        if frame.shape[1:] != shape or frame.dtype != np.uint8 or shape[2:] != (3,):
            raise _sizes_differ(step, np.empty((1, *shape), np.uint8), frame)
        size = network_size(shape[0], shape[1], input_size)
        inputs.append(preprocess(torch.from_numpy(np.ascontiguousarray(frame)), size))
        del frame  # or two are in memory while the next one is read
    return Prepared(torch.cat(inputs), shape)


def _sizes_differ(step: int, expected: np.ndarray, frame: np.ndarray) -> SourceError:
    return SourceError(
        f"frame {step} is {frame.dtype} {list(frame.shape[1:])}; expected uint8 "
        f"{list(expected.shape[1:])}, one size in a clip"
    )


def _job(
    clip: int, window: Window, frames: Frames, shape: Shape, input_size: int, largest_whole: int
) -> WindowInput:
    """Builds a job; checks `frames`, because they come from outside."""
    start, stop = window.fresh
    count = stop - start
    if isinstance(frames, Prepared):
        fits = frames.shape == shape
        described = f"uint8 {[count, *frames.shape]}"
    else:
        if not len(frames):  # a last window may bring no new frame
            frames = frames.reshape(0, *shape)
        fits = frames.dtype == np.uint8 and frames.shape == (count, *shape) and shape[2:] == (3,)
        described = f"{frames.dtype} {list(frames.shape)}"
    if not fits:
        raise SourceError(
            f"frames {start} to {stop} are {described}; "
            f"expected uint8 [{count}, height, width, 3], one size in a clip"
        )
    size = network_size(shape[0], shape[1], input_size)
    if isinstance(frames, Prepared):
        pixels = frames.inputs
    elif count == 0 and shape[0] * shape[1] > largest_whole:
        pixels = torch.empty((0, 3, *size))
    else:
        pixels = torch.from_numpy(np.ascontiguousarray(frames))
    return WindowInput(clip, window, pixels, size, (shape[0], shape[1]))
