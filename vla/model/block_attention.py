"""Attention in the order that suits GPUs (`train.fast`): the same sums, other last bits.

Query heads that share a key head become more queries of that head, so that neither keys nor their
gradients are repeated; queries whose keys lie together attend to those alone, without a mask where
nothing is hidden; what is hidden is a bias, made once for all layers in the dtype of the queries.
"""

# B batch, T query tokens, S key tokens, N query heads, G key heads, n query heads of a key head
# H head width

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from vla.model.masks import PADDED, Layout, SeesTable, visible

ALIGNED = 16  # bytes: kernels copy a bias whose rows do not begin at multiples of it


class QueryRows(NamedTuple):
    """Queries that attend alike: from, to, and the same of their keys; what hides keys, if any."""

    queries: tuple[int, int]
    keys: tuple[int, int]
    bias: Float[Tensor, "b 1 t s"] | None


def rows(
    table: SeesTable, queries: Layout, keys: Layout, shared: int, like: Tensor
) -> tuple[QueryRows, ...]:
    """The mask of `vla.model.masks.visible` as few calls, for heads of which `shared` have one key
    head; for activations `like` these, as autocast casts them."""
    calls = []
    for attended, group in groupby(queries.blocks, lambda block: _attended(table, block[0], keys)):
        blocks = tuple(group)
        span = None if attended is None else _together(attended, keys)
        if attended is None or span is None:  # one call for all, with the whole mask
            mask = visible(table, queries, keys, like.device)
            bias = None if mask is None else _bias(mask.repeat_interleave(shared, dim=2), like)
            return (QueryRows((0, len(queries)), (0, len(keys)), bias),)
        hidden = None
        if keys.valid_BT is not None and PADDED in attended:
            hidden = _bias(keys.valid_BT[:, None, None, slice(*span)], like)
        first = queries.span(blocks[0][0]).start
        calls.append(QueryRows((first, queries.span(blocks[-1][0]).stop), span, hidden))
    return tuple(calls)


def _attended(table: SeesTable, query: str, keys: Layout) -> tuple[str, ...] | None:
    """The blocks that a block sees whole; None if it sees one in part."""
    marks = {key: table.cells[query][key] for key, _ in keys.blocks}
    return None if "\\" in marks.values() else tuple(k for k, m in marks.items() if m == "x")


def _together(blocks: Sequence[str], keys: Layout) -> tuple[int, int] | None:
    """From where to where blocks lie that follow each other; None if others lie between."""
    spans = [keys.span(block) for block in blocks]
    follow = all(a.stop == b.start for a, b in pairwise(spans))
    return (spans[0].start, spans[-1].stop) if follow else None


def _bias(mask: Bool[Tensor, "b 1 t s"], like: Tensor) -> Float[Tensor, "b 1 t s"]:
    kind, dtype = like.device.type, like.dtype
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    step = ALIGNED // dtype.itemsize
    *shape, s = mask.shape
    padded = torch.zeros(*shape, -(-s // step) * step, dtype=dtype, device=mask.device)
    return padded[..., :s].masked_fill_(~mask, -torch.inf)


def by_rows(
    q_BNTH: Float[Tensor, "B N T H"],
    k_BGSH: Float[Tensor, "B G S H"],
    v_BGSH: Float[Tensor, "B G S H"],
    found: tuple[QueryRows, ...],
) -> Float[Tensor, "B N T H"]:
    """The attention."""
    shared = q_BNTH.shape[1] // k_BGSH.shape[1]
    folded = rearrange(q_BNTH, "B (G n) T H -> B G (T n) H", n=shared)
    queries = _cut(folded, [(a * shared, b * shared) for (a, b), *_ in found])
    keys, values = (_cut(x, [row.keys for row in found]) for x in (k_BGSH, v_BGSH))
    parts = [
        F.scaled_dot_product_attention(q, k, v, row.bias)
        for q, k, v, row in zip(queries, keys, values, found, strict=True)
    ]
    attended = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
    return rearrange(attended, "B G (T n) H -> B (G n) T H", n=shared)


def _cut(x: Tensor, spans: Sequence[tuple[int, int]]) -> Sequence[Tensor]:
    """Spans of tokens. If these are all of them, in order, their gradients are joined only once."""
    if [*(a for a, _ in spans), x.shape[2]] == [0, *(b for _, b in spans)]:
        return x.split([b - a for a, b in spans], dim=2) if len(spans) > 1 else [x]
    return [x[:, :, a:b] for a, b in spans]
