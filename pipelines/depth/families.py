"""The networks that see windows of a clip: Video-Depth-Anything and GemDepth. What a configuration
is of decides which code it is."""

from __future__ import annotations

from pathlib import Path

import torch

from pipelines.depth.gem import estimator as gem
from pipelines.depth.gem import published as gem_published
from pipelines.depth.gem.config import GemConfig
from pipelines.depth.gem.network import GemDepth
from pipelines.depth.gem.weights import load_network as load_gem
from pipelines.depth.vida import published as vida_published
from pipelines.depth.vida.config import RunConfig, ViDAConfig
from pipelines.depth.vida.estimator import ViDAEstimator
from pipelines.depth.vida.fresh import fresh_network as fresh_vida
from pipelines.depth.vida.fresh import initialised
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.weights import find_weights, load_network


def licence_notice(config: ViDAConfig) -> str:
    """A notice to show once before its published weights are used; "" otherwise."""
    of = gem_published if isinstance(config, GemConfig) else vida_published
    return of.licence_notice(config.name)


def weights_of(config: ViDAConfig, path: Path | None) -> Path:
    """The file with a network's weights: see `find_weights`."""
    of = gem_published if isinstance(config, GemConfig) else vida_published
    return find_weights(config.name, path, of.PUBLISHED)


def load(config: ViDAConfig, path: Path, *, any_kind: bool = False) -> VideoDepth:
    """The network with a checkpoint's weights. `any_kind`: see `vida.weights.load_network`."""
    if isinstance(config, GemConfig):
        return load_gem(config, path)
    return load_network(config, path, any_kind=any_kind)


def fresh(config: ViDAConfig, seed: int) -> VideoDepth:
    """A network to train from scratch."""
    if not isinstance(config, GemConfig):
        return fresh_vida(config, seed)
    torch.manual_seed(seed)
    network = GemDepth(config)
    initialised(network)
    if config.pose:
        for tokens in (network.camera_token, network.register_token):
            torch.nn.init.trunc_normal_(tokens, std=0.02)
        # Quaternions are divided by: no turn is (0, 0, 0, 1), and next to 0 gradients explode.
        with torch.no_grad():
            network.camera_head.pose_branch.fc2.bias[6] += 1
    return network


def estimator_of(network: VideoDepth, run: RunConfig, device: torch.device) -> ViDAEstimator:
    """The estimator of a network."""
    if isinstance(network, GemDepth):
        return gem.estimator_of(network, run, device)
    return ViDAEstimator(network, run, device)
