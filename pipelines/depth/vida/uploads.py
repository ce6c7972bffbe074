"""Copies from the host to a device, without waiting for them."""

from __future__ import annotations

from collections.abc import Sequence

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
            rows = pinned.to(self.device, non_blocking=True)
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self._stream)
        rows.record_stream(current)  # its memory is not reused before those kernels are done
        return rows

    def numbers(self, values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        """Whole numbers on the device, int64, for indexing."""
        return self.rows([torch.tensor(values, dtype=torch.long)])
