"""The memory that a training needs on its device, counted on tensors without data.

Activations are what autograd saves for the backward pass under the CPU's autocast rules. For the
full model that is 1.48 GiB a sample; the peaks which follow are 0 to 8 % above those measured on an
H200 (batch 8 to 64, eager). Compiled layers keep about a tenth less.
"""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vla.config import Config
from vla.model import lora
from vla.model.batch import Batch
from vla.model.flops import meta_batch
from vla.model.gemma import Expert
from vla.model.model import QDepthVLA
from vla.model.siglip import Siglip
from vla.training import optim
from vla.training.device_memory import Memory

MOMENTS = {"adamw": 8.0, "adamw8bit": 2 + 2 * 4 / 256}  # bytes a weight: codes, a scale per 256


def needed(config: Config, *, recompute: bool = False, shards: int = 1) -> Memory:
    """What a training needs on each of `shards` devices that share its state (FSDP)."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = QDepthVLA(config.model)
        if config.train.lora_rank:
            lora.add(model, config.train.lora_rank, config.train.lora_alpha, 0)
        optim.freeze(model, config.train)
        for part in model.modules():
            if isinstance(part, Expert | Siglip):
                part.recompute = recompute
        one, two = (_saved(model, config, samples) for samples in (1, 2))
    trained = sum(weight.numel() for weight in optim.trained(model).values())
    return Memory(
        weights=4 * sum(tensor.numel() for tensor in model.state_dict().values()) / shards,
        moments=MOMENTS[config.train.optimizer] * trained / shards,
        average=4 * trained / shards if config.train.ema else 0,
        gradients=4 * trained / shards,
        casts=max(0, 2 * one - two),
        per_sample=two - one,
    )


def _saved(model: QDepthVLA, config: Config, samples: int) -> int:
    """Bytes that one pass saves, besides the weights."""
    weights = {weight.untyped_storage()._cdata for weight in model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            storages[storage._cdata] = storage
        return tensor

    shapes = vars(meta_batch(config.model, samples))
    batch = Batch(**{name: torch.empty(x.shape, dtype=x.dtype) for name, x in shapes.items()})
    noise = torch.empty(samples, config.model.chunk, config.model.action_dim)
    autocast = torch.autocast("cpu", torch.bfloat16, config.train.precision == "bf16")
    with autocast, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = model(batch, noise, torch.empty(samples))
    del losses
    return sum(storage.nbytes() for storage in storages.values())
