"""The depth estimators by name, and the one that reads what a data set carries.

A new estimator is a class with `spec` and `estimate` (see `depthtok.data.DepthEstimator`) and a line
in `ESTIMATORS`; no stage changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from depthtok.data import (
    DepthBlock,
    DepthClip,
    DepthEstimator,
    DepthKind,
    EstimatorSpec,
    FrameClip,
)
from depthtok.errors import ConfigError, CorruptRecord, did_you_mean

BLOCK = 32  # frames that the data set's own depth is read in


@dataclass(frozen=True)
class EstimatorEntry:
    """An estimator before its weights are loaded."""

    kind: DepthKind
    licence: str
    about: str
    spec: Callable[[str], EstimatorSpec]  # device -> what it will be made of
    build: Callable[[str], DepthEstimator]  # device -> ready to estimate


class DatasetDepth:
    """The true depth that a data set carries: from a simulator or a sensor, in metres."""

    def __init__(self, device: str = "cpu") -> None:
        self.spec = dataset_spec(device)

    def estimate(self, clips: Iterable[FrameClip]) -> Iterator[DepthBlock]:
        for number, clip in enumerate(clips):
            try:
                for start in range(0, len(clip), BLOCK):
                    metres = clip.true_depth(start, min(start + BLOCK, len(clip)))
                    yield DepthBlock(number, DepthClip.of(metres, DepthKind.METRES))
            except CorruptRecord as error:
                yield DepthBlock(number, error=error.problem)


def dataset_spec(device: str) -> EstimatorSpec:
    """No weights, and the same bytes on every device."""
    return EstimatorSpec("dataset", DepthKind.METRES, weights="", licence="the data set's own")


ESTIMATORS = {
    "dataset": EstimatorEntry(
        DepthKind.METRES, "the data set's own", "true depth that the data set carries",
        dataset_spec, DatasetDepth,
    ),
}  # fmt: skip


def find(name: str) -> EstimatorEntry:
    """The estimator `name`. Raises `ConfigError` with the names there are."""
    if name not in ESTIMATORS:
        raise ConfigError(
            f"there is no estimator {name!r}", remedy=did_you_mean(name, list(ESTIMATORS))
        )
    return ESTIMATORS[name]
