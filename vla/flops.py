"""How much arithmetic a sample takes: counted on the meta device, without weights or memory."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from vla.batch import Batch
from vla.config import ModelConfig
from vla.model import QDepthVLA


def meta_batch(config: ModelConfig, batch: int = 1) -> Batch:
    """A batch that has shapes only."""
    size, depth = config.vision.image_size, config.depth
    with torch.device("meta"):
        return Batch(
            images_BIHW3=torch.empty(batch, config.cameras, size, size, 3, dtype=torch.uint8),
            text_BL=torch.empty(batch, config.max_text, dtype=torch.int64),
            text_valid_BL=torch.empty(batch, config.max_text, dtype=torch.bool),
            proprio_BP=torch.empty(batch, config.proprio_dim),
            actions_BCA=torch.empty(batch, config.chunk, config.action_dim),
            action_valid_BC=torch.empty(batch, config.chunk, dtype=torch.bool),
            depth_BMK=torch.empty(batch, depth.cameras, depth.grid**2, dtype=torch.int64),
            depth_valid_BM=torch.empty(batch, depth.cameras, dtype=torch.bool),
        )


def forward_flops(config: ModelConfig) -> dict[str, int]:
    """Floating-point operations of one sample's forward pass, by part, and their `total`.

    A training step takes about three times as many, four with recomputed activations.
    """
    with torch.device("meta"):
        model = QDepthVLA(config)
        noise, time = torch.empty(1, config.chunk, config.action_dim), torch.empty(1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(meta_batch(config), noise, time)
    by_module = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    parts = {
        name: by_module[f"QDepthVLA.{name}"]
        for name, _ in model.named_children()
        if f"QDepthVLA.{name}" in by_module
    }
    return parts | {"total": counter.get_total_flops()}
