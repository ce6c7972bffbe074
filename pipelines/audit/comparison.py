"""Several estimators held against the truth of one or more data sets: a table, and a choice.

Every figure of the table is a mean over the clips that all estimators have, so that all are asked
the same; what only some of them have is counted and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from depthtok.data import EpisodeKey
from depthtok.errors import SourceError
from pipelines.audit.audit import ClipAudit, Pair, audit
from pipelines.audit.bootstrap import Interval, interval
from pipelines.audit.candidates import Candidate, Meeting
from pipelines.audit.choice import Choice, choose
from pipelines.audit.code_changes import CodeChanges, code_changes
from pipelines.audit.findings import UNTESTABLE, CameraAudit, summarise
from pipelines.audit.pairs import paired
from pipelines.audit.reprojection import temporal_alignment_error
from vqvae.codec import Codec

OF_CLIP = ("abs_rel", "delta1", "r2", "edges", "gripper", "flicker")
FIGURES = (*OF_CLIP, "tae", "code_flips", "codes_equal")


@dataclass(frozen=True)
class ClipFigures:
    """One candidate's depth of one clip. None: no such pixels, no poses, or no codebook."""

    candidate: str
    data_set: str
    audit: ClipAudit = field(repr=False)
    tae: float | None
    codes: CodeChanges | None

    @property
    def clip(self) -> tuple[EpisodeKey, str]:
        """The episode and the camera."""
        return self.audit.key, self.audit.camera

    def value(self, figure: str) -> float | None:
        """A figure by its name in `FIGURES`."""
        if figure == "tae":
            return self.tae
        if figure == "code_flips":
            return self.codes.flips if self.codes else None
        if figure == "codes_equal":
            return self.codes.same if self.codes else None
        return getattr(self.audit, figure)


@dataclass(frozen=True)
class CandidateFigures:
    """One row of the table: figures over the clips that all candidates have, with intervals by
    bootstrap over episodes; None where a figure is not known. `data_sets` are the same by data set
    and camera. `frames_per_s` is of one worker, `peak_bytes` of its process."""

    name: str
    licence: str
    doubt: str
    figures: Mapping[str, Interval | None]
    data_sets: Mapping[str, Mapping[str, Interval | None]]
    wrong: Sequence[str]
    weak: Sequence[str]
    notes: Sequence[str]
    frames_per_s: float | None
    peak_bytes: int | None
    device: str | None


@dataclass(frozen=True)
class EstimatorComparison:
    """Estimators side by side, the best first as far as AbsRel says, and which one to take.

    `codes_of_truth_flip` is the share of static cells whose code changes though depth is true.
    """

    estimators: Sequence[CandidateFigures]
    choice: Choice
    clips: int
    left_out: Sequence[str]
    codes_of_truth_flip: Interval | None
    any_unit: bool
    page: Path

    @property
    def wrong(self) -> bool:
        """Whether depth of an estimator is turned, swapped, shifted or in another scale."""
        return any(row.wrong for row in self.estimators)

    @property
    def weak(self) -> bool:
        """Whether no estimator is better than an answer that ignores the image."""
        return all(row.weak for row in self.estimators)


@dataclass(frozen=True)
class Measured:
    """What is measured: figures of clips, the pairs that they are of, and what was left out."""

    clips: Sequence[ClipFigures]
    pairs: Mapping[tuple[str, EpisodeKey, str], Pair]
    left_out: Sequence[str]


def measure(
    table: Sequence[Meeting],
    cameras: Sequence[str] | None,
    source_root: Path | None,
    codec: Codec | None,
    say: Callable[[str], None],
    advance: Callable[[int], None],
) -> Measured:
    """The figures of every clip that all candidates of a data set have. `say` hears of clips that
    could not be compared; these are left out for all. `advance` hears how many are done. Raises
    `SourceError` where no clip is left."""
    pairs = {
        (meeting.candidate, pair.key, pair.camera): (meeting, pair)
        for meeting in table
        for pair in paired(meeting.estimated, meeting.truth, cameras, source_root, poses=True)
    }
    names = list(dict.fromkeys(meeting.candidate for meeting in table))
    views = dict.fromkeys((key, camera) for _, key, camera in pairs)
    common = [view for view in views if all((name, *view) in pairs for name in names)]
    if not common:
        raise SourceError(
            f"no clip is in the stores of all of {', '.join(names)}",
            remedy="give each estimator's depth of the same episodes and cameras",
        )
    left_out = _lacking(names, views, pairs)
    clips: list[ClipFigures] = []
    for view in common:
        try:
            clips += [_figures(*pairs[name, *view], codec) for name in names]
        except SourceError as error:
            say(error.problem)
            left_out.append(error.problem)
        advance(len(names))
    if not clips:
        raise SourceError("no clip could be compared", remedy="see the warnings above")
    return Measured(clips, {key: pair for key, (_, pair) in pairs.items()}, left_out)


def _lacking(names: Sequence[str], views, pairs) -> list[str]:
    """How many clips a candidate has no depth of, though another has."""
    missing = {name: sum((name, *view) not in pairs for view in views) for name in names}
    return [
        f"{count} clips that {name} has no depth of are left out for all"
        for name, count in missing.items()
        if count
    ]


