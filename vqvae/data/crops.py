"""Crops for the steps to come, drawn and pasted by threads while the network trains.

A batch depends on the seed and the number of its step alone, so that one which is drawn and never
used changes nothing, and the order in which threads finish does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from vqvae.data.frames import CropBatch

AHEAD = 8  # batches, of some MB each
THREADS = 4  # on a GPU, whose step takes less time than drawing its crops

Images = Float32[Tensor, "B 1 c c"]
Masks = Bool[Tensor, "B 1 c c"]


class Crops:
    """The batches of steps 0 to `steps`, each made by `draw`, a few of them ahead.

    On a CPU one thread draws, because the network keeps the others busy.
    """

    def __init__(self, draw: Callable[[int], CropBatch], steps: int, device: torch.device) -> None:
        self._draw, self._steps, self._device = draw, steps, device
        self._pinned = device.type == "cuda"
        self._pool = ThreadPoolExecutor(THREADS if self._pinned else 1, "crops")
        self._coming: dict[int, Future[tuple[Tensor, Tensor]]] = {}

    def take(self, step: int) -> tuple[Images, Masks]:
        """The images of a step and their valid masks, on the device (or on their way to it)."""
        wanted = range(step, min(step + 1 + AHEAD, self._steps))
        for number in self._coming.keys() - set(wanted):  # a checkpoint was loaded
            self._coming.pop(number).cancel()
        for number in wanted:
            if number not in self._coming:
                self._coming[number] = self._pool.submit(self._batch, number)
        images, valid = self._coming.pop(step).result()
        return self.upload(images), self.upload(valid)

    def upload(self, values: Tensor) -> Tensor:
        """Starts to copy values to the device; does not wait if their memory is pinned."""
        return values.to(self._device, non_blocking=self._pinned)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _batch(self, step: int) -> tuple[Images, Masks]:
        batch = self._draw(step)
        images, valid = torch.from_numpy(batch.images), torch.from_numpy(batch.valid)
        return (images.pin_memory(), valid.pin_memory()) if self._pinned else (images, valid)
