"""Runs estimators on altered frames of some clips of an EpisodeStore, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from depthtok.log import warn
from depthtok.progress import progress
from depthtok.stores.episodes import EpisodeStore
from pipelines.annotate.stage import AnnotateStage
from pipelines.audit.candidates import doubt_about
from pipelines.audit.consistency import SelfConsistency, chosen_clips, self_consistency
from pipelines.audit.consistency_table import Ran
from pipelines.config import AnnotateConfig, require_distinct
from pipelines.depth.registry import find
from pipelines.device import choose


def run_estimators(
    episodes: EpisodeStore,
    estimators: Sequence[tuple[str, Path | None]],
    cameras: Sequence[str] | None,
    limits: tuple[int, int],
    device: str,
) -> list[Ran]:
    """Every estimator, by name and weights (None: the usual places), on the same clips: at most so
    many, and at most so many frames of each.

    Raises `ConfigError` for an estimator that is not known or runs no network.
    """
    require_distinct("camera", cameras or ())
    names = tuple(episodes.camera(name).name for name in cameras or episodes.cameras)
    labels = _labels(estimators)
    clips = chosen_clips(episodes, names, limits[0])
    chosen_device, ran = choose(device), []
    with progress(total=len(clips) * len(labels), unit="clips", label="audit-depth") as bar:
        for label, (name, weights) in zip(labels, estimators, strict=True):
            if notice := find(name).notice:
                warn(notice)
            config = AnnotateConfig(estimator=name)
            stage = AnnotateStage(
                episodes, Path(), config, chosen_device, partial=True, weights=weights
            )
            estimator = stage.load_estimator()
            parts = []
            for clip in clips:
                parts.append(self_consistency(estimator, [clip], limits[1]))
                bar.advance()
            spec, origin = estimator.spec, getattr(estimator, "origin", None)
            doubt = doubt_about(spec.name, spec.weights, str(origin or ""))
            ran.append(Ran(label, spec.licence, doubt, _together(parts)))
    return ran


def _labels(estimators: Sequence[tuple[str, Path | None]]) -> list[str]:
    """Names by which the estimators of a table are told apart."""
    names = [name for name, _ in estimators]
    labels = [
        name if names.count(name) == 1 or weights is None else f"{name} ({weights.stem})"
        for name, weights in estimators
    ]
    require_distinct("estimator", labels)
    return labels


def _together(parts: Sequence[SelfConsistency]) -> SelfConsistency:
    clips = [clip for part in parts for clip in part.clips]
    seconds = sum(part.seconds for part in parts)
    return SelfConsistency(clips, sum(part.frames for part in parts), seconds)
