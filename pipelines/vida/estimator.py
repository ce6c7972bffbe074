"""Estimators by name: what each gives and what it may be used for, and how to make it.

A stage needs `ESTIMATORS[name]` and `DepthEstimator` alone; a model of another family joins by an
entry of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from depthtok.data import DepthBlock, DepthEstimator, DepthKind, EstimatorSpec, FrameClip
from depthtok.errors import ConfigError, did_you_mean
from pipelines.vida.config import CONFIGS, PRECISIONS, RunConfig, ViDAConfig
from pipelines.vida.infer import estimate
from pipelines.vida.network import VideoDepth
from pipelines.vida.runner import Runner
from pipelines.vida.weights import (
    DEMO,
    PUBLISHED,
    find_weights,
    licence_notice,
    load_network,
    weights_hash,
)

ALGORITHM = "1"  # grows when the same weights and settings would give other depth


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
    def degraded(self) -> bool:
        """Whether the device ran so short of memory that low bits of the result may differ."""
        return self._runner.halvings > 0


@dataclass(frozen=True)
class EstimatorEntry:
    """An estimator before its weights are loaded.

    `build(weights, run, device)` loads it; without a path it looks where its weights usually are.
    """

    name: str
    kind: DepthKind
    licence: str  # of the weights
    notice: str  # to be shown once before use; "" for permissive licences
    input_size: int  # px, by default
    precisions: tuple[str, ...]
    build: Callable[[Path | None, RunConfig, torch.device], DepthEstimator]


def _entry(config: ViDAConfig) -> EstimatorEntry:
    def build(weights: Path | None, run: RunConfig, device: torch.device) -> ViDAEstimator:
        network = load_network(config, find_weights(config.name, weights))
        return ViDAEstimator(network, run, device)

    return EstimatorEntry(
        name=config.name,
        kind=DepthKind.METRES if config.metric else DepthKind.DISPARITY,
        licence=_licence(config.name),
        notice=licence_notice(config.name),
        input_size=config.input_size,
        precisions=PRECISIONS,
        build=build,
    )


def _licence(name: str) -> str:
    return PUBLISHED[name].licence if name in PUBLISHED else DEMO


ESTIMATORS: dict[str, EstimatorEntry] = {name: _entry(config) for name, config in CONFIGS.items()}


def estimator_named(name: str) -> EstimatorEntry:
    """The entry of that name. Raises `ConfigError` for an unknown one."""
    if name not in ESTIMATORS:
        raise ConfigError(
            f"there is no estimator {name!r}", remedy=did_you_mean(name, list(ESTIMATORS))
        )
    return ESTIMATORS[name]


def build_estimator(
    name: str,
    *,
    weights: Path | None = None,
    run: RunConfig | None = None,
    device: str | torch.device = "cpu",
) -> DepthEstimator:
    """An estimator, ready to use. Raises `ConfigError` or `WeightsError`."""
    return estimator_named(name).build(weights, run or RunConfig(), torch.device(device))


def spec_of(network: VideoDepth, run: RunConfig, device: torch.device) -> EstimatorSpec:
    """What a network gives with these settings on this type of device."""
    config = network.config
    run = run.resolved(config, device.type)
    return EstimatorSpec(
        name=config.name,
        kind=DepthKind.METRES if config.metric else DepthKind.DISPARITY,
        weights=weights_hash(network),
        precision=run.precision,
        input_size=run.input_size,
        licence=_licence(config.name),
        settings=(("algorithm", ALGORITHM), ("device", device.type)),
    )


def device_name(device: torch.device) -> str:
    """The device in words, for the record of what depth was made on."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
