"""Windows through the network, each distinct frame of a clip encoded once.

The encoder runs on groups of a window's new frames, the decoding part on groups of its depth maps,
the mixing part on one window. So depth depends on the clip alone: libraries sum in an order that
may change with the place of a row in a product, and a window's rows always have the same places.
(Groups that span windows are fuller. On an H200 vitl's depth then changed with the batch, in the
last bits.) Elsewhere than on a CPU, and compiled, groups are filled up: all have one shape.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from depthtok.disk.bounds import together
from depthtok.errors import ConfigError
from pipelines.depth.vida.compiling import compiled
from pipelines.depth.vida.config import PATCH, WINDOW, RunConfig
from pipelines.depth.vida.graphs import CudaRecorder, ShapedGraphs
from pipelines.depth.vida.halved import halved, require_close
from pipelines.depth.vida.head import Pyramid
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.packed import packed
from pipelines.depth.vida.preprocess import preprocess
from pipelines.depth.vida.uploads import Uploads
from pipelines.depth.windows.plan import STEP, Window
from vqvae.model.search import exact_float32

Output = TypeVar("Output")
log = logging.getLogger(__name__)

FULL_GRID = 37 * 37  # patches at 518 px
MOST_WINDOWS = 16  # launched at once on a GPU, before the results of the last ones are waited for
BATCH_BYTES = 6 << 30  # of a batch's frames on a GPU, and of their depth at the frames' size
PIXEL = 11  # bytes of a pixel there: three of colour, four of depth twice
LARGEST_WHOLE = {"cpu": 1 << 20}
"""Pixels of the largest frames of which windows are held whole, by the type of device. Larger ones
are resized one by one as they are read, and so is their depth as it is handed out."""
LARGEST_WHOLE_ELSEWHERE = 1 << 24


@dataclass(frozen=True)
class WindowInput:
    """One window of one clip, with the frames that no earlier window contained: as they are, uint8
    [n, H, W, 3], or, of large frames, as the network's input, float32 [n, 3, h, w]."""

    clip: int
    window: Window
    frames: Shaped[Tensor, "n ..."]
    size: tuple[int, int]  # size of the network's input, px
    frame_size: tuple[int, int]  # px

    @property
    def prepared(self) -> bool:
        """Whether the frames are the network's input."""
        return self.frames.dtype is torch.float32


