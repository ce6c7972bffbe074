"""Which device a stage runs on. Chosen once by the driver, because it affects the output."""

from __future__ import annotations

import os

from depthtok.errors import ConfigError


def choose(name: str) -> str:
    """Resolves `auto` to cuda if there is a GPU, else cpu. Raises `ConfigError` if unavailable."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            "no CUDA device is available", remedy="give --device cpu, or see `depthtok doctor`"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("no Apple GPU is available", remedy="give --device cpu")
    return name


def one_thread() -> None:
    """Limits this worker to one thread, so that sums have the same order everywhere."""
    import torch

    torch.set_num_threads(1)


def training_threads(count: int) -> None:
    """Sets the CPU threads of a training run; 0 is every core available to this process, divided
    among the ranks on this machine: two threads per core cost far more than half the speed.

    Set explicitly, because a stage that ran earlier in this process limited them to one.
    """
    import torch

    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(count or max(1, len(os.sched_getaffinity(0)) // ranks))
