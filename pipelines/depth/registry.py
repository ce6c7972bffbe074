"""The depth estimators by name, and the one that reads a data set's own depth.

A new estimator (of any family) is a `depthtok.data.DepthEstimator` and an entry in
`ESTIMATORS`; no stage changes. One of another package needs no entry (`outside.py`).
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
from pipelines.depth import outside
from pipelines.depth.da3.config import CONFIGS as DA3_CONFIGS
from pipelines.depth.da3.config import DA3Config
from pipelines.depth.da3.estimator import kind_of as da3_kind_of
from pipelines.depth.da3.estimator import licence_of as da3_licence_of
from pipelines.depth.da3.estimator import load_estimator as load_da3
from pipelines.depth.gem import estimator as gem_estimator
from pipelines.depth.gem import published as gem_published
from pipelines.depth.gem.config import GEM_CONFIGS, GemConfig
from pipelines.depth.hf.estimator import load_estimator as load_hf
from pipelines.depth.hf.models import UNKNOWN_LICENCE as UNKNOWN
from pipelines.depth.hf.reference import START, Reference
from pipelines.depth.vida.config import CONFIGS, RunConfig, ViDAConfig
from pipelines.depth.vida.estimator import kind_of, load_estimator
from pipelines.depth.vida.published import licence_notice, licence_of

BLOCK = 32  # frames read at most at a time from the data set's own depth
PIXEL = 32  # bytes that a pixel takes while it becomes metres
WITH_WINDOWS = ("compile", "graphs", "attention")  # settings of what sees whole clips


@dataclass(frozen=True)
class EstimatorEntry:
    """An estimator before its weights are loaded.

    `build(weights, run, device)` loads it; without a path it searches the usual places.
    """

    name: str
    kind: DepthKind | None  # None: known when it is built
    licence: str  # licence of the weights
    notice: str  # to be shown once before use; "" for permissive licences
    input_size: int  # default in px; 0 if there is no network
    build: Callable[[Path | None, RunConfig, torch.device], DepthEstimator]
    takes: tuple[str, ...] = WITH_WINDOWS  # of the settings that not every estimator takes
    needs_focal: bool = False  # metres of it take the focal length

    def require_taken(self, run: RunConfig) -> None:
        """Raises `ConfigError` for a setting that the estimator does not take."""
        plain = RunConfig()
        chosen = [name for name in WITH_WINDOWS if getattr(run, name) != getattr(plain, name)]
        for name in (*chosen, *(name for name, _ in run.frame.chosen())):
            if name not in self.takes:
                options = ", ".join(self.takes) or "none of those that only some take"
                raise ConfigError(
                    f"the estimator {self.name!r} does not take `{name}`",
                    remedy=f"leave it out; it takes {options}",
                )


OF_DATA_SET = EstimatorSpec("dataset", DepthKind.METRES, weights="", licence="the data set's own")


class DatasetDepth:
    """The ground-truth depth in a data set: from a simulator or a sensor, in metres."""

    device = "any"  # the same bytes everywhere
    degraded = False

    def __init__(self, spec: EstimatorSpec | None = None) -> None:
        """`spec`: what made the depth, where it is not the data set's own."""
        self.spec = spec or OF_DATA_SET

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
        takes=("graphs",),  # compiled, and other attention over time, it was not tried
    )


def _da3(config: DA3Config) -> EstimatorEntry:
    parameter = ("focal_px",) if config.metric else ("shift",)
    return EstimatorEntry(
        name=config.name,
        kind=da3_kind_of(config),
        licence=da3_licence_of(config.name),
        notice="",
        input_size=config.input_size,
        build=partial(load_da3, config),
        takes=(*parameter, "steady") if config.views else (*parameter, "sky", "steady"),
        needs_focal=config.metric,
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
    **{name: _da3(config) for name, config in DA3_CONFIGS.items()},
    **{name: _gem(config) for name, config in GEM_CONFIGS.items()},
}


SINGLE = ("kind", "shift", "steady")  # settings of what sees single frames, whatever it is


def find(name: str) -> EstimatorEntry:
    """The estimator `name`: from here, of the Hugging Face Hub, or of another package. Raises a
    `ConfigError` that suggests known names."""
    if name in ESTIMATORS:
        return ESTIMATORS[name]
    if name.startswith(START):
        Reference.of(name)  # says what is wrong with it
        notice = f"The licence of {name} is what its model card says: read it before use."
        return EstimatorEntry(name, None, UNKNOWN, notice, 0, partial(load_hf, name), SINGLE)
    if offered := outside.entry(name):
        offer, build = offered
        return EstimatorEntry(name, offer.kind, offer.licence, offer.notice, 0, build, SINGLE)
    names = [*ESTIMATORS, *(offer.name for offer in outside.offers())]
    raise ConfigError(f"there is no estimator {name!r}", remedy=did_you_mean(name, names))
