"""A part of the network as a CUDA graph: what takes hundreds of launches is recorded once, and
repeated by one.

A graph repeats exactly the kernels that were recorded, on the same memory. So each call copies its
inputs there, and what comes out is copied before the next call overwrites it. What the code decided
while it was recorded is decided for good: it may depend on shapes, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from depthtok.disk.regular import gpu_failure
from depthtok.errors import ConfigError

Output = TypeVar("Output")
Recorded = tuple[Output, Callable[[], None]]
"""What a recorded call writes to, and what repeats it."""

MOST = 4  # shapes whose graphs are kept, of each part
WARM_UPS = 2  # calls before recording: they compile, and choose kernels


class CudaRecorder:
    """Records on a device, be it the current one or not: a stream is of one device, and recording
    on another's would record nothing. All graphs share the memory of what lies between their inputs
    and outputs: one runs after another."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Output]) -> Recorded[Output]:
        with torch.cuda.device(self._device):
            return self._record(run)

    def _record(self, run: Callable[[], Output]) -> Recorded[Output]:
        warm_up, current = torch.cuda.Stream(), torch.cuda.current_stream()
        warm_up.wait_stream(current)
        with torch.cuda.stream(warm_up):
            for _ in range(WARM_UPS):
                run()
        current.wait_stream(warm_up)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on decoding meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = run()
        return outputs, graph.replay


@dataclass
class Graph(Generic[Output]):
    """One recorded call: its inputs' and outputs' memory, and what repeats it."""

    inputs: list[Tensor]
    outputs: Output
    replay: Callable[[], None]


class ShapedGraphs(Generic[Output]):
    """A function of tensors, recorded once for each shape of them and order in memory, by which
    libraries choose kernels: bits must not depend on what came first."""

    def __init__(
        self,
        part: Callable[..., Output],
        record: Callable[[Callable[[], Output]], Recorded[Output]],
    ) -> None:
        self._part, self._record = part, record
        self._graphs: dict[tuple, Graph[Output]] = {}

    def __call__(self, *inputs: Tensor) -> Output:
        key = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in inputs)
        graph = self._graphs.pop(key, None) or self._recorded(inputs)
        self._graphs[key] = graph  # the latest one last
        for memory, tensor in zip(graph.inputs, inputs, strict=True):
            memory.copy_(tensor)
        graph.replay()
        return tree_map(torch.clone, graph.outputs)

    def _recorded(self, inputs: tuple[Tensor, ...]) -> Graph[Output]:
        if len(self._graphs) == MOST:
            del self._graphs[next(iter(self._graphs))]
        memory = [tensor.clone() for tensor in inputs]
        try:
            outputs, replay = self._record(lambda: self._part(*memory))
        except (torch.OutOfMemoryError, ConfigError):
            raise
        except RuntimeError as error:
            if failure := gpu_failure(error):
                raise failure from error
            raise ConfigError(
                f"this network cannot be recorded as a CUDA graph: {str(error).splitlines()[0]}",
                remedy="leave --graphs out",
            ) from error
        return Graph(memory, outputs, replay)
