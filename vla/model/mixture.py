"""The mixture of transformers: several experts, one attention.

The masks in use are block-triangular over the experts, so the experts run one after another and
later ones attend to the earlier ones' keys and values, layer by layer, with gradient
(`sequential`). That equals one joint attention and costs less. `joint` is that joint attention: the
reference in the tests, and the way to study any other `SeesTable` or to add biases.
"""

# B batch, T tokens of one stream, Z tokens of all streams, S key tokens, N heads, H head width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthtok.errors import ConfigError
from vla.model.block_attention import rows
from vla.model.gemma import Expert, KeyValues, Mask, joined, spread
from vla.model.masks import Layout, SeesTable, visible


@dataclass(frozen=True)
class TokenStream:
    """The tokens that one expert processes."""

    expert: str
    x_BTW: Float[Tensor, "B T W"]
    positions_BT: Int[Tensor, "B T"]
    layout: Layout


@dataclass(frozen=True)
class Context:
    """Keys and values of every layer of earlier experts, for later experts to attend to."""

    layers: tuple[KeyValues, ...]
    layout: Layout

    def detach(self) -> Context:
        """The same without gradient."""
        return Context(tuple(layer.detach() for layer in self.layers), self.layout)

    def __add__(self, other: Context) -> Context:
        pairs = zip(self.layers, other.layers, strict=True)
        return Context(tuple(joined(pair) for pair in pairs), self.layout + other.layout)


@overload
def run(
    expert: Expert,
    stream: TokenStream,
    table: SeesTable,
    context: Context | None = None,
    only_keys: Literal[False] = False,
) -> tuple[Float[Tensor, "B T W"], Context]: ...


@overload
def run(
    expert: Expert,
    stream: TokenStream,
    table: SeesTable,
    context: Context | None,
    only_keys: Literal[True],
) -> tuple[None, Context]: ...


def run(
    expert: Expert,
    stream: TokenStream,
    table: SeesTable,
    context: Context | None = None,
    only_keys: bool = False,
) -> tuple[Float[Tensor, "B T W"] | None, Context]:
    """Runs one expert on its stream with `context`; returns its output and its own context."""
    keys = context.layout + stream.layout if context else stream.layout
    if expert.fast:
        mask: Mask = rows(
            table, stream.layout, keys, expert.config.heads // expert.config.kv_heads, stream.x_BTW
        )
    else:
        mask = visible(table, stream.layout, keys, stream.x_BTW.device)
    past = context.layers if context else None
    x_BTW, own_layers = expert(stream.x_BTW, stream.positions_BT, mask, past, only_keys)
    return x_BTW, Context(tuple(own_layers), stream.layout)


def check_order(table: SeesTable, streams: Sequence[Layout]) -> None:
    """Raises `ConfigError` if a stream would have to attend to a later one."""
    for index, early in enumerate(streams):
        for late in streams[index + 1 :]:
            for query, _ in early.blocks:
                for key, _ in late.blocks:
                    if table.sees(query, key):
                        raise ConfigError(
                            f"{query} attends to {key}, which is computed after it",
                            remedy="use the joint attention for such a mask",
                        )


def sequential(
    experts: Mapping[str, Expert], streams: Sequence[TokenStream], table: SeesTable
) -> dict[str, Float[Tensor, "B T W"]]:
    """The outputs of all experts, computed one after another."""
    check_order(table, [stream.layout for stream in streams])
    outputs: dict[str, Tensor] = {}
    context: Context | None = None
    for stream in streams:
        x_BTW, own_context = run(experts[stream.expert], stream, table, context)
        outputs[stream.expert] = x_BTW
        context = context + own_context if context else own_context
    return outputs


def joint(
    experts: Mapping[str, Expert],
    streams: Sequence[TokenStream],
    table: SeesTable,
    *,
    bias: Float[Tensor, "Z Z"] | None = None,
    soft_cap: float = 0.0,
    wanted: Sequence[str] | None = None,
) -> dict[str, Float[Tensor, "B T W"]]:
    """The outputs of the experts `wanted` (None: all) through one attention over all tokens, with
    any table and any bias."""
    layout = streams[0].layout
    for stream in streams[1:]:
        layout = layout + stream.layout
    mask = visible(table, layout, layout, streams[0].x_BTW.device)
    turned = {s.expert: experts[s.expert].rope(s.positions_BT) for s in streams}
    xs = {s.expert: s.x_BTW for s in streams}
    for index in range(len(experts[streams[0].expert].layers)):
        layers = {name: experts[name].layer(index) for name in xs}
        projected = [layers[name].project(x, turned[name]) for name, x in xs.items()]
        q_BNZH = torch.cat([q for q, _ in projected], dim=2)
        attended = eager_attention(
            q_BNZH, joined([kv for _, kv in projected]), mask, bias, soft_cap
        )
        parts = attended.split([len(stream.layout) for stream in streams], dim=2)
        last = index == len(experts[streams[0].expert].layers) - 1
        xs = {
            name: layers[name].finish(x, part)
            for (name, x), part in zip(xs.items(), parts, strict=True)
            if not (last and wanted is not None and name not in wanted)
        }
    return {name: experts[name].norm(x) for name, x in xs.items()}


def eager_attention(
    q_BNTH: Tensor,
    seen: KeyValues,
    mask: Tensor | None,
    bias: Tensor | None = None,
    soft_cap: float = 0.0,
) -> Float[Tensor, "B N T H"]:
    """Attention step by step: scores, cap, bias, mask, softmax, sum."""
    heads = q_BNTH.shape[1]
    scores = q_BNTH @ spread(seen.k_BGSH, heads).transpose(-1, -2) * q_BNTH.shape[-1] ** -0.5
    if soft_cap:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    fine = torch.promote_types(scores.dtype, torch.float32)
    return scores.to(fine).softmax(dim=-1).to(scores.dtype) @ spread(seen.v_BGSH, heads)
