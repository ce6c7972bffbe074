"""Which device a stage runs on, decided once by the driver: it is part of what is made."""

from __future__ import annotations

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
