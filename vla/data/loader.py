"""Batches, filled ahead of time by threads into reused buffers.

Decoding and resizing release the GIL, so threads scale. The samples of a step do not depend on the
number of threads or ranks, or on where training resumed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from vla.data.dataset import Dataset, SampleOrder
from vla.model.batch import Batch


class Buffer:
    """The memory of one batch, and the tensors that share it."""

    def __init__(self, dataset: Dataset, size: int, pinned: bool) -> None:
        tensors = {
            name: torch.empty((size, *shape), dtype=_torch_dtype(dtype), pin_memory=pinned)
            for name, (shape, dtype) in dataset.fields().items()
        }
        self.arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        self.batch = Batch(**tensors)
        self.copied: torch.cuda.Event | None = None

    def fill(self, dataset: Dataset, places: list[tuple[int, int]], first: int, seed: int) -> None:
        """Writes samples (epoch, number) into the rows from `first` on."""
        for row, (epoch, number) in enumerate(places, first):
            dataset.fill({k: v[row] for k, v in self.arrays.items()}, number, epoch, seed)


def _torch_dtype(dtype: type) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype


class Loader:
    """An endless iterator over one rank's batches: from each global batch of `batch`, `share` rows
    starting at `rank * share`.

    `start` is the first global step. A batch is valid until the next one is requested. Use it as a
    context manager, so that the threads are stopped.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        *,
        seed: int,
        start: int = 0,
        rank: int = 0,
        ranks: int = 1,
        threads: int = 2,
        prefetch: int = 2,
        device: torch.device | str = "cpu",
    ) -> None:
        assert batch % ranks == 0, f"a batch of {batch} over {ranks} ranks"
        self.dataset, self.seed, self.step = dataset, seed, start
        self.batch, self.share, self.rank = batch, batch // ranks, rank
        self.device = torch.device(device)
        self._stream = SampleOrder(len(dataset), seed)
        self._threads = max(threads, 1)
        self._pool = ThreadPoolExecutor(threads, "vla-loader") if threads else None
        count = prefetch + 1 if threads else 1
        pinned = self.device.type == "cuda"
        self._free = deque(Buffer(dataset, self.share, pinned) for _ in range(count))
        self._ahead: deque[tuple[Buffer, list[Future]]] = deque()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            while self._free:
                self._begin(self._free.popleft())
            buffer, futures = self._ahead.popleft()
            for future in futures:
                future.result()
            yield self._moved(buffer)
            self._free.append(buffer)

    def _begin(self, buffer: Buffer) -> None:
        """Starts filling a buffer with this rank's share of the next global step."""
        if buffer.copied is not None:
            buffer.copied.synchronize()
        first = self.step * self.batch + self.rank * self.share
        samples = list(self._stream.draw(first, first + self.share))
        self.step += 1
        if self._pool is None:
            buffer.fill(self.dataset, samples, 0, self.seed)
            self._ahead.append((buffer, []))
            return
        size = -(-self.share // self._threads)
        futures = [
            self._pool.submit(buffer.fill, self.dataset, samples[i : i + size], i, self.seed)
            for i in range(0, self.share, size)
        ]
        self._ahead.append((buffer, futures))

    def _moved(self, buffer: Buffer) -> Batch:
        batch = buffer.batch.to(self.device)
        if self.device.type == "cuda":
            buffer.copied = torch.cuda.Event()
            buffer.copied.record(torch.cuda.current_stream(self.device))
        return self.dataset.encoded(batch)
