"""GemDepth as a `DepthEstimator`: that of Video-Depth-Anything, around another network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from depthtok.data import EstimatorSpec
from pipelines.depth.gem.config import GemConfig
from pipelines.depth.gem.network import GemDepth
from pipelines.depth.gem.published import PUBLISHED, licence_of
from pipelines.depth.gem.weights import load_network
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.estimator import ViDAEstimator
from pipelines.depth.vida.estimator import spec_of as vida_spec
from pipelines.depth.vida.weights import find_weights


def load_estimator(
    config: GemConfig, weights: Path | None, run: RunConfig, device: torch.device
) -> ViDAEstimator:
    """The network with its weights, ready to use. Without a path it searches the usual places.

    Raises `WeightsError`.
    """
    config = replace(config, pose=run.pose)
    network = load_network(config, find_weights(config.name, weights, PUBLISHED))
    return estimator_of(network, run, device)


def estimator_of(network: GemDepth, run: RunConfig, device: torch.device) -> ViDAEstimator:
    """The estimator of a network."""
    return ViDAEstimator(network, run, device, spec_of(network, run, device))


def spec_of(network: GemDepth, run: RunConfig, device: torch.device) -> EstimatorSpec:
    """The specification of a network with these settings on this type of device."""
    spec, config = vida_spec(network, run, device), network.config
    settings = (*spec.settings, *config.recorded.items())
    return replace(spec, licence=licence_of(config.name), settings=settings)
