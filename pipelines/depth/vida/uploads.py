"""Copies from the host to a device that nobody waits for."""

from __future__ import annotations

import torch
from torch import Tensor


class Uploads:
    """On a GPU, copies go through pinned memory and a stream of their own: they overlap with what
    is being computed, and only what uses them comes after them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def rows(self, parts: list[Tensor]) -> Tensor:
        """Tensors of the host, concatenated on the device."""
        if self._stream is None:
            return torch.cat(parts).to(self.device, non_blocking=True)
        count = sum(map(len, parts))
        shape, dtype = (count, *parts[0].shape[1:]), parts[0].dtype
        pinned = torch.cat(parts, out=torch.empty(shape, dtype=dtype, pin_memory=True))
        with torch.cuda.stream(self._stream):
            there = pinned.to(self.device, non_blocking=True)
        now = torch.cuda.current_stream(self.device)
        now.wait_stream(self._stream)
        there.record_stream(now)  # its memory is not reused before those kernels are done
        return there

    def numbers(self, values: list) -> Tensor:
        """Whole numbers, for indexing."""
        return self.rows([torch.tensor(values, dtype=torch.long)])
