"""The transformer blocks of GemDepth, with their official names.

All are pre-norm. They differ in whether queries and keys have a norm of their own, whether these
are turned by their position, and whether a branch has a learned scale. The residual stream is
float32 in any precision.

Letters: N sequences, S tokens, Q of which ask, D features, A heads, d features of a head.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pipelines.depth.gem.attention import attend, rotated
from pipelines.depth.vida.encoder import MLP, LayerScale, StreamNorm

Turn = tuple[Tensor, Tensor] | None
"""Cosine and sine by position, as `attention.rotation` gives them; None for no positions."""


class TokenAttention(nn.Module):
    """Self-attention. With `normed`, queries and keys have a norm in each head."""

    def __init__(self, dim: int, heads: int, *, normed: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(dim // heads, eps=1e-5) if normed else nn.Identity()
        self.k_norm = nn.LayerNorm(dim // heads, eps=1e-5) if normed else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_NSD: Float[Tensor, "N S D"], turn: Turn = None) -> Float[Tensor, "N S D"]:
        q, k, v = (self._by_head(part) for part in self.qkv(x_NSD).chunk(3, dim=-1))
        q, k = self.q_norm(q), self.k_norm(k)
        if turn is not None:
            q, k = rotated(q, turn), rotated(k, turn)
        return self._mixed(q, k, v)

    def _by_head(self, x_NSD: Float[Tensor, "N S D"]) -> Float[Tensor, "N S A d"]:
        return rearrange(x_NSD, "n s (a d) -> n s a d", a=self.heads)

    def _mixed(
        self,
        q_NQAd: Float[Tensor, "N Q A d"],
        k_NSAd: Float[Tensor, "N S A d"],
        v_NSAd: Float[Tensor, "N S A d"],
    ) -> Float[Tensor, "N Q D"]:
        q, k, v = (x.transpose(1, 2) for x in (q_NQAd, k_NSAd, v_NSAd))
        return self.proj(attend(q, k, v))


class TokenBlock(nn.Module):
    """Attention and an MLP, each after a norm and with a residual; `scaled`: with LayerScale."""

    def __init__(
        self, dim: int, heads: int, *, eps: float, normed: bool = False, scaled: bool = True
    ) -> None:
        super().__init__()
        self.norm1 = StreamNorm(dim, eps)
        self.attn = TokenAttention(dim, heads, normed=normed)
        self.norm2 = StreamNorm(dim, eps)
        self.mlp = MLP(dim)
        self.ls1 = LayerScale(dim) if scaled else None
        self.ls2 = LayerScale(dim) if scaled else None

    def forward(self, x_NSD: Float[Tensor, "N S D"], turn: Turn = None) -> Float[Tensor, "N S D"]:
        x_NSD = _added(x_NSD, self.attn(self.norm1(x_NSD), turn), self.ls1)
        return _added(x_NSD, self.mlp(self.norm2(x_NSD)), self.ls2)


class PrunedBlock(TokenBlock):
    """A block of whose output only every n-th token is used: the others are asked, but do not ask.

    What is left out is exact: queries, projection and MLP of a token have no effect on another one.
    """

    def __init__(self, dim: int, heads: int, *, eps: float) -> None:
        super().__init__(dim, heads, eps=eps)
        self.attn = PrunedAttention(dim, heads, normed=True)

    def forward(
        self, x_NSD: Float[Tensor, "N S D"], turn: Turn = None, every: int = 1
    ) -> Float[Tensor, "N Q D"]:
        normed = self.norm1(x_NSD)
        x_NQD = _added(x_NSD[:, ::every], self.attn(normed, turn, every), self.ls1)
        return _added(x_NQD, self.mlp(self.norm2(x_NQD)), self.ls2)


class PrunedAttention(TokenAttention):
    """Attention in which every n-th token asks. These are turned by nothing: position (0, 0)."""

    def __init__(self, dim: int, heads: int, *, normed: bool) -> None:
        super().__init__(dim, heads, normed=normed)
        self.qkv: CutLinear = CutLinear(dim, 3 * dim)

    def forward(
        self, x_NSD: Float[Tensor, "N S D"], turn: Turn = None, every: int = 1
    ) -> Float[Tensor, "N Q D"]:
        dim = x_NSD.shape[-1]
        q = self.q_norm(self._by_head(self.qkv.part(x_NSD[:, ::every], 0, dim)))
        keys_and_values = self.qkv.part(x_NSD, dim, 3 * dim).chunk(2, dim=-1)
        k, v = (self._by_head(part) for part in keys_and_values)
        k = self.k_norm(k)
        return self._mixed(q, k if turn is None else rotated(k, turn), v)


class CutLinear(nn.Linear):
    """A linear layer of whose outputs some are computed; so its weights are not packed."""

    def part(self, x: Float[Tensor, "N S D"], start: int, stop: int) -> Float[Tensor, "N S d"]:
        """The outputs from `start` to `stop`."""
        return functional.linear(x, self.weight[start:stop], self.bias[start:stop])


def _added(
    x_NSD: Float[Tensor, "N S D"], branch: Float[Tensor, "N S D"], scale: LayerScale | None
) -> Float[Tensor, "N S D"]:
    return x_NSD + branch if scale is None else torch.addcmul(x_NSD, branch, scale.gamma)
