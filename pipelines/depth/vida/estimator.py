"""Video-Depth-Anything as a `DepthEstimator`: a network, how it is run, and its specification.
`pipelines/depth/registry.py` lists it by name with the other estimators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import torch

from depthtok.data import DepthBlock, DepthKind, EstimatorSpec, FrameClip
from depthtok.errors import MissingPackage
from pipelines.depth.vida.compiling import can_compile
from pipelines.depth.vida.config import CHOICES, RunConfig, ViDAConfig
from pipelines.depth.vida.infer import estimate
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.published import licence_of
from pipelines.depth.vida.runner import Runner
from pipelines.depth.vida.weights import find_weights, load_network, weights_hash

ALGORITHM, ALGORITHM_FILLED = "2", "4"  # in groups as they come, on a CPU; in filled ones
"""Of float32 and of half precision: increased when the same weights and settings would give
different depth. Half precision 2 was autocast's."""


class ViDAEstimator:
    """Video-Depth-Anything on one device.

    The network is moved there with the first frames: asking for `spec` alone needs no such device.
    """

    def __init__(
        self,
        network: VideoDepth,
        run: RunConfig,
        device: torch.device,
        spec: EstimatorSpec | None = None,
    ) -> None:
        self.spec = spec or spec_of(network, run, device)
        self.origin = network.origin
        self._given = network, run, device

    @cached_property
    def _runner(self) -> Runner:
        runner = Runner(*self._given)
        del self._given  # the runner may have laid out the weights anew: no need for both
        return runner

    @property
    def device(self) -> str:
        """The name of the device, for the record of what depth was made on."""
        return device_name(self._runner.device)

    def estimate(self, clips: Iterable[FrameClip]) -> Iterator[DepthBlock]:
        """Depth of many clips at their own resolution, float32, clip by clip in order.

        Frames are output as soon as the window that finalises them is done. A clip that cannot be
        read, or whose depth is not finite, ends with a block that states the reason.
        """
        return estimate(self._runner, clips)

    @property
    def waited(self) -> float:
        """Seconds spent waiting for frames."""
        return self._runner.waited

    @property
    def degraded(self) -> bool:
        """Whether the device ran out of memory, so that low bits of the result may differ."""
        return self._runner.halvings > 0


def load_estimator(
    config: ViDAConfig, weights: Path | None, run: RunConfig, device: torch.device
) -> ViDAEstimator:
    """The network with its weights, ready to use. Without a path it searches the usual places.

    If torch.compile does not work, it is not used, which is recorded in the spec; but where that is
    `settled` it is refused. Raises `ConfigError`, `MissingPackage` or `WeightsError`.
    """
    if run.compile:
        run = replace(run, compile=can_compile(device, required=run.settled))
    if run.attention == "kernel" and find_spec("triton") is None:
        raise MissingPackage("attention by a kernel needs Triton", remedy="pip install triton")
    return ViDAEstimator(load_network(config, find_weights(config.name, weights)), run, device)


def kind_of(config: ViDAConfig) -> DepthKind:
    """The kind of depth that a network outputs."""
    return DepthKind.METRES if config.metric else DepthKind.DISPARITY


def spec_of(network: VideoDepth, run: RunConfig, device: torch.device) -> EstimatorSpec:
    """The specification of a network with these settings on this type of device."""
    config = network.config
    run = run.resolved(config, device.type)
    ragged = device.type == "cpu" and not run.compile
    return EstimatorSpec(
        name=config.name,
        kind=kind_of(config),
        weights=weights_hash(network),
        precision=run.precision,
        input_size=run.input_size,
        licence=licence_of(config.name),
        settings=(
            ("algorithm", ALGORITHM if ragged else ALGORITHM_FILLED),
            ("device", device.type),
            *((name, "yes") for name in CHOICES if getattr(run, name)),
            *((("attention", run.attention),) if run.attention != "fused" else ()),
        ),
    )


def device_name(device: torch.device) -> str:
    """The name of the device, recorded with the depth."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
