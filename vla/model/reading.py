"""Images and instructions read apart (`train.fast_cpu`): each instruction of a batch once, without
padding. The same function as one pass over both, where neither sees the other."""

# B batch, T tokens, V vision width, L text tokens, U different texts

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vla.model import mixture
from vla.model.batch import Observation
from vla.model.gemma import Expert, KeyValues
from vla.model.masks import Layout, SeesTable
from vla.model.mixture import Context, TokenStream

STEP = 8  # tokens; texts are cut at multiples of it, so that few sizes occur


def apart(table: SeesTable) -> bool:
    """Whether images and text do not see each other."""
    return not (table.sees("image", "text") or table.sees("text", "image"))


def without_padding(seen: Observation) -> Observation:
    """The same observation up to the last token of its longest text."""
    length = seen.text_BL.shape[1]
    places = torch.arange(1, length + 1, device=seen.text_BL.device)
    longest = int((seen.text_valid_BL * places).max())
    stop = min(-(-max(longest, 1) // STEP) * STEP, length)
    return replace(seen, text_BL=seen.text_BL[:, :stop], text_valid_BL=seen.text_valid_BL[:, :stop])


def once(
    text_BL: Int[Tensor, "B L"], valid_BL: Bool[Tensor, "B L"]
) -> tuple[Int[Tensor, "U L"], Bool[Tensor, "U L"], Int[Tensor, " B"]]:
    """The different texts, which of their tokens are real, and which text each sample has."""
    rows = text_BL.masked_fill(~valid_BL, -1)
    texts_UL, which_B = torch.unique(rows, dim=0, return_inverse=True)
    return texts_UL.clamp(min=0), texts_UL >= 0, which_B


def read(expert: Expert, prefix: TokenStream, which_B: Tensor, table: SeesTable) -> Context:
    """Keys and values of a stream of texts, for every sample."""
    _, context = mixture.run(expert, prefix, table, None, True)
    valid = prefix.layout.valid_BT
    layout = Layout(prefix.layout.blocks, None if valid is None else valid[which_B])
    layers = (KeyValues(k[which_B], v[which_B]) for k, v in context.layers)
    return Context(tuple(layers), layout)
