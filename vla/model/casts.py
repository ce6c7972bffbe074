"""Weights in half precision, cast once for all passes of a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vla.model.lora import LoraLinear


@contextmanager
def cast_once(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within the block, the matrices of linear layers are copies in `dtype`, through which
    gradients reach the weights: what autocast makes of them in every pass, and compiled layers once
    more on the way back. The same bits."""
    matrices = [
        (module._parameters, name, weight)
        for module in model.modules()
        if isinstance(module, nn.Linear | LoraLinear)
        for name, weight in module._parameters.items()
        if weight is not None and weight.ndim > 1
    ]
    try:
        for parameters, name, weight in matrices:
            parameters[name] = weight.to(dtype)  # type: ignore[assignment]  # any tensor will do there
        yield
    finally:
        for parameters, name, weight in matrices:
            parameters[name] = weight
