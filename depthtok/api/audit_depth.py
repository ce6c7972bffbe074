"""Estimated depth held against the truth, several estimators side by side, or against itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.depth_stores import opened
from depthtok.api.flags import Partial, SourceRoot
from depthtok.api.parameters import BySet, Flag, Positional
from depthtok.errors import ConfigError, SourceError
from depthtok.log import warn
from depthtok.signals import stoppable
from pipelines.audit.settings import AuditConfig

if TYPE_CHECKING:
    from depthtok.stores.depth import DepthStore
    from pipelines.audit.audit import ClipAudit
    from pipelines.audit.comparison import EstimatorComparison
    from pipelines.audit.consistency_table import ConsistencyAudit
    from pipelines.audit.findings import CameraAudit


PLAIN = AuditConfig()  # no setting is chosen
ITS_OWN = Path("-")  # in place of weights: an estimator finds its own


@dataclass(frozen=True)
class DepthAudit:
    """Figures and findings of each camera and of each clip, and the page that shows them."""

    cameras: Sequence[CameraAudit]
    clips: Sequence[ClipAudit]
    page: Path

    @property
    def wrong(self) -> bool:
        """Whether depth of a camera is rotated, mirrored, inverted or in another unit or scale."""
        return any(camera.wrong for camera in self.cameras)

    @property
    def weak(self) -> bool:
        """Whether depth of a camera is worse than an answer that ignores the image."""
        return any(camera.weak for camera in self.cameras)


def audit_depth(
    episodes: Annotated[
        Path | None,
        Positional("[EPISODES]", "with --estimator: an EpisodeStore, which needs no true depth"),
    ] = None,
    *,
    estimated: Annotated[
        list[Path] | None, "a DepthStore of estimates; several: give again"
    ] = None,
    truth: Annotated[
        list[Path] | None, "a DepthStore of ground-truth depth (metres), one for each data set"
    ] = None,
    out: Annotated[Path, "directory of the report"],
    camera: Annotated[list[str] | None, "cameras to compare; all by default"] = None,
    camera_height: Annotated[
        list[str] | None,
        Flag(
            "its distance from the plane that fills most of its image: tests true depth",
            metavar="CAMERA=METRES",
        ),
    ] = None,
    codebook: Annotated[Path | None, "also compare the codes that depth leads to"] = None,
    any_unit: Annotated[bool, "the unit of the truth is unknown: test no scale"] = False,
    estimator: Annotated[
        list[str] | None, "without --truth: estimators to hold against themselves"
    ] = None,
    weights: Annotated[
        list[Path] | None,
        "with --estimator: its weights, in the same order; - where it finds its own",
    ] = None,
    clips: Annotated[int, Flag("with --estimator: how many clips", least=1)] = 12,
    frames: Annotated[int, Flag("with --estimator: frames of each clip", least=2)] = 16,
    device: Annotated[str, "with --estimator: auto, cpu, cuda or cuda:N"] = "auto",
    settings: Annotated[AuditConfig, BySet(*(field.name for field in fields(AuditConfig)))] = PLAIN,
    partial: Partial = False,
    source_root: SourceRoot = None,
) -> DepthAudit | EstimatorComparison | ConsistencyAudit:
    """Compare estimated depth with ground truth, or estimators with each other.

    One --estimated and one --truth: errors and flicker in disparity, after the best scale and shift
    of each clip. Exit code 1 if depth is rotated, mirrored, shifted, inverted or in another unit or
    scale, or is worse than a plane or the mean of each row.

    Several: one table and page, and which estimator to take. EPISODES with --estimator: how far
    estimators agree with themselves on mirrored, cropped and smaller frames, without any truth.
    A mix of the two is refused.

    Example: depthtok audit-depth --estimated runs/depth --truth runs/true-depth --out runs/audit
    """
    from depthtok.disk.files import require_writable

    if episodes is not None or estimator:
        names, files, limits = estimator or [], weights or [], (clips, frames)
        if estimated or truth or episodes is None or not names:
            raise ConfigError(
                "EPISODES and --estimator hold estimators against themselves; --estimated and "
                "--truth compare stores",
                remedy="give EPISODES with at least one --estimator, or --estimated with --truth",
            )
        if codebook or camera_height or any_unit:
            raise ConfigError(
                "--codebook, --camera-height and --any-unit go with --estimated and --truth: "
                "EPISODES with --estimator are held against no truth",
                remedy="leave them out, or annotate and compare the stores",
            )
        require_writable(out)
        return _against_themselves(
            episodes,
            list(_with_weights(names, files)),
            limits,
            camera,
            device,
            settings,
            source_root,
            out,
            partial=partial,
        )
    if settings != PLAIN or weights:
        raise ConfigError(
            "settings and weights of an estimator go with EPISODES and --estimator; stores are as "
            "they are",
            remedy="leave --set and --weights out, or annotate again with them",
        )
    if not estimated or not truth:
        raise ConfigError(
            f"--{'truth' if estimated else 'estimated'} is not given",
            remedy="give --estimated and --truth; without true depth EPISODES and --estimator",
        )
    heights = _heights(camera_height or [])
    require_writable(out)
    if len(estimated) == len(truth) == 1 and codebook is None and not any_unit:
        return _one(estimated[0], truth[0], out, camera, heights, source_root, partial=partial)
    if heights:
        raise ConfigError(
            "--camera-height tests the truth of one --estimated and one --truth",
            remedy="leave it out, or audit that store alone",
        )
    stores = [opened(path, partial=partial) for path in estimated]
    truths = [_true(path, partial=partial) for path in truth]
    return _several(stores, truths, codebook, camera, source_root, out, any_unit=any_unit)


def _true(path: Path, *, partial: bool) -> DepthStore:
    """A store of true depth, with a warning where it is an estimate."""
    from pipelines.depth.truth import doubt_about

    store = opened(path, partial=partial)
    if doubt := doubt_about(store):
        warn(doubt)
    return store


def _one(
    estimated: Path,
    truth: Path,
    out: Path,
    cameras: list[str] | None,
    heights: dict[str, float],
    source_root: Path | None,
    *,
    partial: bool,
) -> DepthAudit:
    """One store of estimates against its truth."""
    from depthtok.progress import progress
    from pipelines.audit.audit import audit
    from pipelines.audit.findings import summarise
    from pipelines.audit.page import make_page
    from pipelines.audit.pairs import paired

    stores = opened(estimated, partial=partial), _true(truth, partial=partial)
    pairs = list(paired(*stores, cameras, source_root, heights))
    clips: list[ClipAudit] = []
    with stoppable(), progress(total=len(pairs), unit="clips", label="audit-depth") as bar:
        for pair in pairs:
            try:
                clips.append(audit(pair))
            except SourceError as error:
                warn(error.problem)
            bar.advance()
    if not clips:
        raise SourceError("no clip could be compared", remedy="see the warnings above")
    summaries = summarise(clips)
    page = make_page(*stores, pairs, clips, summaries, source_root).write(out)
    return DepthAudit(summaries, clips, page)


def _several(
    stores: Sequence[DepthStore],
    truths: Sequence[DepthStore],
    codebook: Path | None,
    cameras: list[str] | None,
    source_root: Path | None,
    out: Path,
    *,
    any_unit: bool,
) -> EstimatorComparison:
    """Estimators side by side, over one or more data sets."""
    from depthtok.progress import progress
    from pipelines.audit.candidates import candidates_of, meetings, require_codebook
    from pipelines.audit.comparison import compared, measure
    from pipelines.audit.comparison_page import comparison_report

    candidates = candidates_of(stores)
    table = meetings(candidates, truths)
    codec = require_codebook(codebook, table) if codebook else None
    total = sum(len(list(store.clips())) for store in stores)
    with stoppable(), progress(total=total, unit="clips", label="audit-depth") as bar:
        measured = measure(table, cameras, source_root, codec, warn, bar.advance)
    page = out / "report.html"
    result = compared(candidates, measured, page, any_unit=any_unit)
    comparison_report(result, candidates, table, measured, source_root).write(out)
    return result


def _against_themselves(
    source: Path,
    estimators: Sequence[tuple[str, Path | None]],
    limits: tuple[int, int],
    cameras: list[str] | None,
    device: str,
    settings: AuditConfig,
    source_root: Path | None,
    out: Path,
    *,
    partial: bool,
) -> ConsistencyAudit:
    """Estimators, by name and weights, on altered frames. `limits` are how many clips, and how many
    frames of each."""
    from depthtok.stores.episodes import EpisodeStore
    from pipelines.audit.consistency_run import run_estimators
    from pipelines.audit.consistency_table import consistency_audit, consistency_report

    episodes = EpisodeStore(source, source_root=source_root)
    episodes.require_complete(partial=partial)
    with stoppable():
        ran = run_estimators(episodes, estimators, cameras, limits, device, settings)
    result = consistency_audit(ran, out / "report.html")
    consistency_report(result, source).write(out)
    return result


def _with_weights(
    names: Sequence[str], weights: Sequence[Path]
) -> Iterator[tuple[str, Path | None]]:
    """Each estimator with its weights. Raises `ConfigError` where the numbers differ."""
    if weights and len(weights) != len(names):
        raise ConfigError(
            f"{len(weights)} weights for {len(names)} estimators",
            remedy="give one --weights for each --estimator, in the same order (`--weights -` for "
            "one that finds its own), or none",
        )
    files = (None if path == ITS_OWN else path for path in weights)
    yield from zip(names, files if weights else [None] * len(names), strict=True)


def _heights(texts: list[str]) -> dict[str, float]:
    """Metres by camera, from `CAMERA=METRES`. Raises `ConfigError`."""
    heights = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            heights[name] = float(number)
        except ValueError:
            heights[name] = 0.0
        if not name or not 0 < heights[name] < 1000:
            raise ConfigError(
                f"--camera-height {text}", remedy="write CAMERA=METRES, such as image=0.71"
            )
    return heights
