"""Clips in, depth out: the clip algorithm of Video-Depth-Anything as a stream.

Windows are processed clip by clip, in order, and grouped into batches that may span clips. Memory
holds a batch or two, the ten frames that a window passes on, and a few depth maps: it does not
depend on the length of a clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from depthtok.data import DepthBlock, DepthClip, DepthKind, FrameClip
from pipelines.depth.vida.head import resize
from pipelines.depth.vida.runner import Runner, WindowInput
from pipelines.depth.windows.align import Stitcher
from pipelines.depth.windows.frame_by_frame import FrameStitcher
from pipelines.depth.windows.reading import ClipFailure, read_jobs

Result = Callable[[], DepthBlock]  # waits for the device


def estimate(runner: Runner, clips: Iterable[FrameClip]) -> Iterator[DepthBlock]:
    """Depth of all clips at their own resolution, block by block, clip by clip in order.

    A clip that cannot be read, or whose depth is not finite, ends with a block that says so.
    """
    kind = DepthKind.METRES if runner.config.metric else DepthKind.DISPARITY
    align = kind is DepthKind.DISPARITY
    items = read_jobs(
        clips,
        align=align,
        input_size=runner.input_size,
        readers=runner.readers,
        largest_whole=runner.largest_whole,
        waited=runner.note_wait,
    )
    batches = _launched(_batches(items, runner), runner, kind)
    failed = -1
    # On a GPU the next batch is launched before waiting for the results of the last one.
    for results in _delayed(batches, 0 if runner.device.type == "cpu" else 1):
        for result in results:
            block = result()
            if block.clip != failed:
                yield block
            if block.error:
                failed = block.clip


def _batches(
    items: Iterable[WindowInput | ClipFailure], runner: Runner
) -> Iterator[list[WindowInput] | ClipFailure]:
    """Batches of consecutive windows with frames of the same size, as large as the runner
    allows."""
    batch: list[WindowInput] = []
    for item in items:
        if batch and (isinstance(item, ClipFailure) or item.frame_size != batch[0].frame_size):
            yield batch
            batch = []
        if isinstance(item, ClipFailure):
            yield item
            continue
        batch.append(item)
        if len(batch) >= runner.batch_size(item):
            yield batch
            batch = []
    if batch:
        yield batch


def _launched(
    batches: Iterable[list[WindowInput] | ClipFailure], runner: Runner, kind: DepthKind
) -> Iterator[list[Result]]:
    stitcher: Stitcher | FrameStitcher
    for batch in batches:
        if isinstance(batch, ClipFailure):
            yield [partial(DepthBlock, batch.clip, error=batch.reason)]
            continue
        results: list[Result] = []
        for job, depth in zip(batch, runner.depth(batch), strict=True):
            if job.window.index == 0:
                make = FrameStitcher if job.prepared else Stitcher
                stitcher = make(align=kind is DepthKind.DISPARITY)
            if isinstance(stitcher, FrameStitcher):
                results.extend(_frame_by_frame(job, depth, stitcher, kind))
            else:
                results.append(_finish(job, depth, stitcher, kind))
        yield results


@torch.inference_mode()
def _finish(
    job: WindowInput, depth: Float[Tensor, "n h w"], stitcher: Stitcher, kind: DepthKind
) -> Result:
    """Resizes to the frame size, fits and blends; starts the copy to the host without waiting."""
    at_frame_size = resize(depth[:, None], job.frame_size)[:, 0]
    fetch = _to_host(stitcher.add(job.window, at_frame_size))
    return lambda: _block(job.clip, job.window.final[0], fetch(), kind)


@torch.inference_mode()
def _frame_by_frame(
    job: WindowInput, depth: Float[Tensor, "n h w"], stitcher: FrameStitcher, kind: DepthKind
) -> Iterator[Result]:
    """The same for large frames: each is resized and blended when its result is asked for."""
    for number, frame in enumerate(stitcher.add(job.window, depth, job.frame_size)):

        def result(number=job.window.final[0] + number, frame=frame) -> DepthBlock:
            with torch.inference_mode():
                return _block(job.clip, number, frame()[None].cpu().numpy(), kind)

        yield result


def _block(clip: int, first: int, values: np.ndarray, kind: DepthKind) -> DepthBlock:
    if not np.isfinite(values).all():
        reason = f"the network's depth is not finite, from frame {first} on"
        return DepthBlock(clip, error=reason)
    return DepthBlock(clip, depth=DepthClip.of(values, kind))


def _to_host(values: Float[Tensor, "n H W"]) -> Callable[[], np.ndarray]:
    if values.device.type != "cuda":
        return values.cpu().numpy
    host = values.to("cpu", non_blocking=True)  # into pinned memory
    copied = torch.cuda.current_stream(values.device).record_event()

    def fetch() -> np.ndarray:
        copied.synchronize()
        return host.numpy()

    return fetch


def _delayed(batches: Iterable[list[Result]], by: int) -> Iterator[list[Result]]:
    waiting: deque[list[Result]] = deque()
    for batch in batches:
        waiting.append(batch)
        if len(waiting) > by:
            yield waiting.popleft()
    yield from waiting
