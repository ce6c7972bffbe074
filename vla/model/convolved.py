"""Products of matrices as convolutions with kernels of one pixel (`train.fast_cpu`).

PyTorch hands convolutions to oneDNN, and plain products to MKL, which leaves half of the vector
units of AMD's CPUs unused: there they take half of the time this way. The same sums, in another
order.
"""

# X input width, Y output width

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST = 500_000  # multiplications; a smaller product is over before a convolution has begun


def product(
    x: Float[Tensor, "... X"], weight_YX: Float[Tensor, "Y X"], bias_Y: Tensor | None = None
) -> Float[Tensor, "... Y"]:
    """`F.linear`, whose last bits may differ."""
    plain = x.device.type != "cpu" or x.dtype != torch.float32
    if plain or x.numel() * len(weight_YX) < SMALLEST:
        return F.linear(x, weight_YX, bias_Y)
    pixels = x.reshape(1, 1, -1, x.shape[-1]) if x.ndim < 3 else x.flatten(1, -2).unsqueeze(1)
    y = F.conv2d(pixels.permute(0, 3, 1, 2), weight_YX[:, :, None, None], bias_Y)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight_YX))


class ConvolvedLinear(nn.Linear):
    """A linear layer that computes so."""

    def forward(self, x: Float[Tensor, "... X"]) -> Float[Tensor, "... Y"]:
        return product(x, self.weight, self.bias)


def convolve(model: nn.Module) -> None:
    """From now on the plain linear layers of a model compute so; weights and names stay."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = ConvolvedLinear
