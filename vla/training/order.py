"""The order of a training's arithmetic, as `train.fast` and `train.fast_cpu` say it; and the memory
of a CPU's."""

from __future__ import annotations

import ctypes
import sys

from vla.config import TrainConfig
from vla.model.convolved import convolve
from vla.model.depth_head import DepthHead
from vla.model.gemma import Expert, GemmaLayer, GemmaNorm
from vla.model.model import QDepthVLA

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_LARGEST = 32 * 2**20  # bytes, of what glibc takes from memory that it has, at most


def set_order(model: QDepthVLA, config: TrainConfig) -> None:
    """From now on a model computes in the order that the settings say."""
    for part in model.modules():
        if isinstance(part, Expert | GemmaLayer):
            part.fast = config.fast or config.fast_cpu
        if isinstance(part, Expert | GemmaLayer | GemmaNorm | DepthHead | QDepthVLA):
            part.fast_cpu = config.fast_cpu
    if config.fast_cpu:
        convolve(model)


def keep_memory() -> None:
    """Lets the process keep the memory that it frees, for its next tensors. glibc gives it back to
    the system otherwise, and every update pays for thousands of fresh pages. The same bits."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # none in musl
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
