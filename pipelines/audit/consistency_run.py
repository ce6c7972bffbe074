"""Runs estimators on altered frames of some clips of an EpisodeStore, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from depthtok.data import DepthEstimator, FrameClip
from depthtok.errors import SourceError
from depthtok.log import warn
from depthtok.progress import Bar, progress
from depthtok.stores.episodes import EpisodeStore
from pipelines.annotate.focal import require_focal
from pipelines.annotate.stage import AnnotateStage
from pipelines.audit.candidates import doubt_about
from pipelines.audit.consistency import SelfConsistency, chosen_clips, self_consistency
from pipelines.audit.consistency_table import Ran
from pipelines.audit.settings import AuditConfig
from pipelines.config import require_distinct
from pipelines.depth.registry import find
from pipelines.device import choose


def run_estimators(
    episodes: EpisodeStore,
    estimators: Sequence[tuple[str, Path | None]],
    cameras: Sequence[str] | None,
    limits: tuple[int, int],
    device: str,
    settings: AuditConfig,
) -> list[Ran]:
    """Every estimator, by name and weights (None: the usual places), on the same clips: at most so
    many, and at most so many frames of each. A clip that one of them cannot do is said, and left
    out for all.

    Raises `ConfigError` for an estimator that is not known or runs no network, or a setting that
    none of them takes; `SourceError` where no clip is left.
    """
    require_distinct("camera", cameras or ())
    names = tuple(episodes.camera(name).name for name in cameras or episodes.cameras)
    labels, chosen = _labels(estimators), settings.of([name for name, _ in estimators])
    clips = chosen_clips(episodes, names, limits[0])
    chosen_device, ran = choose(device), []
    with progress(total=len(clips) * len(labels), unit="clips", label="audit-depth") as bar:
        for label, (name, weights), (config, asked) in zip(labels, estimators, chosen, strict=True):
            entry = find(name)
            if entry.notice:
                warn(entry.notice)
            if entry.needs_focal and not config.focal_px:
                require_focal(episodes, names)
            stage = AnnotateStage(
                episodes, Path(), config, chosen_device, partial=True, weights=weights
            )
            estimator = stage.load_estimator()
            result = _each(estimator, clips, limits[1], bar)
            spec, origin = estimator.spec, getattr(estimator, "origin", None)
            doubt = doubt_about(spec.name, spec.weights, str(origin or ""))
            said = {key: str(value) for key, value in asked.items()}
            ran.append(Ran(label, spec.licence, doubt, result, said))
    return _common(ran)


def _each(
    estimator: DepthEstimator, clips: Sequence[FrameClip], frames: int, bar: Bar
) -> SelfConsistency:
    """An estimator on each clip; those that it cannot do are said, and are not in the result."""
    parts = []
    for clip in clips:
        try:
            parts.append(self_consistency(estimator, [clip], frames))
        except SourceError as error:
            warn(f"left out for all: {error.problem}")
        bar.advance()
    return _together(parts)


def _common(ran: Sequence[Ran]) -> list[Ran]:
    """The same over the clips that all have. Raises `SourceError` where there is none."""
    views = [{(clip.key, clip.camera) for clip in one.result.clips} for one in ran]
    shared = set.intersection(*views)
    if not shared:
        raise SourceError(
            f"no clip could be done by {' and '.join(one.name for one in ran)}",
            remedy="see the warnings above",
        )
    return [
        replace(
            one,
            result=replace(
                one.result,
                clips=[clip for clip in one.result.clips if (clip.key, clip.camera) in shared],
            ),
        )
        for one in ran
    ]


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
