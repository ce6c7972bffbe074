"""A Gemma decoder stack that also attends to keys and values computed earlier.

Conventions that are easy to get wrong: the norm multiplies by (1 + weight); RoPE rotates the two
halves of a head; queries are scaled by head_dim ** -0.5; all query heads share one key head.
"""

# B batch, T query tokens, S key tokens (earlier ones, then the stack's own), W model width
# N query heads, G key heads, H head width, F MLP width

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.config import ExpertConfig
from vla.model.block_attention import QueryRows, by_rows
from vla.model.normed import RmsNormed

NORM_EPS = 1e-6
Mask = Bool[Tensor, "b 1 T S"] | None | tuple[QueryRows, ...]


class KeyValues(NamedTuple):
    """Keys and values of one layer; RoPE is already applied to the keys."""

    k_BGSH: Float[Tensor, "B G S H"]
    v_BGSH: Float[Tensor, "B G S H"]

    def detach(self) -> KeyValues:
        """The same without gradient."""
        return KeyValues(self.k_BGSH.detach(), self.v_BGSH.detach())


def joined(parts: Sequence[KeyValues]) -> KeyValues:
    """Keys and values concatenated along the tokens."""
    if len(parts) == 1:
        return parts[0]
    return KeyValues(
        torch.cat([part.k_BGSH for part in parts], dim=2),
        torch.cat([part.v_BGSH for part in parts], dim=2),
    )


class GemmaNorm(nn.Module):
    """RMS norm times (1 + weight), in float32 or higher precision."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.fast_cpu = False  # see `train.fast_cpu`

    def forward(self, x: Float[Tensor, "... W"]) -> Float[Tensor, "... W"]:
        if self.fast_cpu and x.dtype == self.weight.dtype:
            return RmsNormed.apply(x, self.weight, NORM_EPS)
        fine = torch.promote_types(x.dtype, torch.float32)
        gain = 1 + self.weight.to(fine)
        return F.rms_norm(x.to(fine), gain.shape, gain, NORM_EPS).to(x.dtype)


class Rope(NamedTuple):
    """Cosines and sines of the rotation angles at every position."""

    cos_B1TH: Float[Tensor, "B 1 T H"]
    sin_B1TH: Float[Tensor, "B 1 T H"]

    @classmethod
    def at(cls, positions_BT: Int[Tensor, "B T"], head_dim: int, theta: float) -> Rope:
        """The angles at some positions."""
        steps = torch.arange(0, head_dim, 2, device=positions_BT.device).float() / head_dim
        angles = positions_BT[:, None, :, None].float() * theta**-steps
        angles = torch.cat([angles, angles], dim=-1)
        return cls(angles.cos(), angles.sin())

    def turn(self, x_BNTH: Float[Tensor, "B N T H"]) -> Float[Tensor, "B N T H"]:
        """Queries or keys, rotated by their angles."""
        first, second = x_BNTH.chunk(2, dim=-1)
        swapped = torch.cat([-second, first], dim=-1)
        return x_BNTH * self.cos_B1TH.to(x_BNTH) + swapped * self.sin_B1TH.to(x_BNTH)

    def signed(self) -> Rope:
        """With the sign of the swapped half in the sines, for `turn_once`."""
        half = self.sin_B1TH.shape[-1] // 2
        first, second = self.sin_B1TH.split([half, half], dim=-1)
        return Rope(self.cos_B1TH, torch.cat([-first, second], dim=-1))

    def turn_once(self, x_BNTH: Float[Tensor, "B N T H"]) -> Float[Tensor, "B N T H"]:
        """The same with fewer passes, by `signed` angles."""
        swapped = x_BNTH.roll(x_BNTH.shape[-1] // 2, dims=-1)
        return torch.addcmul(x_BNTH * self.cos_B1TH, swapped, self.sin_B1TH)


class GemmaLayer(nn.Module):
    """One layer, split in two, so that several experts can share one attention in between."""

    def __init__(self, config: ExpertConfig) -> None:
        super().__init__()
        self.heads, self.groups, self.head_dim = config.heads, config.kv_heads, config.head_dim
        width, inner = config.width, config.heads * config.head_dim
        self.attention_norm = GemmaNorm(width)
        self.qkv = nn.Linear(width, inner + 2 * self.groups * self.head_dim, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.mlp_norm = GemmaNorm(width)
        self.gate_up = nn.Linear(width, 2 * config.mlp, bias=False)
        self.down = nn.Linear(config.mlp, width, bias=False)
        self.fast = False  # see `train.fast`
        self.fast_cpu = False  # see `train.fast_cpu`

    def project(self, x_BTW: Tensor, rope: Rope) -> tuple[Tensor, KeyValues]:
        """Queries [B N T H] and this layer's own keys and values."""
        heads = rearrange(
            self.qkv(self.attention_norm(x_BTW)), "B T (n H) -> B n T H", H=self.head_dim
        )
        if self.fast_cpu:
            qk, v_BGTH = heads.split([self.heads + self.groups, self.groups], dim=1)
            q_BNTH, k_BGTH = rope.turn_once(qk).split([self.heads, self.groups], dim=1)
            return q_BNTH, KeyValues(k_BGTH, v_BGTH)
        q_BNTH, k_BGTH, v_BGTH = heads.split([self.heads, self.groups, self.groups], dim=1)
        return rope.turn(q_BNTH), KeyValues(rope.turn(k_BGTH), v_BGTH)

    def finish(self, x_BTW: Tensor, attended_BNTH: Tensor) -> Float[Tensor, "B T W"]:
        """The rest of the layer after attention."""
        x_BTW = x_BTW + self.out(rearrange(attended_BNTH, "B N T H -> B T (N H)"))
        gate_BTF, up_BTF = self._gate_and_up(self.mlp_norm(x_BTW))
        return x_BTW + self.down(F.gelu(gate_BTF, approximate="tanh") * up_BTF)

    def _gate_and_up(self, x_BTW: Tensor) -> Sequence[Tensor]:
        """Their gradients are joined before one product; if `fast`, each has its own."""
        if self.fast and type(self.gate_up) is nn.Linear:
            return [F.linear(x_BTW, half_FW) for half_FW in self.gate_up.weight.chunk(2)]
        return self.gate_up(x_BTW).chunk(2, dim=-1)

    def forward(
        self,
        x_BTW: Float[Tensor, "B T W"],
        rope: Rope,
        mask: Mask,
        past: KeyValues | None,
        only_keys: bool = False,
    ) -> tuple[Float[Tensor, "B T W"] | None, KeyValues]:
        """The layer's output (None with `only_keys`) and its own keys and values."""
        q_BNTH, own_kv = self.project(x_BTW, rope)
        if only_keys:
            return None, own_kv
        all_kv = joined([past, own_kv]) if past is not None else own_kv
        return self.finish(x_BTW, attention(q_BNTH, all_kv, mask)), own_kv


