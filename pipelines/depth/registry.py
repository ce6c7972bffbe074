"""The depth estimators by name, and the one that reads a data set's own depth.

A new estimator (of any family) is a `depthtok.data.DepthEstimator` and an entry in
`ESTIMATORS`; no stage changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from depthtok.data import DepthBlock, DepthClip, DepthEstimator, DepthKind, EstimatorSpec, FrameClip
from depthtok.disk.bounds import together
from depthtok.errors import ConfigError, CorruptRecord, did_you_mean
from pipelines.depth.gem import estimator as gem_estimator
from pipelines.depth.gem import published as gem_published
from pipelines.depth.gem.config import GEM_CONFIGS, GemConfig
from pipelines.depth.vida.config import CONFIGS, RunConfig, ViDAConfig
from pipelines.depth.vida.estimator import kind_of, load_estimator
from pipelines.depth.vida.published import licence_notice, licence_of

BLOCK = 32  # frames read at most at a time from the data set's own depth
PIXEL = 32  # bytes that a pixel takes while it becomes metres


@dataclass(frozen=True)
class EstimatorEntry:
    """An estimator before its weights are loaded.

    `build(weights, run, device)` loads it; without a path it searches the usual places.
    """

    name: str
    kind: DepthKind
    licence: str  # licence of the weights
    notice: str  # to be shown once before use; "" for permissive licences
    input_size: int  # default in px; 0 if there is no network
    build: Callable[[Path | None, RunConfig, torch.device], DepthEstimator]


class DatasetDepth:
    """The ground-truth depth in a data set: from a simulator or a sensor, in metres."""

    spec = EstimatorSpec("dataset", DepthKind.METRES, weights="", licence="the data set's own")
    device = "any"  # the same bytes everywhere
    degraded = False

    def estimate(self, clips: Iterable[FrameClip]) -> Iterator[DepthBlock]:
        for number, clip in enumerate(clips):
            try:
                camera, start = clip.camera, 0
                pixels = (camera.height or 0) * (camera.width or 0)
                while start < len(clip):
                    # The first frame tells the size where the data set does not.
                    frames = together(pixels * PIXEL, BLOCK) if pixels else 1
                    metres = clip.true_depth(start, min(start + frames, len(clip)))
                    yield DepthBlock(number, DepthClip.of(metres, DepthKind.METRES))
                    start, pixels = start + len(metres), metres[0].size
            except CorruptRecord as error:
                yield DepthBlock(number, error=error.problem)


def _dataset(weights: Path | None, run: RunConfig, device: torch.device) -> DatasetDepth:
    if weights is not None:
        raise ConfigError(
            "the estimator 'dataset' has no weights", remedy="leave --weights out, or choose vits"
        )
    return DatasetDepth()


def _vida(config: ViDAConfig) -> EstimatorEntry:
    return EstimatorEntry(
        name=config.name,
        kind=kind_of(config),
        licence=licence_of(config.name),
        notice=licence_notice(config.name),
        input_size=config.input_size,
        build=partial(load_estimator, config),
    )


def _gem(config: GemConfig) -> EstimatorEntry:
    return EstimatorEntry(
        name=config.name,
        kind=kind_of(config),
        licence=gem_published.licence_of(config.name),
        notice=gem_published.licence_notice(config.name),
        input_size=config.input_size,
        build=partial(gem_estimator.load_estimator, config),
    )


ESTIMATORS: dict[str, EstimatorEntry] = {
    "dataset": EstimatorEntry(
        name="dataset",
        kind=DepthKind.METRES,
        licence="the data set's own",
        notice="",
        input_size=0,
        build=_dataset,
    ),
    **{name: _vida(config) for name, config in CONFIGS.items()},
    **{name: _gem(config) for name, config in GEM_CONFIGS.items()},
}


def find(name: str) -> EstimatorEntry:
    """The estimator `name`. Raises a `ConfigError` that suggests known names."""
    if name not in ESTIMATORS:
        raise ConfigError(
            f"there is no estimator {name!r}", remedy=did_you_mean(name, list(ESTIMATORS))
        )
    return ESTIMATORS[name]
