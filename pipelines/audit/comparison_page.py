"""The page of estimators side by side: the recommendation, the table, and frames in rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from depthtok.data import DepthClip, DepthKind, EpisodeKey
from depthtok.errors import DepthtokError
from depthtok.format import human_bytes
from depthtok.pages.colour import INVALID, colourise
from depthtok.pages.pictures import Picture
from depthtok.pages.report import Report
from depthtok.pages.scale import ColourScale
from depthtok.stores.stored_episode import StoredEpisode
from pipelines.audit.audit import Pair
from pipelines.audit.bootstrap import Interval
from pipelines.audit.candidates import Candidate, Meeting
from pipelines.audit.comparison import (
    CandidateFigures,
    ClipFigures,
    EstimatorComparison,
    Measured,
    shown_clips,
)
from pipelines.audit.fit import as_fitted
from pipelines.audit.page import ERRORS, WORST_ERROR, estimator_facts
from pipelines.depth.truth import episodes_of

GAP = 4  # px between the two pictures of a column
COLUMNS = {
    "abs_rel": "AbsRel",
    "delta1": "delta1",
    "edges": "at edges",
    "gripper": "at gripper",
    "flicker": "flicker",
    "tae": "TAE",
    "code_flips": "code flips",
    "codes_equal": "codes equal",
}
HEADINGS = {  # where there is more room than on a terminal
    "abs_rel": "relative error (AbsRel)",
    "delta1": "within a factor 1.25 (delta1)",
    "edges": "error at edges",
    "gripper": "error at the gripper",
    "tae": "alignment error (TAE)",
}
OF_CODES = ("code_flips", "codes_equal")  # known where a codebook is given
UNKNOWN = {"tae": "no poses"}
NOT_RECORDED = "not recorded"
EXPLAINED = (
    "Each clip's estimate is compared after the one scale and shift, in disparity (of relative "
    "depth in depth), that bring it nearest the truth. AbsRel is the mean relative error of depth, "
    "delta1 the share of pixels within a factor of 1.25; at edges and at the gripper, AbsRel near "
    "those alone. None of the figures depends on the unit of the truth, and pixels without true "
    "depth count nowhere.",
    "Flicker is the mean relative change of the estimate from frame to frame where the truth "
    "stands still in the image. TAE, the temporal alignment error, carries the depth of each frame "
    "into the next by the camera's poses and compares it there, where the truth itself agrees; it "
    "needs poses, which a simulator has.",
    "With --codebook: code flips are the share of the cells in which nothing moves whose code "
    "changes from one frame to the next; codes equal is the share of codes that are those of true "
    "depth.",
    "In brackets are 95 % intervals, by bootstrap over the episodes (clips of one are drawn "
    "together). Figures are means over the clips that all estimators have. Frames/s is of one "
    "worker, memory the most that its process (on a GPU, its tensors) took, both as the last "
    "`annotate` recorded them on its machine.",
)


def comparison_report(
    result: EstimatorComparison,
    candidates: Sequence[Candidate],
    table: Sequence[Meeting],
    measured: Measured,
    source_root: Path | None = None,
) -> Report:
    """Everything that is known of the candidates. `source_root`: where the data set of the images
    lies now."""
    sets = list(dict.fromkeys(str(meeting.truth.path) for meeting in table))
    page = Report(
        "Which depth to trust",
        f"{len(candidates)} estimator{'s' * (len(candidates) > 1)} against {', '.join(sets)}",
    )
    estimated = [store.path for candidate in candidates for store in candidate.stores]
    page.related([*estimated, *(Path(name) for name in sets)])
    best = " or ".join(result.choice.best) or "withheld"
    page.numbers({"recommended": best, "estimators": len(candidates), "clips": result.clips})
    page.text(result.choice.words(), result.choice.rule, title="Recommendation")
    findings = [
        f"{row.name}: {word}: {text}"
        for row in result.estimators
        for word, texts in (("wrong", row.wrong), ("weak", row.weak), ("note", row.notes))
        for text in dict.fromkeys(texts)
    ]
    columns = columns_of(result)
    headings = [HEADINGS.get(name, words) for name, words in columns.items()]
    head = ["estimator", "verdict", *headings, *_OTHERS]
    page.table("Side by side", head, _rows(result, columns))
    page.text(*EXPLAINED, *_of_truth(result), title="What the columns are", folded=True)
    if findings or result.left_out:
        page.text(*findings, *result.left_out, title="What to know")
    names = [row.name for row in result.estimators]
    for title, pictures, scale in _frames(result, measured, _episodes(table, source_root)):
        page.pictures(title, pictures, len(names) + 1, bars=[scale.bar(), ERRORS])
    views = dict.fromkeys(view for row in result.estimators for view in row.data_sets)
    by_view = [(view, row) for view in views for row in result.estimators if view in row.data_sets]
    page.table(
        "By data set and camera",
        ["data set, camera", "estimator", *headings],
        [[view, row.name, *_cells(row.data_sets[view], columns)] for view, row in by_view],
    )
    for candidate in candidates:
        facts = {**estimator_facts(candidate.estimator), "doubt": candidate.doubt or "none"}
        page.facts(candidate.name, facts)
    return page


_OTHERS = ("frames/s", "memory", "licence of the weights")


def _of_truth(result: EstimatorComparison) -> list[str]:
    flips = result.codes_of_truth_flip
    return [f"Codes of true depth flip in {flips} of the same cells."] if flips else []


def columns_of(result: EstimatorComparison) -> dict[str, str]:
    """The figures that are shown, with their words: those of codes where there are any."""
    known = {name for row in result.estimators for name in OF_CODES if row.figures[name]}
    return {name: words for name, words in COLUMNS.items() if name not in {*OF_CODES} - known}


def _rows(result: EstimatorComparison, columns: Iterable[str]) -> list[list[object]]:
    return [
        [
            row.name,
            verdict(row),
            *_cells(row.figures, columns),
            f"{row.frames_per_s:.3g} ({row.device})" if row.frames_per_s else NOT_RECORDED,
            human_bytes(row.peak_bytes) if row.peak_bytes else NOT_RECORDED,
            row.licence or "none stated",
        ]
        for row in result.estimators
    ]


def verdict(row: CandidateFigures) -> str:
    """What the findings and the weights say of an estimator, in a word or two."""
    words = ["wrong"] * bool(row.wrong) + ["weak"] * bool(row.weak) + [row.doubt] * bool(row.doubt)
    return ", ".join(words) or "sound"


def _cells(figures: Mapping[str, Interval | None], columns: Iterable[str]) -> list[str]:
    return [
        UNKNOWN.get(name, "none") if (figure := figures[name]) is None else figure.narrow
        for name in columns
    ]


def _frames(
    result: EstimatorComparison, measured: Measured, episodes: Mapping[EpisodeKey, StoredEpisode]
) -> Iterator[tuple[str, list[Picture], ColourScale]]:
    """The middle frame of some clips: its image above true depth, then each estimator's fitted
    depth above its error."""
    names = [row.name for row in result.estimators]
    unit = "not known" if result.any_unit else "m"
    by_clip: dict[tuple[EpisodeKey, str], dict[str, ClipFigures]] = {}
    for clip in measured.clips:
        by_clip.setdefault(clip.clip, {})[clip.candidate] = clip
    for key, camera in shown_clips(measured.clips):
        row = by_clip[key, camera]
        pairs = [measured.pairs[name, key, camera] for name in names]
        step = pairs[0].frames // 2
        title = f"{row[names[0]].data_set}, {camera}: {key}, step {step}"
        pictures = [_original(pairs[0], episodes.get(key), camera, step, unit)]
        pictures += [_estimate(p, row[n], step) for n, p in zip(names, pairs, strict=True)]
        yield title, pictures, _scale(pairs[0], step)


def _episodes(
    table: Sequence[Meeting], source_root: Path | None
) -> dict[EpisodeKey, StoredEpisode]:
    """Episodes by key; none of a data set whose images are not there any more."""
    by_key: dict[EpisodeKey, StoredEpisode] = {}
    for truth in {str(meeting.truth.path): meeting.truth for meeting in table}.values():
        try:
            by_key |= {episode.key: episode for episode in episodes_of(truth, source_root)}
        except DepthtokError:
            continue
    return by_key


def _original(
    pair: Pair, episode: StoredEpisode | None, camera: str, step: int, unit: str
) -> Picture:
    depth = _scale(pair, step).paint(pair.truth(step, step + 1))[0]
    words = "true depth" if unit == "m" else f"true depth, in a unit that is {unit}"
    if episode is None:
        return Picture(depth, f"{words} (the image is not there)")
    try:
        image = episode.frames(camera).read(step, step + 1)[0]
    except DepthtokError:
        return Picture(depth, f"{words} (the image is damaged)")
    return Picture(_above(image, depth), f"image, and {words}", episode.instruction(step))


def _scale(pair: Pair, step: int) -> ColourScale:
    """The colours of a clip: those of the true one."""
    true = pair.truth(step, step + 1)
    return ColourScale.of(true.to_disparity().quantiles, true.kind)


def _estimate(pair: Pair, clip: ClipFigures, step: int) -> Picture:
    true = pair.truth(step, step + 1)
    estimated = as_fitted(pair.estimated(step, step + 1))
    depth = clip.audit.fit.depth(estimated.values)
    fitted = DepthClip.of(depth, DepthKind.METRES, estimated.valid)
    top = _scale(pair, step).paint(fitted)[0]
    words = f"{clip.candidate}: fitted depth, AbsRel of the clip {clip.audit.abs_rel:.3f}"
    if depth.shape != true.values.shape:
        return Picture(top, f"{words}; no image of the error, for the sizes differ")
    error = np.abs(depth - true.values) / np.where(true.valid, true.values, 1)
    both = true.valid & estimated.valid
    below = colourise(error, DepthKind.DISPARITY, 0, WORST_ERROR, both)[0]
    return Picture(_above(top, below), f"{words}; below, its relative error")


def _above(
    top: UInt8[np.ndarray, "H W 3"], below: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "N w 3"]:
    """Two pictures in one, of the second one's width."""
    from depthtok.data import ImageTransform

    height = round(top.shape[0] * below.shape[1] / top.shape[1])
    top = ImageTransform(size=(height, below.shape[1])).rgb(top[None])[0]
    gap = np.broadcast_to(np.array(INVALID, np.uint8), (GAP, below.shape[1], 3))
    return np.concatenate([top, gap, below])
