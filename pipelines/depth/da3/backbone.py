"""The encoder of Depth Anything 3: DINOv2 as Video-Depth-Anything has it, with another last norm;
for the family of many views also rotary positions and a camera token from block 4 on.

Letters: N images, S tokens, D features, A attention heads.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pipelines.depth.da3.config import DA3Config
from pipelines.depth.da3.rope import Turn, grid_positions, one_position, turn_of, turned
from pipelines.depth.vida.config import PATCH
from pipelines.depth.vida.encoder import Attention, ImageEncoder, StreamNorm

EPSILON = 1e-5  # of the last norm, and of those of queries and keys
FIRST_TURNED = (
    4  # block from which on positions turn, and the camera token replaces the class token
)


class PlainBackbone(ImageEncoder):
    """The mono family's: taps after the last norm, without the class token."""

    def __init__(self, config: DA3Config) -> None:
        super().__init__(config)
        del self.mask_token
        self.norm = StreamNorm(config.dim, EPSILON)


class TurnedAttention(Attention):
    """Self-attention with normed and turned queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.q_norm = nn.LayerNorm(dim // heads, eps=EPSILON)
        self.k_norm = nn.LayerNorm(dim // heads, eps=EPSILON)
        self.turn: Turn | None = None  # of this call's grid

    def forward(self, x_NSD: Float[Tensor, "N S D"]) -> Float[Tensor, "N S D"]:
        assert self.turn is not None
        qkv = rearrange(self.qkv(x_NSD), "n s (three a d) -> three n a s d", three=3, a=self.heads)
        q_NASd, k_NASd, v_NASd = qkv.unbind(0)
        q_NASd = turned(self.q_norm(q_NASd), self.turn)
        k_NASd = turned(self.k_norm(k_NASd), self.turn)
        x_NASd = functional.scaled_dot_product_attention(q_NASd, k_NASd, v_NASd)
        return self.proj(rearrange(x_NASd, "n a s d -> n s (a d)"))


class ViewBackbone(PlainBackbone):
    """The family's for many views, with one: odd blocks from 5 on attend over all views, that is
    over this one, with all patches at one position; even ones within it, with their positions.

    A tap is twice as wide: what the last block within a view gave, as it is, and the current
    features after the last norm.
    """

    def __init__(self, config: DA3Config) -> None:
        super().__init__(config)
        self.camera_token = nn.Parameter(torch.zeros(1, 2, config.dim))  # first view, other views
        for block in self.blocks[FIRST_TURNED:]:
            block.attn = TurnedAttention(config.dim, config.heads)

    def forward(self, x_N3HW: Float[Tensor, "N 3 H W"]) -> list[Float[Tensor, "N S D2"]]:
        """The taps, with the camera token dropped."""
        rows, columns = (side // PATCH for side in x_N3HW.shape[-2:])
        x_NSD = self.patch_embed(x_N3HW)
        x_NSD = torch.cat((self.cls_token.expand(len(x_NSD), -1, -1), x_NSD), dim=1)
        x_NSD = x_NSD + self.positions(rows, columns)
        self._set_turns(rows, columns, x_N3HW.device)
        local, taps = x_NSD, []
        for index, block in enumerate(self.blocks):
            if index == FIRST_TURNED:
                camera = self.camera_token[:, :1].expand(len(x_NSD), -1, -1)
                x_NSD = torch.cat((camera.to(x_NSD.dtype), x_NSD[:, 1:]), dim=1)
            x_NSD = block(x_NSD)
            local = local if _over_views(index) else x_NSD
            if index in self.taps:
                taps.append(torch.cat((local[:, 1:], self.norm(x_NSD, first=1)), dim=2))
        return taps

    def _set_turns(self, rows: int, columns: int, device: torch.device) -> None:
        for index, block in enumerate(self.blocks):
            if isinstance(block.attn, TurnedAttention):
                positions = (one_position if _over_views(index) else grid_positions)(
                    rows, columns, device
                )
                width = block.attn.q_norm.normalized_shape[0]
                block.attn.turn = turn_of(positions, width)


def _over_views(index: int) -> bool:
    return index > FIRST_TURNED and index % 2 == 1
