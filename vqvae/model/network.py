"""Encoder and decoder: norm-free convolutions, so that a code depends only on its surroundings, not
on the rest of the image or the batch.

Shapes: B images, H W px, h w cells, D channels of a latent.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vqvae.config import NetworkConfig


class Pointwise(nn.Conv2d):
    """A 1x1 convolution as one matrix product: a third faster on a CPU with channels last."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(inner, outer, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        return functional.linear(x_BHWC, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.first, self.second = (
            Pointwise(width, width)
            if kernel == 1
            else nn.Conv2d(width, width, kernel, padding=kernel // 2)
            for _ in range(2)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner = self.first(functional.relu(x_BCHW))
        return self.second(functional.relu(inner, inplace=True)).add_(x_BCHW)


class Encoder(nn.Module):
    """Normalised disparity to one latent per cell: a strided stem, stride-2 stages, res-blocks.

    The blocks process each cell separately (1x1), so that a latent's receptive field is its cell
    and slightly less than a cell around it: motion farther away cannot change its code.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths = _widths(config, config.width)
        stem = config.stem
        layers: list[nn.Module] = [
            nn.Conv2d(1, widths[0], 2 * stem, stride=stem, padding=stem // 2),
            nn.ReLU(inplace=True),
        ]
        for few, many in pairwise(widths):
            layers += [nn.Conv2d(few, many, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        layers += [ResBlock(config.width, kernel=1) for _ in range(config.encoder_blocks)]
        layers += [Pointwise(widths[-1], config.dim)]
        self.layers = nn.Sequential(*layers)
        self.latent_norm = config.latent_norm

    def forward(self, x_B1HW: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B h w D"]:
        z = self.layers(x_B1HW).permute(0, 2, 3, 1).float()
        return functional.layer_norm(z, z.shape[-1:]) if self.latent_norm else z


class Decoder(nn.Module):
    """Code vectors to normalised disparity: res-blocks at the grid, transposed convolutions, and
    a pixel shuffle for the last factor `stem`."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths = _widths(config, config.decoder_width)[::-1]
        layers: list[nn.Module] = [nn.Conv2d(config.dim, widths[0], 3, padding=1)]
        layers += [ResBlock(widths[0], kernel=3) for _ in range(config.decoder_blocks)]
        layers += [nn.ReLU(inplace=True)]
        for many, few in pairwise(widths):
            layers += [nn.ConvTranspose2d(many, few, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(widths[-1], config.stem**2, 3, padding=1)]
        layers += [nn.PixelShuffle(config.stem)]
        self.layers = nn.Sequential(*layers)

    def forward(self, vectors_BhwD: Float[Tensor, "B h w D"]) -> Float[Tensor, "B 1 H W"]:
        return self.layers(vectors_BhwD.permute(0, 3, 1, 2)).float()


def _widths(config: NetworkConfig, coarsest: int) -> list[int]:
    """Channels per stage from the stem's resolution to the grid's: halved at finer stages."""
    stages = int(math.log2(config.cell // config.stem))
    return [max(coarsest >> (stages - i), 1) for i in range(stages + 1)]


def build(config: NetworkConfig, seed: int) -> tuple[Encoder, Decoder]:
    """Both networks with weights drawn from `seed`; the global random state is unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(config), Decoder(config)
