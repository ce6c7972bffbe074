"""annotate --plan where the estimator's weights are not: what can be said without the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from depthtok.data import SHIFT, DepthKind, EstimatorSpec
from depthtok.errors import DepthtokError, MissingPackage, WeightsNotHere
from pipelines.annotate.recorded import recorded_estimator
from pipelines.annotate.stage import AnnotateStage
from pipelines.depth.origin import WeightsOrigin
from pipelines.depth.registry import find
from pipelines.stage import Probe, WorkPart


@dataclass(frozen=True)
class UnmeasuredStage(AnnotateStage):
    """A stage to plan, and not to run: its estimator cannot be loaded here, for `lacking`."""

    lacking: DepthtokError | None = None

    @property
    def _described(self) -> tuple[EstimatorSpec, WeightsOrigin | None]:
        """The estimator as the store at `out` has it, where it is of the same name; else as far as
        the name says it: the hash of its weights is not known."""
        config, recorded = self.config, recorded_estimator(self.out)
        if recorded and recorded.name == config.estimator:
            return recorded, None
        kind = find(config.estimator).kind or config.frame.kind or DepthKind.DISPARITY
        settings = ((SHIFT, repr(float(config.shift))),)
        return EstimatorSpec(config.estimator, DepthKind(kind), weights="", settings=settings), None

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """The bytes of a frame before they are packed. No time: nothing is estimated."""
        assert self.lacking is not None
        frame = math.prod(self.size) * np.dtype(self.encoding.dtype).itemsize
        reason = f"{self.lacking.problem} ({self.lacking.remedy})"
        note = f"this machine's rate is not measured: {reason}"
        return Probe(1, None, frame, (note,), at_most=True)


def to_plan(stage: AnnotateStage) -> AnnotateStage:
    """The stage itself; where weights or packages of its estimator are not on this machine, one
    that plans without them. To be called where nothing may be fetched (`only_here`)."""
    try:
        _ = stage.estimator
    except (MissingPackage, WeightsNotHere) as error:
        settings = {field.name: getattr(stage, field.name) for field in fields(stage)}
        return UnmeasuredStage(**settings, lacking=error)
    return stage