def attention(q_BNTH: Tensor, seen: KeyValues, mask: Mask) -> Float[Tensor, "B N T H"]:
    """One fused call; as several `QueryRows` if the mask is given so."""
    if isinstance(mask, tuple):
        return by_rows(q_BNTH, *seen, mask)
    heads = q_BNTH.shape[1]
    return F.scaled_dot_product_attention(
        q_BNTH, spread(seen.k_BGSH, heads), spread(seen.v_BGSH, heads), mask
    )


def spread(x_BGSH: Tensor, heads: int) -> Tensor:
    """Key heads repeated for the query heads that share them; no copy if there is only one."""
    groups = x_BGSH.shape[1]
    if groups == 1:
        return x_BGSH.expand(-1, heads, -1, -1)
    return x_BGSH.repeat_interleave(heads // groups, dim=1)


class Expert(nn.Module):
    """A stack of layers with its final norm."""

    def __init__(self, config: ExpertConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(GemmaLayer(config) for _ in range(config.layers))
        self.norm = GemmaNorm(config.width)
        self.recompute = False  # activation checkpointing
        self.fast = False  # see `train.fast`
        self.fast_cpu = False  # see `train.fast_cpu`

    def layer(self, index: int) -> GemmaLayer:
        """One of the layers."""
        layer = self.layers[index]
        assert isinstance(layer, GemmaLayer)
        return layer

    def rope(self, positions_BT: Int[Tensor, "B T"]) -> Rope:
        """The rotations for some positions, with this expert's head size and base."""
        return Rope.at(positions_BT, self.config.head_dim, self.config.rope_theta)

    def forward(
        self,
        x_BTW: Float[Tensor, "B T W"],
        positions_BT: Int[Tensor, "B T"],
        mask: Mask,
        past: Sequence[KeyValues] | None = None,
        only_keys: bool = False,
    ) -> tuple[Float[Tensor, "B T W"] | None, list[KeyValues]]:
        """The normalised output and every layer's own keys and values.

        With `only_keys` the last layer stops at its keys and values, which is all that later
        experts need of this one, and the output is None.
        """
        rope = self.rope(positions_BT)
        rope = rope.signed() if self.fast_cpu else rope
        layer_kvs: list[KeyValues] = []
        for index, layer in enumerate(self.layers):
            before = past[index] if past is not None else None
            stop = only_keys and index == len(self.layers) - 1
            if self.recompute and torch.is_grad_enabled():
                x_BTW, own_kv = checkpoint(
                    layer, x_BTW, rope, mask, before, stop, use_reentrant=False
                )
            else:
                x_BTW, own_kv = layer(x_BTW, rope, mask, before, stop)
            layer_kvs.append(own_kv)
        return (None if only_keys else self.norm(x_BTW)), layer_kvs
