"""The attention mask, verified on the running model: which blocks influence which.

A table says which block attends to which; this measures it. `gradient[q][k]` is the largest
gradient of any output of block q with respect to any input of block k, through all layers of the
training path: exactly zero where the mask forbids it. `attention[q][k]` is the share of q's
attention on k, averaged over queries, heads and layers.
"""

# B batch, T tokens, Z tokens of all streams, N heads

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla.config import Config, ExpertConfig, ModelConfig, VisionConfig
from vla.model import mixture
from vla.model.batch import Observation
from vla.model.gemma import joined
from vla.model.masks import BLOCKS, Layout, SeesTable, visible
from vla.model.mixture import TokenStream
from vla.model.model import QDepthVLA, build

Table = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Proof:
    """The table and both measurements."""

    table: SeesTable
    gradient: Table
    attention: Table
    visible: Bool[np.ndarray, "Z Z"]  # token by token
    blocks: Mapping[str, int]  # tokens in each block, in order

    def violations(self) -> list[str]:
        """Pairs with a gradient that the table forbids, or without one that it allows."""
        lines = []
        for query, row in self.gradient.items():
            for key, value in row.items():
                if (value > 0) != self.table.reaches(query, key):
                    what = "reaches" if value > 0 else "does not reach"
                    lines.append(f"{key} {what} {query} ({value:g})")
        return lines


def prove(config: Config, seed: int = 0) -> Proof:
    """Measures a configuration on a fresh model in float64 and one random observation."""
    model = build(config.model, seed).double()
    torch.manual_seed(seed)
    streams = _streams(model, _observation(config.model))
    gradient, attention = _gradients(model, streams), _attention(model, streams)
    layout = _layout(streams)
    mask = visible(model.table, layout, layout, streams[0].x_BTW.device)
    mask_ZZ = np.ones((len(layout), len(layout)), bool) if mask is None else mask[0, 0].numpy()
    return Proof(model.table, gradient, attention, mask_ZZ, dict(layout.blocks))


def shrunk(model: ModelConfig) -> ModelConfig:
    """The same mask and kinds of tokens in a model of a few thousand weights: visibility does not
    depend on widths, and a full model in float64 would take 28 GB."""
    vision = VisionConfig(image_size=16, patch=4, width=16, layers=1, heads=1, mlp=16)
    expert = ExpertConfig(width=16, mlp=16, layers=3, heads=2, kv_heads=1, head_dim=8)
    depth = replace(model.depth, grid=4, codes=8, code_dim=4)
    model = replace(model, vocabulary=16, max_text=min(model.max_text, 8))
    model = replace(model, vlm=expert, action=expert, depth_expert=expert)
    return replace(model, vision=vision, depth=depth)


def _observation(model: ModelConfig) -> Observation:
    size = model.vision.image_size
    return Observation(
        torch.randint(0, 256, (1, model.cameras, size, size, 3), dtype=torch.uint8),
        torch.randint(0, model.vocabulary, (1, model.max_text)),
        torch.ones(1, model.max_text, dtype=torch.bool),
        torch.randn(1, model.proprio_dim, dtype=torch.float64),
    )


def _streams(model: QDepthVLA, observation: Observation) -> list[TokenStream]:
    vision_BTV = model.see(observation)
    actions = torch.randn(1, model.config.chunk, model.config.action_dim, dtype=torch.float64)
    time_B = torch.full((1,), 0.5, dtype=torch.float64)
    streams = [model.prefix(observation, vision_BTV)]
    if model.config.depth.expert:
        streams.append(model.depth_stream(vision_BTV))
    streams.append(model.action_stream(actions, time_B, observation.proprio_BP))
    return [
        TokenStream(s.expert, s.x_BTW.detach().requires_grad_(), s.positions_BT, s.layout)
        for s in streams
    ]


def _layout(streams: list[TokenStream]) -> Layout:
    layout = streams[0].layout
    for stream in streams[1:]:
        layout = layout + stream.layout
    return layout


def _gradients(model: QDepthVLA, streams: list[TokenStream]) -> Table:
    outputs = mixture.sequential(model.experts(), streams, model.table)
    inputs = [stream.x_BTW for stream in streams]
    largest: dict[str, dict[str, float]] = {}
    for stream in streams:
        for query, _ in stream.layout.blocks:
            part = outputs[stream.expert][:, stream.layout.span(query)]
            grads = torch.autograd.grad(
                (part * torch.randn_like(part)).sum(), inputs, retain_graph=True, allow_unused=True
            )
            largest[query] = {
                key: 0.0 if grad is None else grad[:, s.layout.span(key)].abs().max().item()
                for s, grad in zip(streams, grads, strict=True)
                for key, _ in s.layout.blocks
            }
    return _ordered(largest)


@torch.no_grad()
def _attention(model: QDepthVLA, streams: list[TokenStream]) -> Table:
    """Attention shares from a second joint pass, which keeps the attention weights."""
    experts, layout = model.experts(), _layout(streams)
    mask = visible(model.table, layout, layout, streams[0].x_BTW.device)
    ropes = [experts[s.expert].rope(s.positions_BT) for s in streams]
    xs = [s.x_BTW for s in streams]
    total_ZZ = xs[0].new_zeros(len(layout), len(layout))
    depth = len(model.vlm.layers)
    for index in range(depth):
        layers = [experts[s.expert].layer(index) for s in streams]
        projected = [
            layer.project(x, rope) for layer, x, rope in zip(layers, xs, ropes, strict=True)
        ]
        queries = torch.cat([q for q, _ in projected], dim=2)
        all_kv = joined([kv for _, kv in projected])
        total_ZZ += _shares(queries, all_kv.k_BGSH, mask) / depth
        attended = mixture.eager_attention(queries, all_kv, mask)
        parts = attended.split([len(s.layout) for s in streams], dim=2)
        xs = [layer.finish(x, part) for layer, x, part in zip(layers, xs, parts, strict=True)]
    blocks = [name for name, _ in layout.blocks]
    return _ordered(
        {
            query: {
                key: total_ZZ[layout.span(query), layout.span(key)].sum(dim=1).mean().item()
                for key in blocks
            }
            for query in blocks
        }
    )


def _shares(q_BNZH: Tensor, k_BGZH: Tensor, mask: Tensor | None) -> Float[Tensor, "Z Z"]:
    """Attention weights, averaged over batch and heads."""
    keys = k_BGZH.repeat_interleave(q_BNZH.shape[1] // k_BGZH.shape[1], dim=1)
    scores = q_BNZH @ keys.transpose(-1, -2) * q_BNZH.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1).mean(dim=(0, 1))


def _ordered(values: Mapping[str, Mapping[str, float]]) -> Table:
    return {q: {k: values[q][k] for k in BLOCKS if k in values} for q in BLOCKS if q in values}
