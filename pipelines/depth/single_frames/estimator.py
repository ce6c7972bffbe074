"""Estimators of single frames: a network that knows frames, and the stream of clips through it.

A frame's depth depends on the frame and on its chunk of the clip alone (see `reading.py`), so the
bytes do not depend on batches of clips, workers, or what else is estimated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from depthtok.data import DepthBlock, DepthClip, EstimatorSpec, FrameClip
from depthtok.errors import SourceError
from pipelines.depth.single_frames.reading import Chunk, chunks
from pipelines.depth.single_frames.steady import Steadiness, steadied

READERS = 4  # threads that read for a GPU

Inputs = Tensor | UInt8[np.ndarray, "n H W 3"]


@runtime_checkable
class FrameNetwork(Protocol):
    """What knows the depth of frames."""

    @property
    def spec(self) -> EstimatorSpec: ...

    @property
    def device(self) -> str: ...  # in words, for the record

    @property
    def degraded(self) -> bool: ...

    @property
    def group(self) -> int: ...  # frames of a call at most: fixed for a type of device

    @property
    def readers(self) -> int: ...  # threads that read ahead; 0 on a CPU

    def prepare(self, frames: UInt8[np.ndarray, "n H W 3"]) -> Inputs:
        """What can be done to frames on the host, by a reading thread."""
        ...

    def depth(self, inputs: Inputs, size: tuple[int, int], clip: FrameClip) -> DepthClip:
        """The depth of prepared frames, at their `size`. Raises `SourceError`."""
        ...


class FrameEstimator:
    """A `DepthEstimator` of a network that sees single frames."""

    def __init__(self, network: FrameNetwork, steady: str = "off") -> None:
        self.network, self.spec = network, network.spec
        self.origin = getattr(network, "origin", None)
        self.waited = 0.0  # seconds spent waiting for frames
        self.steadiness = Steadiness(steady)  # what the alignment did so far

    @property
    def device(self) -> str:
        """The name of the device, for the record of what depth was made on."""
        return self.network.device

    @property
    def degraded(self) -> bool:
        """Whether a lack of memory made calls smaller, so that low bits may differ."""
        return self.network.degraded

    def estimate(self, clips: Iterable[FrameClip]) -> Iterator[DepthBlock]:
        """Depth of many clips at their own resolution, clip by clip in order. A clip that cannot
        be read, or whose depth is not finite, ends with a block that states the reason."""
        network = self.network
        stream = chunks(clips, network.prepare, network.group, network.readers, self._wait)
        return steadied(self._blocks(stream), self.steadiness)

    def _blocks(self, stream: Iterator[Chunk]) -> Iterator[tuple[DepthBlock, bool]]:
        """Blocks, each with whether it is the last of its clip."""
        failed = -1
        for chunk in stream:
            if chunk.clip == failed:
                continue
            block = self._block(chunk)
            failed = chunk.clip if block.error else failed
            yield block, bool(block.error) or chunk.last

    def _block(self, chunk: Chunk) -> DepthBlock:
        if chunk.inputs is None:
            return DepthBlock(chunk.clip, error=chunk.error)
        try:
            depth = self.network.depth(chunk.inputs, chunk.size, chunk.source)
        except SourceError as error:
            return DepthBlock(chunk.clip, error=error.problem)
        return DepthBlock(chunk.clip, depth)

    def _wait(self, seconds: float) -> None:
        self.waited += seconds


def finite(values: np.ndarray, start: str = "the network's depth") -> np.ndarray:
    """The values. Raises `SourceError` where one is not finite."""
    if not np.isfinite(values).all():
        raise SourceError(f"{start} is not finite", remedy="leave the clip out, or use float32")
    return values