@dataclass(frozen=True)
class Groups:
    """The group size of each part of the network; windows are mixed one by one."""

    encode: int  # frames
    decode: int  # depth maps
    filled: bool  # the last group of a window is filled up, and all of its slots are mixed

    @classmethod
    def of(cls, device: torch.device, size: tuple[int, int], *, compiled: bool = False) -> Groups:
        """Group sizes for a device and an input size: elsewhere than on a CPU, parts of a window's
        new frames and of its slots. Code is compiled for one group size."""
        if device.type == "cpu":
            return cls(encode=8, decode=2, filled=compiled)
        smaller = max(1, FULL_GRID * PATCH * PATCH // (size[0] * size[1]))
        encode, decode = STEP // 2 * min(3, smaller), WINDOW // 2 * min(2, smaller)
        return cls(encode, decode, filled=True)

    def halved(self, times: int) -> Groups:
        """Smaller groups, for a device with too little memory."""
        return Groups(max(1, self.encode >> times), max(1, self.decode >> times), self.filled)

    def missing(self, count: int, size: int) -> int:
        """How often the last of `count` items is repeated, to fill the last group."""
        return -count % size if self.filled else 0


def cuts(count: int, size: int) -> list[slice]:
    """0 ... count - 1 cut into groups; the last may be smaller."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


class Runner:
    """A network on a device, and the state passed on between the windows of one clip.

    Jobs must come clip by clip, windows in order. `windows` is the batch size to use; it and
    `halvings` change when the device runs out of memory. `waited` counts the seconds spent waiting
    for frames.
    """

    def __init__(self, network: VideoDepth, run: RunConfig, device: torch.device) -> None:
        settings = run.resolved(network.config, device.type)
        network = network.to(device).eval()
        self.dtype: torch.dtype = getattr(torch, settings.precision)
        if settings.precision != "float32":
            half = halved(network, self.dtype, attention=settings.attention)
            require_close(network, half, self.dtype)
            network = half
        elif device.type == "cpu" and not settings.compile:
            network = packed(network)
        self.config = network.config
        self.device, self.compiled, self.graphs = device, settings.compile, settings.graphs
        self.input_size, self.readers = settings.input_size, settings.readers
        self.precision = settings.precision
        self.windows = settings.windows or (1 if device.type == "cpu" else MOST_WINDOWS)
        self.halvings = 0
        self.waited = 0.0
        record = CudaRecorder(device) if settings.graphs else None

        def prepared(part: Callable[..., Output]) -> Callable[..., Output]:
            part = compiled(part) if settings.compile else part
            return ShapedGraphs(part, record) if record else part

        self._encode, self._decode = prepared(network.encode), prepared(network.head.decode)
        self._mix = prepared(network.mix)
        self._uploads = Uploads(device)
        self._carried: Pyramid | None = None
        self._carried_rows: dict[int, int] = {}

    def note_wait(self, seconds: float) -> None:
        """Adds time spent waiting for frames."""
        self.waited += seconds

    @property
    def largest_whole(self) -> int:
        """Pixels of the largest frames that are held by whole windows."""
        return LARGEST_WHOLE.get(self.device.type, LARGEST_WHOLE_ELSEWHERE)

    def batch_size(self, job: WindowInput) -> int:
        """The number of windows like this one per batch."""
        pixels = job.frame_size[0] * job.frame_size[1]
        return together(pixels * WINDOW * PIXEL, self.windows, BATCH_BYTES)

    def depth(self, jobs: list[WindowInput]) -> list[Float[Tensor, "n h w"]]:
        """Depth of every job's needed slots at the size of the network's input, float32."""
        groups = Groups.of(self.device, jobs[0].size, compiled=self.compiled)
        smaller = groups.halved(self.halvings)
        before = self._carried, self._carried_rows
        try:
            return self._attempt(jobs, smaller)
        except torch.OutOfMemoryError:
            self._carried, self._carried_rows = before
            if len(jobs) == 1 and max(smaller.encode, smaller.decode) == 1:
                raise
            if len(jobs) == 1 and (self.compiled or self.graphs):
                raise _no_smaller() from None
        return self._with_less(jobs)

    def _with_less(self, jobs: list[WindowInput]) -> list[Float[Tensor, "n h w"]]:
        """Retries after running out of memory: with half the batch, which changes no byte, then
        with half the groups, which may change low bits."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(jobs) > 1:
            half = len(jobs) // 2
            self.windows = half
            log.warning("out of memory: continuing with batches of %d windows", half)
            return self.depth(jobs[:half]) + self.depth(jobs[half:])
        self.halvings += 1
        log.warning("out of memory: continuing with smaller groups; low bits may differ")
        return self.depth(jobs)

    @torch.inference_mode()
    def _attempt(self, jobs: list[WindowInput], groups: Groups) -> list[Float[Tensor, "n h w"]]:
        # No TF32, whatever the process has chosen for matrix products, and deterministic kernels.
        with exact_float32(self.device) if self.device.type == "cuda" else nullcontext():
            return [self._run(job, groups) for job in jobs]

    def _run(self, job: WindowInput, groups: Groups) -> Float[Tensor, "n h w"]:
        pool, row_of = self._pool(job, groups)
        rows = [row_of[frame] for frame in job.window.frames]
        rows_BT = self._uploads.numbers([rows])
        slots = () if groups.filled else (list(job.window.needed),)  # instead of all
        (mixed,) = self._mix(pool.level3[rows_BT], pool.level4[rows_BT], *slots)
        depth = self._decode_needed(job, groups, pool, rows, mixed)
        self._carried = pool.rows(self._uploads.numbers([row_of[it] for it in job.window.carried]))
        self._carried_rows = {frame: row for row, frame in enumerate(job.window.carried)}
        return depth

    def _pool(self, job: WindowInput, groups: Groups) -> tuple[Pyramid, dict[int, int]]:
        """The distinct frames of the window, each once, and the row of each."""
        fresh, parts = range(*job.window.fresh), []
        if fresh:
            frames = job.frames
            missing = groups.missing(len(frames), groups.encode)
            frames = self._uploads.rows([frames] + [frames[-1:]] * missing)
            for cut in cuts(len(frames), groups.encode):
                images = frames[cut] if job.prepared else preprocess(frames[cut], job.size)
                parts.append(self._encode(images))
        row_of = {frame: row for row, frame in enumerate(fresh)}
        offset = sum(len(part.level1) for part in parts)  # past what fills a group
        # What a clip left behind that ended in its middle is not of this one, whose number may be
        # the same: numbers begin anew with every call of `estimate`.
        if job.window.index and self._carried is not None:
            row_of |= {frame: offset + row for frame, row in self._carried_rows.items()}
            parts.append(self._carried)
        return Pyramid.join(parts), row_of

    def _decode_needed(
        self,
        job: WindowInput,
        groups: Groups,
        pool: Pyramid,
        rows: list[int],
        mixed: Tensor,
    ) -> Float[Tensor, "n h w"]:
        """Depth of the needed slots. `mixed` has all slots, or only those. `rows` are those of
        every slot in the pool."""
        needed, parts = job.window.needed, []
        picked = [
            (slot if groups.filled else number, rows[slot]) for number, slot in enumerate(needed)
        ]
        picked += picked[-1:] * groups.missing(len(picked), groups.decode)
        slot, row = self._uploads.numbers(picked).T
        for cut in cuts(len(row), groups.decode):
            parts.append(
                self._decode(mixed[slot[cut]], pool.level1[row[cut]], pool.level2[row[cut]])
            )
        return torch.cat(parts)[: len(needed)]


def _no_smaller() -> ConfigError:
    return ConfigError(
        "the device has too little memory for one window; compiled code and graphs have one group "
        "size, and another would change low bits midway",
        remedy="use a GPU with more memory, a smaller --set input_size, or leave --compile and "
        "--graphs out, with another --out",
    )