def _figures(meeting: Meeting, pair: Pair, codec: Codec | None) -> ClipFigures:
    clip = audit(pair)
    tae = temporal_alignment_error(pair, clip.fit)
    codes = code_changes(pair, codec) if codec else None
    return ClipFigures(meeting.candidate, str(meeting.truth.about["dataset"]), clip, tae, codes)


def rows_of(
    candidates: Sequence[Candidate], clips: Sequence[ClipFigures], *, any_unit: bool
) -> list[CandidateFigures]:
    """The table, the smallest AbsRel first. With `any_unit` nothing is said of the truth's unit."""
    rows = [
        _row(candidate, [clip for clip in clips if clip.candidate == candidate.name], any_unit)
        for candidate in candidates
    ]
    return sorted(rows, key=lambda row: mean_of(row.figures["abs_rel"]))


def mean_of(figure: Interval | None) -> float:
    """The mean; infinite where it is not known, so that it comes last."""
    return float("inf") if figure is None else figure.mean


def _row(candidate: Candidate, clips: Sequence[ClipFigures], any_unit: bool) -> CandidateFigures:
    views = dict.fromkeys((clip.data_set, clip.audit.camera) for clip in clips)
    by_view = {
        f"{data_set}, {camera}": [
            c for c in clips if (c.data_set, c.audit.camera) == (data_set, camera)
        ]
        for data_set, camera in views
    }
    summaries = {name: summary_of(group, any_unit) for name, group in by_view.items()}

    def said(what: str) -> list[str]:
        texts = [(name, text) for name, s in summaries.items() for text in getattr(s, what)]
        return [f"{name}: {t}" for name, t in texts if not t.startswith(UNTESTABLE)]

    speed = candidate.speed
    return CandidateFigures(
        name=candidate.name,
        licence=candidate.licence,
        doubt=candidate.doubt,
        figures=intervals(clips),
        data_sets={name: intervals(group) for name, group in by_view.items()},
        wrong=said("wrong"),
        weak=said("weak"),
        notes=said("notes"),
        frames_per_s=speed.frames_per_s if speed else None,
        peak_bytes=speed.peak_bytes if speed else None,
        device=speed.device if speed else None,
    )


def summary_of(clips: Sequence[ClipFigures], any_unit: bool) -> CameraAudit:
    """The findings of one camera of one data set."""
    (summary,) = summarise([clip.audit for clip in clips], any_unit=any_unit)
    return summary


def intervals(clips: Sequence[ClipFigures]) -> dict[str, Interval | None]:
    """Every figure's mean over clips, with its interval."""
    return {figure: interval(by_episode(clips, figure)) for figure in FIGURES}


def by_episode(clips: Sequence[ClipFigures], figure: str) -> dict[str, list[float]]:
    """A figure's values by episode, without clips where it is not known."""
    values: dict[str, list[float]] = {}
    for clip in clips:
        if (value := clip.value(figure)) is not None:
            values.setdefault(str(clip.audit.key), []).append(value)
    return values


def difference(clips: Sequence[ClipFigures], figure: str, a: str, b: str) -> Interval | None:
    """A figure of candidate `b` minus that of `a`, clip by clip; None where none has both."""
    sides = [
        {clip.clip: clip.value(figure) for clip in clips if clip.candidate == name}
        for name in (a, b)
    ]
    values: dict[str, list[float]] = {}
    for view, first in sides[0].items():
        second = sides[1].get(view)
        if first is not None and second is not None:
            values.setdefault(str(view[0]), []).append(second - first)
    return interval(values)


def compared(
    candidates: Sequence[Candidate], measured: Measured, page: Path, *, any_unit: bool
) -> EstimatorComparison:
    """The table and the choice."""
    rows = rows_of(candidates, measured.clips, any_unit=any_unit)
    names = [row.name for row in rows]
    first = [clip for clip in measured.clips if clip.candidate == names[0]]
    return EstimatorComparison(
        estimators=rows,
        choice=choose(rows, lambda figure, a, b: difference(measured.clips, figure, a, b)),
        clips=len(first),
        left_out=measured.left_out,
        codes_of_truth_flip=interval(_true_flips(first)),
        any_unit=any_unit,
        page=page,
    )


def _true_flips(clips: Sequence[ClipFigures]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for clip in clips:
        if clip.codes and clip.codes.true_flips is not None:
            values.setdefault(str(clip.audit.key), []).append(clip.codes.true_flips)
    return values


def shown_clips(clips: Sequence[ClipFigures]) -> Iterator[tuple[EpisodeKey, str]]:
    """For each data set and camera the clip of median error and that of the largest, over the
    candidates' means."""
    views = dict.fromkeys((clip.data_set, clip.audit.camera) for clip in clips)
    for view in views:
        errors: dict[tuple[EpisodeKey, str], float] = {}
        for clip in clips:
            if (clip.data_set, clip.audit.camera) == view:
                errors[clip.clip] = errors.get(clip.clip, 0.0) + clip.audit.abs_rel
        order = sorted(errors, key=lambda name: errors[name])
        yield from dict.fromkeys((order[len(order) // 2], order[-1]))
