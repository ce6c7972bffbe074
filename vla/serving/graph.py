"""A function of tensors as a CUDA graph: one launch instead of thousands.

At batch 1 kernel launches dominate the ten Euler steps. The function must be capturable: fixed
shapes, no values read back to the CPU, all tensors created on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from depthtok.disk.regular import gpu_failure
from depthtok.errors import ConfigError

DEVICE = "cuda"
WARM_UP = 3  # calls before capture, in which libraries allocate their memory


class CapturedGraph:
    """`function`, captured once for the shapes of `example`; a call copies its tensors in, replays
    the graph and copies the result out. Raises `ConfigError` without a GPU, and for what cannot be
    recorded; `WorkerDied` where the GPU fails."""

    def __init__(self, function: Callable[..., Tensor], example: tuple[Tensor, ...]) -> None:
        if any(tensor.device.type != DEVICE for tensor in example):
            raise ConfigError(
                "a CUDA graph needs a CUDA device", remedy="leave --cuda-graph out on this machine"
            )
        # What was recorded reads the function's own tensors, too: they live as long as the graph.
        self._function = function
        self._inputs = tuple(tensor.clone() for tensor in example)
        with torch.cuda.device(example[0].device):  # streams are those of the current device
            try:
                self._capture(function)
            except RuntimeError as error:
                if failure := gpu_failure(error):
                    raise failure from error
                raise ConfigError(
                    f"the CUDA graph cannot be recorded: {error}", remedy="give --no-cuda-graph"
                ) from error

    def _capture(self, function: Callable[..., Tensor]) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = function(*self._inputs)

    def __call__(self, *tensors: Tensor) -> Tensor:
        for buffer, tensor in zip(self._inputs, tensors, strict=True):
            buffer.copy_(tensor)
        self._graph.replay()
        return self._output.clone()
