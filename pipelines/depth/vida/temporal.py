"""The temporal modules (arXiv 2501.12375, section 3.1): every pixel attends over the frames.

Letters: B windows, T frames of a window (at most 32), C channels, P sequences (one per pixel).
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pipelines.depth.vida.config import WINDOW

HEADS = 8
GROUPS = 32  # groups of the group norm


class TemporalModule(nn.Module):
    """Mixes the features of a window over time, with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(channels)

    def forward(
        self, x_BTChw: Float[Tensor, "B T C h w"], slots: list[int] | None = None
    ) -> Float[Tensor, "B t C h w"]:
        """Attends to all frames; returns only those in `slots` (all by default)."""
        return self.temporal_transformer(x_BTChw, slots)


class TemporalTransformer(nn.Module):
    """Norm, projection in, one block, projection out, residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(channels)])
        self.proj_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj_out.weight)  # a fresh module is the identity
        nn.init.zeros_(self.proj_out.bias)

    def forward(
        self, x_BTChw: Float[Tensor, "B T C h w"], slots: list[int] | None
    ) -> Float[Tensor, "B t C h w"]:
        batch, _, _, height, _ = x_BTChw.shape
        x_PTC = rearrange(self.norm(x_BTChw.flatten(0, 1)), "(b t) c h w -> (b h w) t c", b=batch)
        x_PTC = self.proj_in(x_PTC)
        for block in self.transformer_blocks:
            x_PTC = block(x_PTC, slots)
        x_PTC = self.proj_out(x_PTC)
        mixed = rearrange(x_PTC, "(b h w) t c -> b t c h w", b=batch, h=height)
        return (x_BTChw if slots is None else x_BTChw[:, slots]) + mixed


class TemporalBlock(nn.Module):
    """Two attention layers and a gated feed-forward layer, each with a norm and a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList(TemporalAttention(channels) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.ff = FeedForward(channels)
        self.ff_norm = nn.LayerNorm(channels)

    def forward(
        self, x_PTC: Float[Tensor, "P T C"], slots: list[int] | None
    ) -> Float[Tensor, "P t C"]:
        first, second = self.attention_blocks
        x_PTC = x_PTC + first(self.norms[0](x_PTC), None)
        residual_PtC = x_PTC if slots is None else x_PTC[:, slots]
        x_PTC = residual_PtC + second(self.norms[1](x_PTC), slots)
        return x_PTC + self.ff(self.ff_norm(x_PTC))


class TemporalAttention(nn.Module):
    """Attention over time; the position encoding is added to queries, keys and values."""

    joined: Tensor | None = None  # the weights of all three in one, in half precision
    attention = "fused"  # one of `config.ATTENTIONS`

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pos_encoder = PositionCode(channels)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(
        self, x_PTC: Float[Tensor, "P T C"], slots: list[int] | None
    ) -> Float[Tensor, "P t C"]:
        x_PTC = self.pos_encoder(x_PTC)
        projected = self._projected(x_PTC, slots)
        if self.attention == "kernel":
            from pipelines.depth.vida.temporal_kernel import attend as by_kernel

            return self.to_out[0](by_kernel(*projected, HEADS))
        q, k, v = (rearrange(x, "p t (a c) -> p a t c", a=HEADS) for x in projected)
        explicit = self.attention == "explicit"
        attend = explicit_attention if explicit else functional.scaled_dot_product_attention
        return self.to_out[0](rearrange(attend(q, k, v), "p a t c -> p t (a c)"))

    def _projected(self, x_PTC: Tensor, slots: list[int] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (of `slots`), keys and values."""
        if slots is None and self.joined is not None:
            q, k, v = functional.linear(x_PTC, self.joined).chunk(3, dim=-1)
            return q, k, v
        asking = x_PTC if slots is None else x_PTC[:, slots]
        return self.to_q(asking), self.to_k(x_PTC), self.to_v(x_PTC)


def explicit_attention(
    q_PATc: Float[Tensor, "P A t c"],
    k_PATc: Float[Tensor, "P A T c"],
    v_PATc: Float[Tensor, "P A T c"],
) -> Float[Tensor, "P A t c"]:
    """Attention of few frames, 8 to 128 wide. Fused kernels work in tiles of 64 x 128; here the
    products have their true size, and compiled the softmax is one pass, in float32."""
    scores = (q_PATc * q_PATc.shape[-1] ** -0.5) @ k_PATc.mT
    return scores.softmax(dim=-1, dtype=torch.float32).to(v_PATc.dtype) @ v_PATc


class PositionCode(nn.Module):
    """The sinusoidal encoding of "Attention is all you need", per slot; stored in checkpoints."""

    pe: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rate = torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels))
        angle = torch.arange(WINDOW)[:, None] * rate
        code = torch.stack((angle.sin(), angle.cos()), dim=-1).reshape(1, WINDOW, channels)
        self.register_buffer("pe", code)

    def forward(self, x_PTC: Float[Tensor, "P T C"]) -> Float[Tensor, "P T C"]:
        return x_PTC + self.pe[:, : x_PTC.shape[1]]


class FeedForward(nn.Module):
    """GEGLU (arXiv 2002.05202), with four times the width inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.ModuleList(
            [GatedLinear(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)]
        )

    def forward(self, x_PTC: Float[Tensor, "P T C"]) -> Float[Tensor, "P T C"]:
        gated, _, out = self.net
        return out(gated(x_PTC))


class GatedLinear(nn.Module):
    """One half of a projection times the GELU of the other half."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inside, 2 * outside)

    def forward(self, x_PTC: Float[Tensor, "P T C"]) -> Float[Tensor, "P T c"]:
        value, gate = self.proj(x_PTC).chunk(2, dim=-1)
        return value * functional.gelu(gate)
