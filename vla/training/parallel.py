"""Training one model on several ranks: everything that differs from a single process.

A rank takes its rows of every global batch; gradients are those of the whole batch, for any number
of ranks. `ddp` keeps the whole model on each rank, `fsdp` shards weights and optimiser state.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from depthtok.errors import ConfigError, DepthtokError, TrainingError
from depthtok.launch import local_rank, world_size
from depthtok.log import warn
from vla.model.gemma import GemmaLayer
from vla.model.siglip import SiglipLayer
from vla.training.compiling import Compiled

PATIENCE = timedelta(hours=2)  # how long ranks wait: one may fill a frame cache first


@contextmanager
def launched(device: str) -> Iterator[tuple[Ranks, str]]:
    """This process's rank under torchrun, and its device; a single rank without torchrun.

    torchrun sets rank and world size in the environment. Raises `ConfigError` where it is half set.
    """
    if not world_size():
        if device.startswith("cuda:"):
            torch.cuda.set_device(device)
        yield Ranks(), device
        return
    device, backend = _placed(device, torch.cuda.device_count())
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    gpu = torch.device(device) if backend == "nccl" else None
    dist.init_process_group(backend, timeout=PATIENCE, device_id=gpu)
    try:
        yield Ranks.here(), device
    finally:
        dist.destroy_process_group()


def _placed(device: str, gpus: int) -> tuple[str, str]:
    """This process's device and what its ranks talk through: NCCL, but gloo on CPUs, and where
    torchrun's processes share a GPU, which NCCL refuses."""
    if not device.startswith("cuda"):
        return device, "gloo"
    processes, usable = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), gpus if device == "cuda" else 1
    # On Ray each sees its own alone.
    shared = processes > usable and "TORCHELASTIC_RUN_ID" in os.environ
    if shared:
        warn(f"{processes} processes share {usable} GPU: they talk through gloo, which is slow")
    if device == "cuda":
        device = f"cuda:{local_rank() % gpus}"
    return device, "gloo" if shared else "nccl"


@dataclass(frozen=True)
class Ranks:
    """This process's rank among the processes of a training run."""

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """The rank in torch.distributed, if that is initialised."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def rows(self, batch: int) -> slice:
        """The slice of a global batch that belongs to this rank. Raises `ConfigError` where it does
        not divide."""
        if batch % self.count:
            raise ConfigError(
                f"a batch of {batch} does not divide over {self.count} ranks",
                remedy="set train.batch to a multiple of the number of processes",
            )
        share = batch // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def total(self, value: Tensor) -> Tensor:
        """The sum of `value` over all ranks."""
        if self.count == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` is true on any rank."""
        if self.count == 1:
            return flag
        return bool(self.total(torch.tensor(float(flag), device=device)) > 0)

    @contextmanager
    def first(self) -> Iterator[None]:
        """The first rank executes the block first; the others follow once it is done. What it
        raises they raise too: torchrun may end it before it has said why."""
        if self.rank > 0:
            if (error := self._broadcast(None)) is not None:
                raise error
            yield
            return
        try:
            yield
        except DepthtokError as error:
            self._broadcast(error)
            raise
        except BaseException:
            self._broadcast(TrainingError("the first process stopped", remedy="it says why"))
            raise
        self._broadcast(None)

    def _broadcast(self, error: DepthtokError | None) -> DepthtokError | None:
        """What stopped the first rank, on all; None where nothing did."""
        errors = [error]
        if self.count > 1:
            dist.broadcast_object_list(errors, src=0)
        return errors[0]

    def wait(self) -> None:
        """A barrier: waits until all ranks are here."""
        if self.count > 1:
            dist.barrier()


def spread(model: nn.Module, ranks: Ranks, sharding: str) -> nn.Module:
    """The module to call in training: the model itself in a single process that no torchrun
    started. With `fsdp` the model is sharded, layer by layer. Raises `ConfigError` where processes
    share a GPU and it is to be sharded: through gloo torch 2.11 then ended by a segmentation fault
    on an H200."""
    if not (dist.is_available() and dist.is_initialized()):
        return model
    if sharding == "ddp":
        return DistributedDataParallel(model, gradient_as_bucket_view=True)
    device = next(model.parameters()).device.type  # not torch's choice: a GPU wherever there is one
    if device == "cuda" and dist.get_backend() == "gloo":
        raise ConfigError(
            "processes that share a GPU cannot shard a model",
            remedy="leave run.sharding=fsdp out, or start one process for each GPU",
        )
    mesh = init_device_mesh(device, (ranks.count,))
    for module in model.modules():
        if isinstance(module, GemmaLayer | SiglipLayer):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "sample")  # validation gathers weights there too
    return model


def sync_gradients(called: nn.Module, now: bool) -> None:
    """Sets whether the next backward pass syncs gradients: only the last micro-batch does."""
    if isinstance(called, FSDPModule):
        called.set_requires_gradient_sync(now)
    elif isinstance(called, DistributedDataParallel):
        called.require_backward_grad_sync = now


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor gathered in full, which every rank must call; others are returned as is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """The whole tensors in the first rank's host memory; none on the others. No device ever holds
    more than one that is not its own."""
    full_tensors = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if ranks.rank == 0:
            full_tensors[name] = full.cpu()
    return full_tensors


def sharded_like(weight: Tensor, tensor: Tensor) -> Tensor:
    """A full tensor, sharded and placed like `weight`."""
    tensor = tensor.to(weight.device)
    if isinstance(weight, DTensor):
        return distribute_tensor(tensor, weight.device_mesh, weight.placements)
    return tensor


def compile_layers(model: nn.Module, backend: Any = "inductor", budget: float = 1.0) -> None:
    """Compiles layer by layer: short compile times, and layers of a kind share the code. `budget`
    is the share of activations that they keep for the backward pass."""
    for module in model.modules():
        if isinstance(module, GemmaLayer | SiglipLayer):
            vars(module)["forward"] = Compiled(module.forward, backend, budget)
