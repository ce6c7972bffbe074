"""Attention over time as one Triton kernel, for windows of at most 32 frames.

PyTorch's fused kernels work in tiles of 64 x 128 scores; here they are 32 x 32, and heads 8 to 128
wide. So one program takes one pixel: its queries, keys and values are read once and its output is
written once, which are all the bytes that must move: 2 P (t + T) C elements for P pixels, t of T
frames asking, C channels. Scores and softmax are float32 and never leave the chip.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Protocol, runtime_checkable

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from triton.errors import TritonError

SMALLEST = 16  # rows and columns of a matrix product
WARPS = 2


def _pixel(
    q,
    k,
    v,
    out,
    q_pixel,
    q_row,
    k_pixel,
    k_row,
    v_pixel,
    v_row,
    asking,
    frames,
    scale,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """All heads of one pixel. Rows are the elements from one frame to the next; the capital names
    are powers of two that hold the queries, the frames and the width of a head."""
    pixel = tl.program_id(0).to(tl.int64)
    query, frame, column = tl.arange(0, QUERIES), tl.arange(0, KEYS), tl.arange(0, COLUMNS)
    of_query = (query[:, None] < asking) & (column[None, :] < WIDTH)
    of_frame = (frame[:, None] < frames) & (column[None, :] < WIDTH)
    q += pixel * q_pixel + query[:, None] * q_row
    k += pixel * k_pixel + frame[:, None] * k_row
    v += pixel * v_pixel + frame[:, None] * v_row
    out += pixel * asking * HEADS * WIDTH + query[:, None] * HEADS * WIDTH
    for head in tl.static_range(HEADS):
        channel = head * WIDTH + column[None, :]
        queries = tl.load(q + channel, mask=of_query, other=0.0)
        keys = tl.load(k + channel, mask=of_frame, other=0.0)
        values = tl.load(v + channel, mask=of_frame, other=0.0)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale
        scores = tl.where(frame[None, :] < frames, scores, float("-inf"))
        shares = tl.exp(
            scores - tl.max(scores, axis=1)[:, None]
        )  # the largest, 1, rounds to itself
        mixed = tl.dot(shares.to(values.dtype), values, input_precision="ieee")
        mixed = mixed / tl.sum(shares, axis=1)[:, None]
        tl.store(out + channel, mixed.to(values.dtype), mask=of_query)


@runtime_checkable
class Launch(Protocol):
    """A compiled kernel, by the number of its programs."""

    def __getitem__(self, programs: tuple[int]) -> Launch: ...

    def __call__(self, *values: Tensor | float, **sizes: int) -> None: ...


@cache
def _compiled() -> Launch:
    return triton.jit(inspect.unwrap(_pixel))  # Triton reads the source, not a checking wrapper


SCHEMA = "(Tensor q, Tensor k, Tensor v, int heads) -> Tensor"


@torch.library.custom_op("depthtok::temporal_attention", mutates_args=(), schema=SCHEMA)
def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    pixels, asking, channels = q.shape
    frames, width = k.shape[1], channels // heads
    out = q.new_empty(q.shape)
    sizes = [max(SMALLEST, triton.next_power_of_2(size)) for size in (asking, frames, width)]
    strides = [step for x in (q, k, v) for step in x.stride()[:2]]
    values = (q, k, v, out, *strides, asking, frames, width**-0.5)
    names = dict(zip(("QUERIES", "KEYS", "COLUMNS"), sizes, strict=True))
    try:
        _compiled()[(pixels,)](*values, HEADS=heads, WIDTH=width, num_warps=WARPS, **names)
    except TritonError as error:  # an error of its own kind, as unsupported cards raise
        raise RuntimeError(f"the kernel for attention over time: {error}") from error
    return out


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    return q.new_empty(q.shape)


def attend(
    q_PtC: Float[Tensor, "P t C"],
    k_PTC: Float[Tensor, "P T C"],
    v_PTC: Float[Tensor, "P T C"],
    heads: int,
) -> Float[Tensor, "P t C"]:
    """Attention of `heads` heads, C / `heads` channels each, in the precision of its inputs.
    Channels lie side by side in memory; frames and pixels may lie anywhere."""
    return _attend(q_PtC, k_PTC, v_PTC, heads)
