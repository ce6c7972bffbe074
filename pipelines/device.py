"""Which device a stage runs on. Chosen once by the driver, because it affects the output. On a
cluster the driver goes by the cluster's GPUs, and each worker checks that it can use them."""

from __future__ import annotations

import os
import platform

from depthtok.config import RunOptions, require_device
from depthtok.errors import ConfigError
from depthtok.installation import cores
from pipelines.ray.cluster import address_of, has_gpus


def choose(name: str) -> str:
    """Resolves `auto` to cuda if there is a GPU, else cpu. Raises `ConfigError` if unavailable, and
    for what is no device."""
    require_device(name)
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "mps":
        usable = torch.backends.mps.is_available()
    else:
        number = int(name.partition(":")[2] or 0)
        usable = torch.cuda.is_available() and number < torch.cuda.device_count()
    if not usable:
        raise ConfigError(
            f"{name} cannot be used on {platform.node()}",
            remedy="give --device cpu, or see `depthtok doctor` on that machine; workers on Ray "
            "are shown the GPUs of --gpus-per-worker only",
        )
    return name


def choose_for(options: RunOptions) -> str:
    """`choose` for the workers of a stage: by the GPUs of the Ray cluster that they join, if any,
    which the workers check themselves. What `--plan` measures, it measures here."""
    name, gpus = options.device, options.gpus_per_worker
    if not options.workers or options.plan:
        return choose(name)
    if name == "auto" and gpus is not None:
        name = "cuda" if gpus else "cpu"
    address = address_of(options.ray_address)
    if address is None:
        return choose(name)
    if name == "auto":
        name = "cuda" if has_gpus(address) else "cpu"
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
    torch.set_num_threads(count or max(1, cores() // ranks))
