"""Low-rank adapters (LoRA): pretrained layers stay frozen, a low-rank update of each is trained.

Only SigLIP and Gemma get them: the action and depth experts are trained in full from scratch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vla.model.model import QDepthVLA

TARGETS = ("qkv", "out", "gate_up", "up", "down")


class LoraLinear(nn.Module):
    """W x + b + (alpha / rank) B A x: W and b frozen, A random and B zero at the start.

    `weight` and `bias` keep their names from the plain layer.
    """

    def __init__(self, plain: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        outputs, inputs = plain.weight.shape
        self.lora_down = nn.Parameter(plain.weight.new_empty(rank, inputs))
        self.lora_up = nn.Parameter(plain.weight.new_zeros(outputs, rank))
        self.scale = alpha / rank

    def forward(self, x: Float[Tensor, "... X"]) -> Float[Tensor, "... Y"]:
        change = F.linear(F.linear(x, self.lora_down), self.lora_up)
        return F.linear(x, self.weight, self.bias) + self.scale * change

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """An equivalent plain layer."""
        outputs, inputs = self.weight.shape
        with torch.device("meta"):
            plain = nn.Linear(inputs, outputs, bias=self.bias is not None)
        plain.weight = nn.Parameter(self.weight + self.scale * self.lora_up @ self.lora_down)
        plain.bias = self.bias
        return plain


def add(model: QDepthVLA, rank: int, alpha: float, seed: int) -> None:
    """Adds adapters to SigLIP's and Gemma's layers; the model's outputs do not change yet."""
    generator = torch.Generator().manual_seed(seed)
    for layer in (*model.vision.layers, *model.vlm.layers):
        for name, plain in list(layer.named_children()):
            if name in TARGETS:
                adapter = LoraLinear(plain, rank, alpha)
                if not adapter.lora_down.is_meta:
                    spread = plain.in_features**-0.5
                    nn.init.normal_(adapter.lora_down, std=spread, generator=generator)
                setattr(layer, name, adapter)


def merge(model: QDepthVLA) -> None:
    """Merges all adapters into their layers' weights, which gives a plain model again."""
    for layer in (*model.vision.layers, *model.vlm.layers):
        for name, module in list(layer.named_children()):
            if isinstance(module, LoraLinear):
                setattr(layer, name, module.merged())


def freeze(model: QDepthVLA) -> None:
    """Freezes all pretrained weights except the adapters."""
    for part in (model.vision, model.projector, model.embed, model.vlm):
        part.requires_grad_(False)
        for name, weight in part.named_parameters():
            if "lora_" in name:
                weight.requires_grad_(True)
