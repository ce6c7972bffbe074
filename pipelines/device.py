"""Which device a stage runs on, decided once by the driver: it is part of what is made."""

from __future__ import annotations

import os

from depthtok.errors import ConfigError


def choose(name: str) -> str:
    """`auto` is cuda where there is a GPU, else cpu. Raises `ConfigError` for one not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            "no CUDA device can be used here", remedy="give --device cpu, or see `depthtok doctor`"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("no Apple GPU can be used here", remedy="give --device cpu")
    return name


def one_thread() -> None:
    """Fixes this worker's threads, so that sums are made in the same order everywhere."""
    import torch

    torch.set_num_threads(1)


def training_threads(count: int) -> None:
    """CPU threads of a training; 0 is every core that this process may use, shared among the ranks
    that were started together on this machine: two on one core cost far more than half the speed.

    Said outright, since a stage that ran in this process before has fixed them to one.
    """
    import torch

    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(count or max(1, len(os.sched_getaffinity(0)) // ranks))
