"""Which network a checkpoint is of, by the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipelines.depth.gem.config import GEM_CONFIGS
from pipelines.depth.gem.network import GemDepth
from pipelines.depth.gem.tensors import used
from pipelines.depth.vida.config import CONFIGS
from pipelines.depth.vida.network import VideoDepth


def fitting(state: Mapping[str, Tensor]) -> list[str]:
    """The networks whose tensors have these names and shapes. Raises nothing."""
    fits = []
    shapes = {key: value.shape for key, value in state.items()}
    for name, config in CONFIGS.items():
        with torch.device("meta"):
            network = VideoDepth(config)
        if shapes == _shapes(network):
            fits.append(name)
    for name, gem in GEM_CONFIGS.items():
        with torch.device("meta"):
            network = GemDepth(gem)
        if {key: shapes[key] for key in used(shapes, gem)} == _shapes(network):
            fits.append(name)
    return fits


def _shapes(network: VideoDepth) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in network.state_dict().items()}
