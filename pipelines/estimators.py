"""The depth estimators by name, and the one that reads what a data set carries.

A new estimator is a class with `spec` and `estimate` (see `depthtok.data.DepthEstimator`) and an
entry in `ESTIMATORS`; no stage changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from depthtok.data import DepthBlock, DepthClip, DepthKind, EstimatorSpec, FrameClip
from depthtok.errors import ConfigError, CorruptRecord, did_you_mean
from pipelines.vida.config import RunConfig
from pipelines.vida.estimator import ESTIMATORS as VIDA
from pipelines.vida.estimator import EstimatorEntry

BLOCK = 32  # frames that the data set's own depth is read in


class DatasetDepth:
    """The true depth that a data set carries: from a simulator or a sensor, in metres."""

    spec = EstimatorSpec("dataset", DepthKind.METRES, weights="", licence="the data set's own")
    device = "any"  # the same bytes everywhere
    degraded = False

    def estimate(self, clips: Iterable[FrameClip]) -> Iterator[DepthBlock]:
        for number, clip in enumerate(clips):
            try:
                for start in range(0, len(clip), BLOCK):
                    metres = clip.true_depth(start, min(start + BLOCK, len(clip)))
                    yield DepthBlock(number, DepthClip.of(metres, DepthKind.METRES))
            except CorruptRecord as error:
                yield DepthBlock(number, error=error.problem)


def _dataset(weights: Path | None, run: RunConfig, device: torch.device) -> DatasetDepth:
    if weights is not None:
        raise ConfigError(
            "the estimator 'dataset' has no weights", remedy="leave --weights out, or choose vits"
        )
    return DatasetDepth()


ESTIMATORS: dict[str, EstimatorEntry] = {
    "dataset": EstimatorEntry(
        name="dataset",
        kind=DepthKind.METRES,
        licence="the data set's own",
        notice="",
        input_size=0,
        precisions=("float32",),
        build=_dataset,
    ),
    **VIDA,
}


def find(name: str) -> EstimatorEntry:
    """The estimator `name`. Raises `ConfigError` with the names there are."""
    if name not in ESTIMATORS:
        raise ConfigError(
            f"there is no estimator {name!r}", remedy=did_you_mean(name, list(ESTIMATORS))
        )
    return ESTIMATORS[name]
