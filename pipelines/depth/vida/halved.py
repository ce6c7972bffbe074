"""A network in half precision: weights are rounded once, and every layer says what it computes in.

Autocast would do so anew in each call, and promotes to float32 what meets a float32 tensor. Here
all is half, except what would lose by it: the encoder's residual stream with its norms and scales,
and the last layer, whose output is depth. Other weights and cards may round otherwise than those of
the tests: so `require_close` tries it on the very device, before the first frame.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthtok.disk.regular import gpu_failure
from depthtok.errors import ConfigError
from pipelines.depth.vida.config import PATCH
from pipelines.depth.vida.encoder import ImageEncoder, LayerScale, StreamNorm
from pipelines.depth.vida.head import DepthOutput
from pipelines.depth.vida.temporal import TemporalAttention

Network = TypeVar("Network", bound=nn.Module)
FLOAT32 = (ImageEncoder, StreamNorm, LayerScale)  # their own weights stay float32
TRIAL = 4, 4 * PATCH  # frames, and pixels of a side
TOLERANCE = {torch.float16: 0.01, torch.bfloat16: 0.08}
"""Of the mean difference from float32, as a share of the mean depth: ten times the largest that an
H200 showed by autocast with the golden clips (1e-3 and 7e-3), as other weights round otherwise."""


def halved(network: Network, dtype: torch.dtype, *, attention: str = "fused") -> Network:
    """A copy in float16 or bfloat16, for inference. What stays float32 is shared with the network,
    which is not changed. `attention`: one of `config.ATTENTIONS`."""
    twin = _twin(network, dtype)
    for module in twin.modules():
        if isinstance(module, TemporalAttention):
            module.attention = attention
    return twin


def depth_of_window(network: nn.Module, window: Float[Tensor, "1 T 3 H W"]) -> Tensor:
    """What a network that sees windows makes of one."""
    return network(window)


def require_close(
    network: nn.Module,
    half: nn.Module,
    dtype: torch.dtype,
    depth_of: Callable[[nn.Module, Tensor], Tensor] = depth_of_window,
) -> None:
    """Tries a network in half precision, where it is, on one small window of a floor and a wall, of
    which `depth_of` makes its depth.

    Raises `ConfigError` where that fails, or where depth is not what it is in float32; `WorkerDied`
    where the GPU fails.
    """
    device = next(network.parameters()).device
    if device.type == "meta":  # there is nothing to compare
        return
    window = _scene().to(device)
    name, remedy = str(dtype).removeprefix("torch."), "give --set precision=float32"
    try:
        with torch.inference_mode():
            expected, depth = depth_of(network, window), depth_of(half, window)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if failure := gpu_failure(error):
            raise failure from error
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{name} fails on {device}: {reason}", remedy=remedy) from error
    off = float((depth - expected).abs().mean() / expected.abs().mean().clamp_min(1e-6))
    if not off < TOLERANCE[dtype]:  # also where it is not a number
        raise ConfigError(
            f"depth in {name} on {device} is off by {off:.2g} of its mean, where "
            f"{TOLERANCE[dtype]} is allowed",
            remedy=remedy,
        )


def _scene() -> Float[Tensor, "1 T 3 H W"]:
    """Brighter floor below a dark wall, a box that moves: something that trained networks know."""
    frames, side = TRIAL
    rows = torch.linspace(-2, 2, side)
    pictures = rows[None, None, :, None].repeat(frames, 3, 1, side)
    for frame, picture in enumerate(pictures):
        start = side // 4 + 3 * frame
        picture[0, side // 2 : 3 * side // 4, start : start + side // 4] = 1.5
    return pictures[None]


def _twin(module: Network, dtype: torch.dtype) -> Network:
    """A copy in half precision, which shares its float32 weights with the module. One that says it
    is `whole` stays as it is."""
    if getattr(module, "whole", False):
        return module
    twin = copy.copy(module)
    children = {name: _twin(child, dtype) for name, child in module.named_children()}
    twin._modules = dict(children)
    if isinstance(twin, StreamNorm):
        twin.result = dtype
    if not isinstance(module, FLOAT32):
        twin._parameters = {
            name: weight if weight is None else nn.Parameter(_rounded(weight, dtype), False)
            for name, weight in module._parameters.items()
        }
        twin._buffers = {
            name: buffer if buffer is None else _rounded(buffer, dtype)
            for name, buffer in module._buffers.items()
        }
    if isinstance(twin, DepthOutput) and isinstance(module, DepthOutput):
        twin.last.bias = module.last.bias
    if isinstance(twin, TemporalAttention):
        _join(twin)
    return twin


def _rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight in half precision; of a convolution with its channels last, as the features."""
    half = weight.detach().to(dtype)
    return half.contiguous(memory_format=torch.channels_last) if half.dim() == 4 else half


def _join(attention: TemporalAttention) -> None:
    """Queries, keys and values by one product. The three layers become views of its weights."""
    layers = (attention.to_q, attention.to_k, attention.to_v)
    attention.joined = torch.cat([layer.weight for layer in layers])
    for layer, weight in zip(layers, attention.joined.chunk(3), strict=True):
        layer.weight = nn.Parameter(weight, requires_grad=False)
