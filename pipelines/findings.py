"""Summary of the audits of a camera's clips: mean figures, and what is wrong or weak."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pipelines.audit import FIGURES, TURNS, ClipAudit
from pipelines.scale import Scale, of_medians

MARGIN = 0.1  # by this much rank correlation another orientation must fit better
EQUAL = 0.01  # relative: closer to a baseline's error is as good as the baseline
ROUNDING = 1e-4  # AbsRel that rounding makes
BASELINES = {"rows": "the mean depth of each row", "plane": "the best plane"}
"""What depth must beat: both are of the clip's own truth, and have not looked at the image."""
REACH_M = (0.05, 20.0)  # median depth of a robot's camera: a wrist above a table, a hall
SHOWN = 3  # clips named one by one


@dataclass(frozen=True)
class CameraAudit:
    """Summary of one camera's clips.

    `wrong` lists what makes the depth useless, `weak` the baselines that it is worse than, `notes`
    what else there is to know. `scale` is over the clips; None where it cannot be tested.
    """

    camera: str
    clips: int
    frames: int
    figures: Mapping[str, float | None]
    scale: Scale | None
    wrong: Sequence[str]
    weak: Sequence[str]
    notes: Sequence[str]


def summarise(clips: Sequence[ClipAudit]) -> list[CameraAudit]:
    """One summary per camera, in order of first appearance."""
    names = dict.fromkeys(clip.camera for clip in clips)
    return [_summarise(name, [c for c in clips if c.camera == name]) for name in names]


def _summarise(camera: str, clips: Sequence[ClipAudit]) -> CameraAudit:
    figures = {name: _mean(getattr(clip, name) for clip in clips) for name in FIGURES}
    turned = {name: _mean(clip.turned[name] for clip in clips) for name in TURNS}
    weak, notes = _against_baselines(figures)
    wrong = list(_orientation(turned))
    scales = [clip.scale for clip in clips if clip.scale is not None]
    swapped = any("swapped" in text for text in wrong)  # then a ratio of depths means nothing
    if scales and not swapped:
        wrong += _scale([clip for clip in clips if clip.scale is not None])
    return CameraAudit(
        camera, len(clips), sum(clip.frames for clip in clips), figures,
        of_medians([math.log(scale.factor) for scale in scales]),
        [*wrong, *_reach(clips)], weak, [*notes, *_untested(clips, swapped)],
    )  # fmt: skip


def _against_baselines(figures: Mapping[str, float | None]) -> tuple[list[str], list[str]]:
    """What the estimate is worse than, and what it is as good as."""
    weak, equal, error = [], [], figures["abs_rel"]
    for name, words in BASELINES.items():
        base = figures[name]
        told = f"(AbsRel {error:.3f}, {name} {base:.3f})"
        if error > base * (1 + EQUAL) + ROUNDING:
            weak.append(f"worse than {words} {told}")
        elif error >= base * (1 - EQUAL) and error > ROUNDING:
            equal.append(f"no better than {words} {told}")
    return weak, equal


def _orientation(turned: Mapping[str, float]) -> Iterator[str]:
    """Findings about the orientation and direction that fit best."""
    upright = turned["upright"]
    fits = {(name, sign): sign * value for name, value in turned.items() for sign in (1, -1)}
    (name, sign), best = max(fits.items(), key=lambda item: item[1])
    if best < upright + MARGIN:
        return
    told = f"rank correlation {best:.2f}; as is {upright:.2f}"
    if sign < 0:
        yield f"near and far are swapped: disparity was taken for depth, or vice versa ({told})"
    if name != "upright":
        yield f"the estimate looks {name} relative to the ground truth ({told})"


def _scale(clips: Sequence[ClipAudit]) -> Iterator[str]:
    """Findings about clips in another scale, grouped by what would explain it."""
    groups: dict[tuple, list[ClipAudit]] = {}
    for clip in clips:
        if clip.scale.wrong:
            groups.setdefault(clip.scale.causes, []).append(clip)
    for causes, group in groups.items():
        words = [
            f"{stored} read as {taken} in the estimate, or {taken} read as {stored} in the truth"
            for stored, taken in causes
        ]
        some = [f"{clip.key} {clip.scale}" for clip in group[:SHOWN]]
        more = f", and {len(group) - SHOWN} more" if group[SHOWN:] else ""
        yield (
            f"in {len(group)} of {len(clips)} clips estimated depth is {_over(group)} the true one"
            + (f", as by {'; or '.join(words)}" if words else ", which no unit known here explains")
            + f": {', '.join(some)}{more}"
        )


def _over(clips: Sequence[ClipAudit]) -> str:
    """The scale of some clips: the median factor, and what all their intervals span."""
    scales = [clip.scale for clip in clips]
    factor = float(np.median([scale.factor for scale in scales]))
    return str(Scale(factor, min(s.low for s in scales), max(s.high for s in scales)))


def _reach(clips: Sequence[ClipAudit]) -> Iterator[str]:
    """True depth that no robot's camera sees."""
    low, high = REACH_M
    far = [clip for clip in clips if not low <= clip.truth_m <= high]
    if far:
        some = ", ".join(f"{clip.key} {clip.truth_m:.4g} m" for clip in far[:SHOWN])
        yield (
            f"the median true depth of {len(far)} of {len(clips)} clips is not within the {low:g} "
            f"to {high:g} m of a robot's camera: {some}. Check `depth_unit` in its schema"
        )


def _untested(clips: Sequence[ClipAudit], swapped: bool) -> Iterator[str]:
    """What could not be tested, and what there is to hold the truth against."""
    metric = all(clip.metric for clip in clips)
    if metric and not swapped:
        unknown = [clip for clip in clips if clip.scale is None]
        if unknown:
            yield f"the scale of {len(unknown)} clips was not tested: too few pixels are valid"
        return
    median = float(np.median([clip.truth_m for clip in clips]))
    spans = [clip.spans_m for clip in clips if clip.spans_m]
    yield (
        ("scale was not tested, as near and far are swapped. "
         if metric else "scale is not testable: the estimate is disparity, which has none, and the "
         "scale and shift of each clip hide a wrong unit of the truth (0.1 mm read as mm). ")
        + f"Hold it against the scene: the median true depth is {median:.3g} m"
        + ("; there the image is {1:.3g} m wide and {0:.3g} m high, by the camera's intrinsics"
           .format(*np.median(spans, axis=0)) if spans else "; the intrinsics are not known")
        + ". The camera's height is not known"
    )  # fmt: skip


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def plain(audit: ClipAudit | CameraAudit) -> dict:
    """Plain values for JSON, without the internal fields."""
    found = {k: v for k, v in asdict(audit).items() if k not in ("fit", "turned")}
    return {**found, "key": str(audit.key)} if isinstance(audit, ClipAudit) else found
