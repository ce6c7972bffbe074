"""Sampling actions in few launches: the same function as `QDepthVLA.sample`.

At batch 1 a GPU waits for launches, not for arithmetic. So here the gains of norms are folded into
the weights behind them, angles, masks and the embeddings of the Euler steps' times are made once,
queries and keys are rotated together, keys and values are written straight into one buffer, and
residuals are added by the product that makes them.

A layer's attention is two products with the one key head; its softmax computes in float32.
Training, and float32 on a CPU, use the plain path.
"""

# B batch, T query tokens, S key rows (a multiple of 8), N query heads, H head width, W model width
# C chunk, A action dimensions, L text tokens, E Euler steps

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.config import ModelConfig
from vla.model import flow
from vla.model.batch import Observation
from vla.model.gemma import NORM_EPS, Expert, GemmaNorm, Rope
from vla.model.masks import Layout, visible
from vla.model.model import ActionDoor, QDepthVLA

VERSIONS = 64  # of one compiled part in a process
ALIGNED = 8  # rows: a matrix product of bfloat16 wants lines of 16 bytes


class Turn(NamedTuple):
    """Cosines, and sines whose first half is negated; values (the second of `both`) stay."""

    cos_T1H: Float[Tensor, "T 1 H"]
    sin_T1H: Float[Tensor, "T 1 H"]
    cos_both_T2H: Float[Tensor, "T 2 H"]
    sin_both_T2H: Float[Tensor, "T 2 H"]

    @classmethod
    def of(cls, rope: Rope, dtype: torch.dtype) -> Turn:
        """The angles of a stream's positions, which are those of every sample."""
        cos, sin = (part[0, 0][:, None].to(dtype) for part in rope)
        half = sin.shape[-1] // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        both = torch.cat([cos, torch.ones_like(cos)], 1), torch.cat([sin, torch.zeros_like(sin)], 1)
        return cls(cos, sin, *both)


@dataclass(frozen=True)
class Place:
    """One expert's tokens among the rows of the buffer of keys and values."""

    expert: Expert
    turn: Turn
    start: int
    mask_TS: Float[Tensor, "T S"]  # 0, or -inf where a token does not see

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + len(self.mask_TS))


class Entrance(NamedTuple):
    """`ActionDoor.mix` of embedded actions and times as one product with the actions, and what is
    added at the time of each Euler step; float32."""

    entry_AW: Float[Tensor, "A W"]
    moments_EW: Float[Tensor, "E W"]

    @classmethod
    def of(cls, door: ActionDoor) -> Entrance:
        """Computed in float64."""
        width, steps = door.action_in.out_features, door.config.flow.euler_steps
        of_action, of_time = door.mix.weight.double().split(width, dim=1)
        times = torch.tensor([step / steps for step in range(steps)], device=of_time.device)
        embedded = flow.embed_time(times, width, door.config.flow.time_period).double()
        always = door.mix.bias.double() + of_action @ door.action_in.bias.double()
        entry = (of_action @ door.action_in.weight.double()).t()
        return cls(entry.float().contiguous(), (embedded @ of_time.t() + always).float())


class Parts(NamedTuple):
    """The elementwise parts of a layer."""

    norm: Callable[[Tensor], Tensor]
    turn: Callable[[Tensor, Turn, Tensor], Tensor]
    gate: Callable[[Tensor], Tensor]


def norm(x: Float[Tensor, "... W"]) -> Float[Tensor, "... W"]:
    """RMS norm without a gain; computes in float32."""
    return F.rms_norm(x, x.shape[-1:], None, NORM_EPS)


