"""FLOPs per sample, counted on the meta device without allocating weights; and the peak FLOP/s of
GPUs."""

from __future__ import annotations

import re

import torch
from torch.utils.flop_counter import FlopCounterMode

from vla.config import ModelConfig
from vla.model.batch import Batch
from vla.model.model import QDepthVLA

PEAKS = {
    r"NVIDIA B200": 2250,
    r"NVIDIA H200": 989,
    r"NVIDIA H[12]00 NVL": 835,
    r"NVIDIA H[18]00 80GB HBM3": 989,
    r"NVIDIA GH200 (480GB|144G HBM3e)": 989,
    r"NVIDIA H100 PCIe": 756,
    r"NVIDIA A[18]00[ -](SXM4-|PCIE-)?[48]0GB( PCIe)?": 312,
    r"NVIDIA A40": 150,
    r"NVIDIA A10": 125,
    r"NVIDIA L40S": 362,
    r"NVIDIA L40": 181,
    r"NVIDIA L4": 121,
    r"NVIDIA RTX 6000 Ada Generation": 364,
    r"NVIDIA RTX A6000": 155,
    r"NVIDIA GeForce RTX 5090": 209,
    r"NVIDIA GeForce RTX 4090": 165,
    r"NVIDIA GeForce RTX 3090": 71,
}
"""Dense bf16 TFLOP/s with float32 accumulation, from the vendors' data sheets, by device name."""


def peak_tflops(device: torch.device) -> float | None:
    """Peak TFLOP/s of a device; None if it is not in the table: CPUs, GPU partitions."""
    return _peak(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def _peak(name: str) -> float | None:
    return next((peak for kind, peak in PEAKS.items() if re.fullmatch(kind, name)), None)


def meta_batch(config: ModelConfig, batch: int = 1) -> Batch:
    """A batch on the meta device: shapes without data."""
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

    A training step takes about three times as many, or four with activation checkpointing.
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
