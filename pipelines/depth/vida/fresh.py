"""Networks to train from scratch."""

from __future__ import annotations

import torch

from pipelines.depth.vida.config import ViDAConfig
from pipelines.depth.vida.network import VideoDepth


def fresh_network(config: ViDAConfig, seed: int) -> VideoDepth:
    """A network to train from scratch. Its depth starts at 1 everywhere, because below 0 the last
    ReLU would block the gradient."""
    torch.manual_seed(seed)
    network = VideoDepth(config)
    initialised(network)
    return network


def initialised(network: VideoDepth) -> None:
    """Gives a new network what its layers do not begin with."""
    encoder = network.pretrained
    for table in (encoder.pos_embed, encoder.cls_token):
        torch.nn.init.trunc_normal_(table, std=0.02)
    torch.nn.init.ones_(network.head.scratch.output_conv2.get_parameter("2.bias"))