def turn(heads_BTNH: Tensor, by: Turn, both_BT2H: Tensor) -> Float[Tensor, "B T N H"]:
    """Queries, rotated; the keys, rotated, and the values are written into `both`."""
    swapped = heads_BTNH.roll(heads_BTNH.shape[-1] // 2, -1)
    torch.mul(heads_BTNH[:, :, -2:], by.cos_both_T2H, out=both_BT2H)
    both_BT2H.addcmul_(swapped[:, :, -2:], by.sin_both_T2H)
    return (heads_BTNH[:, :, :-2] * by.cos_T1H).addcmul_(swapped[:, :, :-2], by.sin_T1H)


def turn_at_once(heads_BTNH: Tensor, by: Turn, both_BT2H: Tensor) -> Float[Tensor, "B T N H"]:
    """The same, as a compiler fuses it."""
    swapped = heads_BTNH.roll(heads_BTNH.shape[-1] // 2, -1)
    both = heads_BTNH[:, :, -2:] * by.cos_both_T2H + swapped[:, :, -2:] * by.sin_both_T2H
    both_BT2H.copy_(both)
    return heads_BTNH[:, :, :-2] * by.cos_T1H + swapped[:, :, :-2] * by.sin_T1H


def gate(both_BF: Float[Tensor, "B F"]) -> Float[Tensor, "B f"]:
    """Half of the MLP's inner values, times GELU of the other half."""
    first, second = both_BF.chunk(2, dim=-1)
    return F.gelu(first, approximate="tanh") * second


EAGER = Parts(norm, turn, gate)


def compiled(make: Callable[..., Callable] | None = None) -> Parts:
    """The parts, each compiled for every shape that it meets: three experts, so few."""
    make = make or partial(torch.compile, dynamic=False, fullgraph=True)
    return Parts(make(norm), make(turn_at_once), make(gate))


def in_many_versions(sample: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function, whose parts are compiled, in a process with policies of several models and
    precisions: each has its versions of a part. The limit is raised for a chunk, not for a part,
    of which a chunk has hundreds, nor once for all: torch's settings are those of a thread."""

    def run(*tensors: Tensor) -> Tensor:
        with torch._dynamo.config.patch(recompile_limit=VERSIONS):
            return sample(*tensors)

    return run


class Sampler:
    """Samples actions with a model that has been folded (`fold`), cast and moved, in this order."""

    def __init__(self, model: QDepthVLA, entrance: Entrance, parts: Parts = EAGER) -> None:
        self.model, self.dtype, self.parts = model, model.embed.weight.dtype, parts
        config, device = model.config, model.embed.weight.device
        images = config.cameras * config.vision.grid**2
        self._text = slice(images, images + config.max_text)
        self._spans = _spans(model)
        self._rows = self._spans[-1].mask_TS.shape[-1]
        self._entrance = Entrance(*(part.to(device) for part in entrance))

    @torch.no_grad()
    def __call__(
        self, seen: Observation, noise_BCA: Float[Tensor, "B C A"]
    ) -> Float[Tensor, "B C A"]:
        """A chunk of normalised actions for every observation."""
        model = self.model
        vision_BTV = model.see(seen)
        x_BTW = model.prefix(seen, vision_BTV).x_BTW
        layers, width = len(model.vlm.layers), model.config.vlm.head_dim
        past = x_BTW.new_zeros(layers, len(seen), self._rows, 2, width)
        first, *between, last = self._spans
        hidden_BS = self._hidden(seen.text_valid_BL)
        self._run(first, x_BTW, past, hidden_BS, only_keys=True)
        for span in between:
            x_BTW = model.depth_stream(vision_BTV).x_BTW
            self._run(span, x_BTW, past, hidden_BS, only_keys=True)
        return self._integrate(last, seen.proprio_BP, noise_BCA, past, hidden_BS)

    def of_tensors(self, *tensors: Tensor) -> Tensor:
        """The same, from the tensors of the observations and the noise."""
        *inputs, noise_BCA = tensors
        return self(Observation(*inputs), noise_BCA)

    def _hidden(self, valid_BL: Bool[Tensor, "B L"]) -> Float[Tensor, "B S"]:
        """-inf at the rows of padding, else 0."""
        hidden_BS = valid_BL.new_zeros(len(valid_BL), self._rows, dtype=self.dtype)
        hidden_BS[:, self._text].masked_fill_(~valid_BL, -torch.inf)
        return hidden_BS

    def _integrate(
        self, span: Place, proprio_BP: Tensor, noise_BCA: Tensor, past: Tensor, hidden_BS: Tensor
    ) -> Float[Tensor, "B C A"]:
        """The Euler steps of `flow.integrate`, in float32."""
        door, settings = self.model.door, self.model.config.flow
        batch, chunk, _ = noise_BCA.shape
        state = [] if door.proprio_in is None else [door.proprio_in(proprio_BP.to(self.dtype))]
        x_BCA = noise_BCA.float().clone()
        bias = self._bias(span, hidden_BS)
        for moment_W in self._entrance.moments_EW:
            inner = F.silu(torch.addmm(moment_W, x_BCA.flatten(0, 1), self._entrance.entry_AW))
            tokens_BCW = door.mixed(inner.to(self.dtype)).unflatten(0, (batch, chunk))
            x_BTW = torch.cat([*(token[:, None] for token in state), tokens_BCW], dim=1)
            x_BTW = self._layers(span, x_BTW, past, bias)
            velocity = door.action_out(self.parts.norm(x_BTW[:, -chunk:]))
            x_BCA.add_(velocity, alpha=1 / settings.euler_steps)
        return x_BCA.clamp(-settings.clip, settings.clip) if settings.clip else x_BCA

    def _run(
        self, span: Place, x_BTW: Tensor, past: Tensor, hidden_BS: Tensor, only_keys: bool
    ) -> None:
        self._layers(span, x_BTW, past, self._bias(span, hidden_BS), only_keys)

    def _bias(self, span: Place, hidden_BS: Tensor) -> Float[Tensor, "B TN S"]:
        """What is added to the scores, for every head."""
        length = span.mask_TS.shape[-1]
        bias_BTS = span.mask_TS + hidden_BS[:, None, :length]
        heads = span.expert.config.heads
        return bias_BTS[:, :, None].expand(-1, -1, heads, -1).flatten(1, 2)

    def _layers(
        self, span: Place, x_BTW: Tensor, past: Tensor, bias: Tensor, only_keys: bool = False
    ) -> Float[Tensor, "B T W"]:
        """Changes `x` in place, and writes the stack's keys and values into `past`."""
        batch, tokens, _ = x_BTW.shape
        x, length = x_BTW.flatten(0, 1), bias.shape[-1]
        head = span.expert.config.head_dim
        for index in range(len(past)):
            layer = span.expert.layer(index)
            heads = layer.qkv(self.parts.norm(x)).view(batch, tokens, -1, head)
            query = self.parts.turn(heads, span.turn, past[index, :, span.rows])
            if only_keys and index == len(past) - 1:
                break
            keys, values = past[index, :, :length].unbind(2)
            scores = torch.baddbmm(
                bias, query.flatten(1, 2), keys.transpose(1, 2), alpha=head**-0.5
            )
            attended = torch.bmm(scores.softmax(dim=-1), values)
            x.addmm_(attended.view(batch * tokens, -1), layer.out.weight.t())
            x.addmm_(self.parts.gate(layer.gate_up(self.parts.norm(x))), layer.down.weight.t())
        return x.view_as(x_BTW)


def _spans(model: QDepthVLA) -> list[Place]:
    """Each expert's place, in the order in which they run."""
    config, weight = model.config, model.embed.weight
    spans, keys = [], Layout(())
    for name, blocks, first in _streams(config):
        layout, start = Layout(blocks), len(keys)
        keys = keys + layout
        expert, positions_T = model.experts()[name], torch.arange(first, first + len(layout))
        turn = Turn.of(expert.rope(positions_T[None].to(weight.device)), weight.dtype)
        mask = visible(model.table, layout, keys, weight.device)
        mask_TS = weight.new_full((len(layout), -(-len(keys) // ALIGNED) * ALIGNED), -torch.inf)
        mask_TS[:, : len(keys)] = 0
        if mask is not None:
            mask_TS[:, : len(keys)].masked_fill_(~mask[0, 0], -torch.inf)
        spans.append(Place(expert, turn, start, mask_TS))
    return spans


Stream = tuple[str, tuple[tuple[str, int], ...], int]


def _streams(config: ModelConfig) -> list[Stream]:
    """The experts that run, with their blocks of tokens and their first position: see
    `QDepthVLA.prefix`, `depth_stream` and `action_stream`."""
    tokens = config.vision.grid**2
    prefix = ("image", config.cameras * tokens), ("text", config.max_text)
    streams: list[Stream] = [("vlm", prefix, 1)]
    if config.depth.expert and config.action_sees_depth:
        streams.append(("depth", (("depth", config.depth.cameras * tokens),), 1))
    actions = ("action", config.chunk)
    blocks = (("proprio", 1), actions) if config.proprio_dim else (actions,)
    return [*streams, ("action", blocks, 1 if config.proprio_dim else 2)]


@torch.no_grad()
def fold(model: QDepthVLA) -> Entrance:
    """Moves the gains of Gemma's norms into the weights behind them, in place: the model stays the
    same function, and its norms have no gain left. Before the weights are cast."""
    for expert in model.experts().values():
        for layer in map(expert.layer, range(len(expert.layers))):
            _into(layer.qkv, layer.attention_norm)
            _into(layer.gate_up, layer.mlp_norm)
    _into(model.door.action_out, model.action.norm)
    return Entrance.of(model.door)


def _into(linear: nn.Linear, before: GemmaNorm) -> None:
    linear.weight.mul_(1 + before.weight)
    before.weight.zero_()
