"""Video-Depth-Anything as a `DepthEstimator`: a network, how it is run, and what it says of
itself. `pipelines/estimators.py` lists it by name, beside others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from depthtok.data import DepthBlock, DepthKind, EstimatorSpec, FrameClip
from pipelines.vida.compiling import can_compile
from pipelines.vida.config import RunConfig, ViDAConfig
from pipelines.vida.infer import estimate
from pipelines.vida.network import VideoDepth
from pipelines.vida.published import licence_of
from pipelines.vida.runner import Runner
from pipelines.vida.weights import find_weights, load_network, weights_hash

ALGORITHM = "2"  # grows when the same weights and settings would give other depth


class ViDAEstimator:
    """Video-Depth-Anything on one device."""

    def __init__(self, network: VideoDepth, run: RunConfig, device: torch.device) -> None:
        self.spec = spec_of(network, run, device)
        self.device = device_name(device)
        self._runner = Runner(network, run, device)

    def estimate(self, clips: Iterable[FrameClip]) -> Iterator[DepthBlock]:
        """Depth of many clips at their own resolution, float32, clip by clip in order.

        Frames reach the output as soon as the window that settles them is done. A clip that cannot
        be read, or whose depth is not finite, ends with a block that carries the reason.
        """
        return estimate(self._runner, clips)

    @property
    def waited(self) -> float:
        """Seconds for which there were no frames to work on."""
        return self._runner.waited

    @property
    def degraded(self) -> bool:
        """Whether the device ran so short of memory that low bits of the result may differ."""
        return self._runner.halvings > 0


def load_estimator(
    config: ViDAConfig, weights: Path | None, run: RunConfig, device: torch.device
) -> ViDAEstimator:
    """The network with its weights, ready to use. Without a path it looks where they usually are.

    Where torch.compile does not work it goes on without, which its spec then says. Raises
    `ConfigError` or `WeightsError`.
    """
    if run.compile:
        run = replace(run, compile=can_compile(device))
    return ViDAEstimator(load_network(config, find_weights(config.name, weights)), run, device)


def kind_of(config: ViDAConfig) -> DepthKind:
    """What a network's depth means."""
    return DepthKind.METRES if config.metric else DepthKind.DISPARITY


def spec_of(network: VideoDepth, run: RunConfig, device: torch.device) -> EstimatorSpec:
    """What a network gives with these settings on this type of device."""
    config = network.config
    run = run.resolved(config, device.type)
    return EstimatorSpec(
        name=config.name,
        kind=kind_of(config),
        weights=weights_hash(network),
        precision=run.precision,
        input_size=run.input_size,
        licence=licence_of(config.name),
        settings=(
            ("algorithm", ALGORITHM),
            ("device", device.type),
            *((("compile", "yes"),) if run.compile else ()),
        ),
    )


def device_name(device: torch.device) -> str:
    """The device in words, for the record of what depth was made on."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
