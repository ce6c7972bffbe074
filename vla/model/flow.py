"""Conditional flow matching (the paper's action loss, L_CFM).

Time 1 is data, time 0 is noise: x_t = t * data + (1 - (1 - sigma_min) * t) * noise, and the target
velocity is its derivative. Sampling integrates from 0 to 1 with Euler steps. (Checkpoints of the
pi0 family run time backwards: 1 is noise, and the velocity has the opposite sign.)
"""

# B batch, C chunk (actions), A action dimensions

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla.config import FlowConfig

BETA_SHAPE = 1.5
LATEST = 0.999  # upper bound of t in Beta sampling


def sample_times(config: FlowConfig, batch: int, generator: torch.Generator) -> Float[Tensor, " B"]:
    """Training times in [0, 1]: uniform, or 0.999 (1 - z), z ~ Beta(1.5, 1): biased to early times.

    The Beta distribution's second parameter is 1, so its inverse CDF is a power.
    """
    u_B = torch.rand(batch, generator=generator, device=generator.device)
    if config.sampling == "uniform":
        return u_B
    return LATEST * (1 - u_B ** (1 / BETA_SHAPE))


def interpolate(
    config: FlowConfig,
    data_BCA: Float[Tensor, "B C A"],
    noise_BCA: Float[Tensor, "B C A"],
    time_B: Float[Tensor, " B"],
) -> tuple[Float[Tensor, "B C A"], Float[Tensor, "B C A"]]:
    """The point at `time` on the path from noise to data, and the velocity there."""
    shrink = 1 - config.sigma_min
    t_B11 = time_B[:, None, None]
    point_BCA = t_B11 * data_BCA + (1 - shrink * t_B11) * noise_BCA
    return point_BCA, data_BCA - shrink * noise_BCA


def loss(
    velocity_BCA: Float[Tensor, "B C A"],
    target_BCA: Float[Tensor, "B C A"],
    valid_BC: Bool[Tensor, "B C"],
) -> Float[Tensor, ""]:
    """Mean squared error over the valid actions (chunks may extend past the end of an episode)."""
    square_BC = (velocity_BCA.float() - target_BCA).square().mean(dim=-1)
    return (square_BC * valid_BC).sum() / valid_BC.sum().clamp(min=1)


def integrate(
    config: FlowConfig,
    velocity: Callable[[Tensor, Tensor], Tensor],
    noise_BCA: Float[Tensor, "B C A"],
) -> Float[Tensor, "B C A"]:
    """Euler steps from noise (time 0) to actions (time 1), clipped at the end."""
    x_BCA = noise_BCA
    for step in range(config.euler_steps):
        time_B = x_BCA.new_full((len(x_BCA),), step / config.euler_steps)
        x_BCA = x_BCA + velocity(x_BCA, time_B) / config.euler_steps
    return x_BCA.clamp(-config.clip, config.clip) if config.clip else x_BCA


def embed_time(
    time_B: Float[Tensor, " B"], width: int, longest_period: float
) -> Float[Tensor, "B W"]:
    """Sines and cosines of time; periods grow geometrically from 2 pi to 2 pi * longest_period."""
    half = width // 2
    steps = torch.arange(half, device=time_B.device, dtype=torch.float32) / max(half - 1, 1)
    angles = time_B[:, None].float() * torch.exp(-math.log(longest_period) * steps)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
