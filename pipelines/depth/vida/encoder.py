"""DINOv2, as Video-Depth-Anything uses it (arXiv 2304.07193; official state-dict names).

Letters: N images, S patches (h rows of w), D features, A attention heads.

In half precision (`halved.py`) the layers are half and the residual stream x_NSD stays float32: a
trained DINOv2 has activations that float16 would round away or overflow.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pipelines.depth.vida.config import PATCH, ViDAConfig

TABLE_OFFSET = 0.1  # as upstream, in patches; it shifts the sampling grid and so the values


class ImageEncoder(nn.Module):
    """The encoder: an image to the features of four of its blocks."""

    def __init__(self, config: ViDAConfig) -> None:
        super().__init__()
        self.taps = config.taps
        self.side = config.table
        self.patch_embed = PatchEmbedding(config.dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.table**2, config.dim))
        self.mask_token = nn.Parameter(torch.zeros(1, config.dim))  # in the checkpoint, unused here
        self.blocks = nn.ModuleList(Block(config.dim, config.heads) for _ in range(config.depth))
        self.norm = StreamNorm(config.dim)

    def forward(self, x_N3HW: Float[Tensor, "N 3 H W"]) -> list[Float[Tensor, "N S D"]]:
        """The tapped blocks' outputs after the shared final norm, without the class token."""
        x_NSD = self.patch_embed(x_N3HW)
        rows, columns = (side // PATCH for side in x_N3HW.shape[-2:])
        x_NSD = torch.cat((self.cls_token.expand(len(x_NSD), -1, -1), x_NSD), dim=1)
        x_NSD = x_NSD + self.positions(rows, columns)
        taps = []
        for index, block in enumerate(self.blocks):
            x_NSD = block(x_NSD)
            if index in self.taps:
                taps.append(self.norm(x_NSD, first=1))
        return taps

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 positions D"]:
        """The position table for a grid of patches, class token first.

        Bicubic, and scaled by (rows + 0.1) / side rather than to `rows`, as upstream: the factor
        sets the sampling grid, so that it matters at every size except the table's own.
        """
        if rows == columns == self.side:
            return self.pos_embed
        grid = rearrange(
            self.pos_embed[:, 1:].float(), "1 (h w) d -> 1 d h w", h=self.side, w=self.side
        )
        factors = ((rows + TABLE_OFFSET) / self.side, (columns + TABLE_OFFSET) / self.side)
        grid = functional.interpolate(grid, scale_factor=factors, mode="bicubic")
        grid = rearrange(grid, "1 d h w -> 1 (h w) d")
        return torch.cat((self.pos_embed[:, :1], grid.to(self.pos_embed.dtype)), dim=1)


class StreamNorm(nn.LayerNorm):
    """A norm of the residual stream. It is float32 in any precision, as the stream is; its result
    has the dtype of the layers that read it."""

    result: torch.dtype = torch.float32

    def __init__(self, dim: int, epsilon: float = 1e-6) -> None:
        super().__init__(dim, eps=epsilon)

    def forward(self, x_NSD: Float[Tensor, "N S D"], first: int = 0) -> Float[Tensor, "N s D"]:
        """The norm of all positions; those from `first` on are returned."""
        return super().forward(x_NSD)[:, first:].to(self.result)


class PatchEmbedding(nn.Module):
    """Patches of 14 x 14 px to feature vectors, row by row."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)

    def forward(self, x_N3HW: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N S D"]:
        if self.proj.weight.dtype is torch.float32:
            return self.proj(x_N3HW).flatten(2).transpose(1, 2)
        return self._product(x_N3HW)

    def _product(self, x_N3HW: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N S D"]:
        """The same as one matrix product: half-precision convolutions are slow on three channels.
        The patches are cut, and rounded, by one copy."""
        split = rearrange(x_N3HW, "n c (h p) (w q) -> n h w p q c", p=PATCH, q=PATCH)
        weight = self.proj.weight.permute(0, 2, 3, 1).flatten(1)  # a view: its channels are last
        patches = split.to(weight.dtype, memory_format=torch.contiguous_format)
        patches = rearrange(patches, "n h w p q c -> n (h w) (p q c)")
        return functional.linear(patches, weight, self.proj.bias)


class Block(nn.Module):
    """Pre-norm transformer block with a learned scale on each branch (LayerScale)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = StreamNorm(dim)
        self.attn = Attention(dim, heads)
        self.ls1 = LayerScale(dim)
        self.norm2 = StreamNorm(dim)
        self.mlp = MLP(dim)
        self.ls2 = LayerScale(dim)

    def forward(self, x_NSD: Float[Tensor, "N S D"]) -> Float[Tensor, "N S D"]:
        x_NSD = torch.addcmul(x_NSD, self.attn(self.norm1(x_NSD)), self.ls1.gamma)
        return torch.addcmul(x_NSD, self.mlp(self.norm2(x_NSD)), self.ls2.gamma)


class LayerScale(nn.Module):
    """The scale of one residual branch, per feature."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_NSD: Float[Tensor, "N S D"]) -> Float[Tensor, "N S D"]:
        qkv = rearrange(self.qkv(x_NSD), "n s (three a d) -> three n a s d", three=3, a=self.heads)
        x_NASd = functional.scaled_dot_product_attention(*qkv.unbind(0))
        return self.proj(rearrange(x_NASd, "n a s d -> n s (a d)"))


class MLP(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x_NSD: Float[Tensor, "N S D"]) -> Float[Tensor, "N S D"]:
        return self.fc2(functional.gelu(self.fc1(x_NSD)))
