"""Batches of windows through the network, each distinct frame encoded once.

The network runs on groups: of frames in the encoder, of windows in the mixing part, of depth maps
in the decoding part. The result for an image must not depend on the rest of the batch, so

- on the CPU, where larger batches gain nothing, groups are cut within one window;
- elsewhere, and compiled, groups are cut across all windows of a batch, their size depends only on
  the image size, and the last one is padded: every item runs through the same kernels in any batch.
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
from pipelines.depth.vida.config import PATCH, WINDOW, RunConfig, ViDAConfig
from pipelines.depth.vida.graphs import CudaRecorder, ShapedGraphs
from pipelines.depth.vida.halved import halved, require_close
from pipelines.depth.vida.head import Pyramid
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.packed import packed
from pipelines.depth.vida.preprocess import preprocess
from pipelines.depth.vida.uploads import Uploads
from pipelines.depth.windows.plan import Window
from vqvae.model.search import exact_float32

Item = TypeVar("Item")
Output = TypeVar("Output")
log = logging.getLogger(__name__)

FULL_GRID = 37 * 37  # patches at 518 px
MOST_WINDOWS = 16
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
    """The group size of each part of the network."""

    encode: int  # frames
    mix: int  # windows
    decode: int  # depth maps
    pooled: bool  # cut across windows and padded, rather than within a window

    @classmethod
    def of(cls, device: torch.device, size: tuple[int, int], *, compiled: bool = False) -> Groups:
        """Group sizes for a device and an input size. Code is compiled for one group size."""
        if device.type == "cpu":
            return cls(encode=8, mix=1, decode=2, pooled=compiled)
        smaller = max(1, FULL_GRID * PATCH * PATCH // (size[0] * size[1]))
        return cls(encode=16 * smaller, mix=smaller, decode=16 * smaller, pooled=True)

    def halved(self, times: int) -> Groups:
        """Smaller groups, for a device with too little memory."""
        sizes = (self.encode, self.mix, self.decode)
        encode, mix, decode = (max(1, size >> times) for size in sizes)
        return Groups(encode, mix, decode, self.pooled)

    def missing(self, count: int, size: int) -> int:
        """How often the last of `count` items is repeated, to fill the last group."""
        return -count % size if self.pooled else 0

    def padded(self, items: list[Item], size: int) -> list[Item]:
        """The items, and as many more as are missing."""
        return items + items[-1:] * self.missing(len(items), size)


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
        self.windows = settings.windows
        self.memory = settings.memory_gb * 2**30
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
        self._carried_rows: dict[tuple[int, int], int] = {}

    def note_wait(self, seconds: float) -> None:
        """Adds time spent waiting for frames."""
        self.waited += seconds

    @property
    def largest_whole(self) -> int:
        """Pixels of the largest frames that are held by whole windows."""
        return LARGEST_WHOLE.get(self.device.type, LARGEST_WHOLE_ELSEWHERE)

    def batch_size(self, job: WindowInput) -> int:
        """The number of windows like this one per batch."""
        size, pixels = job.size, job.frame_size[0] * job.frame_size[1]
        if self.windows is None:
            self.windows = 1
            if self.device.type != "cpu":
                needed = window_bytes(self.config, size, self.dtype.itemsize)
                mixing = Groups.of(self.device, size).mix * mixing_bytes(self.config, size)
                fitting = int((self.memory - mixing) / needed)
                self.windows = max(1, min(MOST_WINDOWS, fitting))
        return together(pixels * WINDOW * PIXEL, self.windows, BATCH_BYTES)

    def depth(self, jobs: list[WindowInput]) -> list[Float[Tensor, "n h w"]]:
        """Depth of every job's needed slots at the size of the network's input, float32."""
        groups = Groups.of(self.device, jobs[0].size, compiled=self.compiled)
        smaller = groups.halved(self.halvings)
        try:
            return self._attempt(jobs, smaller)
        except torch.OutOfMemoryError:
            if len(jobs) == 1 and max(smaller.encode, smaller.mix, smaller.decode) == 1:
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
        batches = [jobs] if groups.pooled else [[job] for job in jobs]
        # No TF32, whatever the process has chosen for matrix products, and deterministic kernels.
        with exact_float32(self.device) if self.device.type == "cuda" else nullcontext():
            return [depth for batch in batches for depth in self._run(batch, groups)]

    def _run(self, jobs: list[WindowInput], groups: Groups) -> list[Float[Tensor, "n h w"]]:
        pool, row_of = self._pool(jobs, groups)
        rows = [[row_of[job.clip, frame] for frame in job.window.frames] for job in jobs]
        rows_BT = self._uploads.numbers(groups.padded(rows, groups.mix))
        slots = () if groups.pooled else (list(jobs[0].window.needed),)  # instead of all
        mixed = [
            self._mix(pool.level3[rows_BT[cut]], pool.level4[rows_BT[cut]], *slots)
            for cut in cuts(len(rows_BT), groups.mix)
        ]
        depth = self._decode_needed(jobs, groups, pool, rows, torch.cat(mixed))
        last = jobs[-1]
        carried = [(last.clip, frame) for frame in last.window.carried]
        self._carried = pool.rows(self._uploads.numbers([row_of[key] for key in carried]))
        self._carried_rows = {key: row for row, key in enumerate(carried)}
        return depth

    def _pool(
        self, jobs: list[WindowInput], groups: Groups
    ) -> tuple[Pyramid, dict[tuple[int, int], int]]:
        """The distinct frames of the batch, each once, and the row of each."""
        keys = [(job.clip, frame) for job in jobs for frame in range(*job.window.fresh)]
        parts = []
        if keys:
            pieces = [job.frames for job in jobs if len(job.frames)]
            missing = groups.missing(len(keys), groups.encode)
            pieces += [pieces[-1][-1:]] * missing
            frames = self._uploads.rows(pieces)
            for cut in cuts(len(frames), groups.encode):
                images = frames[cut]
                if not jobs[0].prepared:
                    images = preprocess(images, jobs[0].size)
                parts.append(self._encode(images))
        row_of = {key: row for row, key in enumerate(keys)}
        offset = sum(len(part.level1) for part in parts)  # past the padding
        # What a clip left behind that ended in its middle is not of this one, whose number may be
        # the same: numbers begin anew with every call of `estimate`.
        if jobs[0].window.index and self._carried is not None:
            row_of |= {key: offset + row for key, row in self._carried_rows.items()}
            parts.append(self._carried)
        return Pyramid.join(parts), row_of

    def _decode_needed(
        self,
        jobs: list[WindowInput],
        groups: Groups,
        pool: Pyramid,
        rows: list[list[int]],
        mixed: Tensor,
    ) -> list[Float[Tensor, "n h w"]]:
        """Depth of the needed slots. `mixed` has all slots, or only those for a single job. `rows`
        are those of every slot in the pool."""
        needed = [
            (window, slot if groups.pooled else number, rows[window][slot])
            for window, job in enumerate(jobs)
            for number, slot in enumerate(job.window.needed)
        ]
        count, parts = len(needed), []
        window, slot, row = self._uploads.numbers(groups.padded(needed, groups.decode)).T
        for cut in cuts(len(row), groups.decode):
            path3 = mixed[window[cut], slot[cut]]
            parts.append(self._decode(path3, pool.level1[row[cut]], pool.level2[row[cut]]))
        depth = torch.cat(parts)[:count]
        return list(depth.split([len(job.window.needed) for job in jobs]))


def _no_smaller() -> ConfigError:
    return ConfigError(
        "the device has too little memory for one window; compiled code and graphs have one group "
        "size, and another would change low bits midway",
        remedy="use a GPU with more memory, a smaller --set input_size, or leave --compile and "
        "--graphs out, with another --out",
    )


def window_bytes(config: ViDAConfig, size: tuple[int, int], itemsize: int) -> int:
    """The approximate memory of one window of a batch: its frames' pyramids, twice to include what
    is computed from them."""
    patches = size[0] * size[1] // PATCH**2
    return 2 * WINDOW * patches * config.kept * itemsize


def mixing_bytes(config: ViDAConfig, size: tuple[int, int]) -> int:
    """The approximate memory that mixing one window takes beside: float32, where it is counted."""
    patches = size[0] * size[1] // PATCH**2
    return WINDOW * patches * config.inside * 4
