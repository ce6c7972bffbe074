"""SigLIP's image encoder: images to one token per patch.

Pixels are scaled to [-1, 1] (mean and standard deviation 0.5). There is no class token and no
pooling head; the output is that of the final LayerNorm.
"""

# B batch, T tokens (patches, row by row), W width (V where W is an image's), N heads

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.config import VisionConfig

NORM_EPS = 1e-6


class SiglipLayer(nn.Module):
    """Pre-norm attention and MLP, with biases."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.up = nn.Linear(width, config.mlp)
        self.down = nn.Linear(config.mlp, width)

    def forward(self, x_BTW: Float[Tensor, "B T W"]) -> Float[Tensor, "B T W"]:
        qkv = self.qkv(self.attention_norm(x_BTW))
        q, k, v = rearrange(qkv, "B T (three N H) -> three B N T H", three=3, N=self.heads)
        attended = F.scaled_dot_product_attention(q, k, v)
        x_BTW = x_BTW + self.out(rearrange(attended, "B N T H -> B T (N H)"))
        return x_BTW + self.down(F.gelu(self.up(self.mlp_norm(x_BTW)), approximate="tanh"))


class Siglip(nn.Module):
    """The encoder: patch embedding, position embedding, layers, final LayerNorm."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patches = nn.Linear(3 * config.patch**2, config.width)
        self.positions = nn.Parameter(torch.empty(config.grid**2, config.width))
        self.layers = nn.ModuleList(SiglipLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.recompute = False  # activation checkpointing

    def forward(self, images_BHW3: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B T V"]:
        patch = self.config.patch
        pixels = images_BHW3.to(self.positions.dtype) / 127.5 - 1
        rows = rearrange(pixels, "B (y p) (x q) c -> B (y x) (c p q)", p=patch, q=patch)
        x_BTW = self.patches(rows) + self.positions
        for layer in self.layers:
            if self.recompute and torch.is_grad_enabled():
                x_BTW = checkpoint(layer, x_BTW, use_reentrant=False)
            else:
                x_BTW = layer(x_BTW)
        return self.norm(x_BTW)
