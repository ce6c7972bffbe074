"""The tokeniser as one module: encoder, quantiser, decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vqvae.config import NetworkConfig, QuantizerConfig
from vqvae.model import network, quantizer


@dataclass(frozen=True)
class Pass:
    """The result of a forward pass."""

    reconstruction: Float[Tensor, "B 1 H W"]  # normalised disparity
    latents: Float[Tensor, "B h w D"]
    codes: Int64[Tensor, "B h w"] | None  # None before the quantiser is initialised
    loss: Float[Tensor, ""]  # the quantiser's loss


class Tokeniser(nn.Module):
    """Normalised disparity [B 1 H W] to codes and back. H and W: any multiples of the cell."""

    def __init__(self, shape: NetworkConfig, quantiser: QuantizerConfig, seed: int) -> None:
        super().__init__()
        self.encoder, self.decoder = network.build(shape, seed)
        self.quantizer = quantizer.build(quantiser, shape.dim, seed + 1)

    def forward(self, images: Float[Tensor, "B 1 H W"]) -> Pass:
        latents = self.encoder(images)
        with torch.autocast(images.device.type, enabled=False):
            quantized = self.quantizer(latents)
        images = self.decoder(quantized.vectors)
        return Pass(images, latents, quantized.codes, quantized.loss)
