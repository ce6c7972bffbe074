"""Rotary positions in two dimensions: the first half of a head's channels turns with the row, the
second with the column (arXiv 2104.09864, for images 2403.13298)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float32
from torch import Tensor

BASE = 100.0
Turn = tuple[Float32[Tensor, "S d"], Float32[Tensor, "S d"]]  # cosine and sine


def grid_positions(rows: int, columns: int, device: torch.device) -> Float32[Tensor, "positions 2"]:
    """Row and column of the class token, (0, 0), and of each patch, from (1, 1) on."""
    patches = torch.cartesian_prod(
        torch.arange(1.0, rows + 1, device=device), torch.arange(1.0, columns + 1, device=device)
    )
    return torch.cat((patches.new_zeros(1, 2), patches))


def one_position(rows: int, columns: int, device: torch.device) -> Float32[Tensor, "positions 2"]:
    """The same where all patches are at (1, 1): of attention over several views."""
    positions = torch.ones(1 + rows * columns, 2, device=device)
    positions[0] = 0
    return positions


def turn_of(positions: Float32[Tensor, "S 2"], width: int) -> Turn:
    """The cosines and sines for heads of `width` channels; float32: half would blur them."""
    quarter = torch.arange(width // 4, device=positions.device, dtype=torch.float32)
    frequencies = BASE ** (-quarter / (width // 4))
    angles = positions[:, :, None] * frequencies  # [S, 2, quarter]
    angles = torch.cat((angles, angles), dim=2).flatten(1)
    return angles.cos(), angles.sin()


def turned(x_NASd: Float[Tensor, "N A S d"], turn: Turn) -> Float[Tensor, "N A S d"]:
    """Queries or keys, turned; the channels i and i + n/2 of each half of n are a pair. Float32
    inside, in any precision."""
    cosine, sine = turn
    x = x_NASd.float()
    x1, x2, y1, y2 = x.chunk(4, dim=-1)
    across = torch.cat((-x2, x1, -y2, y1), dim=-1)
    return (x * cosine + across * sine).to(x_NASd.dtype)
