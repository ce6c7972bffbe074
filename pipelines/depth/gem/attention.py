"""Attention of GemDepth: over a frame, over a whole window at once, over the frames of a patch.

A window of 32 frames of 37 x 37 patches has 43,808 tokens: the scores of one attention over them
would take 245 GB. So they are never in memory: a fused kernel goes through them in tiles, and where
a device has none, queries are taken a few at a time.

Letters: N sequences, S tokens, Q queries, D features, A heads, d features of a head.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

ROPE_BASE = 100.0
FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
SCORES = 1 << 28  # bytes of scores at a time, where no kernel fuses them


def attend(
    q_NAQd: Float[Tensor, "N A Q d"],
    k_NASd: Float[Tensor, "N A S d"],
    v_NASd: Float[Tensor, "N A S d"],
) -> Float[Tensor, "N Q D"]:
    """Softmax attention, heads side by side, without all scores in memory at once."""
    try:
        with sdpa_kernel(FUSED):
            mixed = functional.scaled_dot_product_attention(q_NAQd, k_NASd, v_NASd)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # this device has no fused kernel for such heads
        mixed = attend_by_parts(q_NAQd, k_NASd, v_NASd)
    return rearrange(mixed, "n a q d -> n q (a d)")


def attend_by_parts(
    q_NAQd: Float[Tensor, "N A Q d"],
    k_NASd: Float[Tensor, "N A S d"],
    v_NASd: Float[Tensor, "N A S d"],
    scores: int = SCORES,
) -> Float[Tensor, "N A Q d"]:
    """The same by products and a softmax: of as many sequences and queries at a time as take
    `scores` bytes of scores, two or three times which are in memory."""
    sequences, heads, queries, _ = q_NAQd.shape
    row = heads * k_NASd.shape[2] * 4  # bytes of the scores of one query
    count = min(queries, max(1, scores // row))
    together = max(1, scores // (row * count))
    parts = [
        torch.cat(
            [
                _explicit(
                    part_q, k_NASd[start : start + together], v_NASd[start : start + together]
                )
                for part_q in q_NAQd[start : start + together].split(count, dim=2)
            ],
            dim=2,
        )
        for start in range(0, sequences, together)
    ]
    return torch.cat(parts)


def _explicit(q_NAQd: Tensor, k_NASd: Tensor, v_NASd: Tensor) -> Tensor:
    scores = (q_NAQd * q_NAQd.shape[-1] ** -0.5) @ k_NASd.mT
    return scores.softmax(dim=-1, dtype=torch.float32).to(v_NASd.dtype) @ v_NASd


@lru_cache(maxsize=32)
def rotation(
    rows: int, columns: int, width: int, special: int, device: torch.device
) -> tuple[Float32[Tensor, "S 2 n"], Float32[Tensor, "S 2 n"]]:
    """Cosine and sine of the angles of every token of a frame, by row and by column.

    `width` is that of a head: half of it turns with the row, half with the column. The `special`
    tokens in front have position (0, 0), patches (row + 1, column + 1). Angles are float64: in half
    precision they would be off by whole turns. They are made on the device, as a CUDA graph cannot
    record a copy from the host.
    """
    with torch.inference_mode(False):  # kept, and perhaps trained with later
        return _rotation(rows, columns, width, special, device)


def _rotation(
    rows: int, columns: int, width: int, special: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    count = width // 4
    rates = ROPE_BASE ** (-torch.arange(count, dtype=torch.float64, device=device) / count)
    row, column = (torch.arange(1, n + 1, device=device) for n in (rows, columns))
    patches = torch.cartesian_prod(row, column)
    positions = torch.cat((patches.new_zeros(special, 2), patches))
    angles = positions[..., None] * rates
    return angles.cos().float(), angles.sin().float()


def rotated(
    x_NSAd: Float[Tensor, "N S A d"],
    turn: tuple[Float32[Tensor, "s 2 n"], Float32[Tensor, "s 2 n"]],
) -> Float[Tensor, "N S A d"]:
    """Queries or keys, turned by their position: channels i and i + n of each half are one plane.
    S may be several frames, of s tokens each; the result is float32 inside."""
    cos, sin = (table[:, None] for table in turn)
    split = rearrange(
        x_NSAd, "n (t s) a (half two i) -> n t s a half two i", s=len(cos), half=2, two=2
    )
    first, second = split.float().unbind(-2)
    turned = torch.stack(
        (
            torch.addcmul(first * cos, second, sin, value=-1),
            torch.addcmul(second * cos, first, sin),
        ),
        dim=-2,
    )
    turned = rearrange(turned, "n t s a half two i -> n (t s) a (half two i)")
    return turned.to(x_NSAd.dtype)
