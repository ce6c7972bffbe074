"""Summary of the audits of a camera's clips: mean figures, and what is wrong or weak."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from depthtok.data import EpisodeKey
from pipelines.audit.audit import FIGURES, TURNS, ClipAudit
from pipelines.audit.scale import DepthScale, of_medians
from pipelines.audit.shifts import moved_pictures, shifted_disparity
from pipelines.depth.reach import OUT_OF_REACH, within_reach

MARGIN = 0.1  # by this much rank correlation another orientation must fit better
CLEAR = 0.3  # rank correlation below which none is said to fit: scenes are alike by chance
EQUAL = 0.01  # relative: closer to a baseline's error is as good as the baseline
ROUNDING = 1e-4  # AbsRel that rounding makes
BASELINES = {"rows": "the mean depth of each row", "plane": "the best plane"}
"""What depth must beat: both are of the clip's own truth, and have not looked at the image."""
UNTESTABLE = "scale is not testable"
SHOWN = 3  # clips named one by one
MEND_UNIT = "Check `depth_unit` in its schema, then `depthtok convert ... --overwrite`"
INTERNAL = ("fit", "turned", "offset")  # fields of a clip that are for its camera's findings only


@dataclass(frozen=True)
class CameraAudit:
    """Summary of one camera's clips.

    `wrong` lists what makes the depth useless, `wrong_unit` those of it that are about its unit or
    scale, `weak` the baselines that it is worse than, `notes` what else there is to know. `scale`
    is over the clips, `height` that of true depth by the camera's height; None where it cannot be
    tested.
    """

    camera: str
    clips: int
    frames: int
    figures: Mapping[str, float | None]
    scale: DepthScale | None
    wrong: Sequence[str]
    weak: Sequence[str]
    notes: Sequence[str]
    wrong_unit: Sequence[str] = ()
    height: DepthScale | None = None


def summarise(clips: Sequence[ClipAudit], *, any_unit: bool = False) -> list[CameraAudit]:
    """One summary per camera, in order of first appearance. With `any_unit` the unit of the truth
    is not known: nothing is said of its scale."""
    names = dict.fromkeys(clip.camera for clip in clips)
    return [_summarise(name, [c for c in clips if c.camera == name], any_unit) for name in names]


def _summarise(camera: str, clips: Sequence[ClipAudit], any_unit: bool) -> CameraAudit:
    figures = {name: _mean(getattr(clip, name) for clip in clips) for name in FIGURES}
    turned = {name: float(np.mean([clip.turned[name] for clip in clips])) for name in TURNS}
    weak, notes = _against_baselines(figures)
    wrong = list(_orientation(turned))
    notes += _no_orientation(turned)
    scales = [] if any_unit else [clip.scale for clip in clips if clip.scale is not None]
    swapped = any("swapped" in text for text in wrong)  # then a ratio of depths means nothing
    unit: list[str] = []
    if scales and not swapped:
        unit += _scale([clip for clip in clips if clip.scale is not None])
    frames = sum(clip.frames for clip in clips)
    scale = of_medians([math.log(scale.factor) for scale in scales])
    unit += [] if any_unit else [*_height(clips), *_reach(clips)]
    wrong += unit
    heights = [] if any_unit else [clip.height for clip in clips if clip.height]
    if not (swapped or any(name in text for text in wrong for name in TURNS)):
        wrong += moved_pictures(clips)
        notes += shifted_disparity(clips)
    notes += [] if any_unit else _untested(clips, swapped)
    height = of_medians([math.log(height.factor) for height in heights])
    return CameraAudit(camera, len(clips), frames, figures, scale, wrong, weak, notes, unit, height)


def _against_baselines(figures: Mapping[str, float | None]) -> tuple[list[str], list[str]]:
    """What the estimate is worse than, and what it is as good as."""
    weak, equal = [], []
    for name, words in BASELINES.items():
        error, base = figures["abs_rel"], figures[name]
        if error is None or base is None:
            continue
        numbers = f"(AbsRel {error:.3f}, {name} {base:.3f})"
        if error > base * (1 + EQUAL) + ROUNDING:
            weak.append(f"worse than {words} {numbers}")
        elif error >= base * (1 - EQUAL) and error > ROUNDING:
            equal.append(f"no better than {words} {numbers}")
    return weak, equal


def _orientation(turned: Mapping[str, float]) -> Iterator[str]:
    """Findings about the orientation and direction that fit best."""
    name, sign, best = _best_fit(turned)
    if best < max(turned["upright"] + MARGIN, CLEAR):
        return
    numbers = f"rank correlation {best:.2f}; as is {turned['upright']:.2f}"
    if sign < 0:
        yield f"near and far are swapped: disparity was taken for depth, or vice versa ({numbers})"
    if name != "upright":
        yield f"the estimate looks {name} relative to the ground truth ({numbers})"


def _no_orientation(turned: Mapping[str, float]) -> Iterator[str]:
    """A note where the estimate fits the truth in no orientation: then none can be told."""
    *_, best = _best_fit(turned)
    if best < CLEAR:
        yield (
            "orientation is not testable: the estimate fits the ground truth in none (rank "
            f"correlation {best:.2f} at best; as is {turned['upright']:.2f})"
        )


def _best_fit(turned: Mapping[str, float]) -> tuple[str, int, float]:
    """The orientation that fits best, the sign, and the rank correlation."""
    fits = {(name, sign): sign * value for name, value in turned.items() for sign in (1, -1)}
    (name, sign), best = max(fits.items(), key=lambda item: item[1])
    return name, sign, best


def _scale(clips: Sequence[ClipAudit]) -> Iterator[str]:
    """Findings about clips whose estimate is in another scale than the truth."""
    for group in _in_another_scale(clips, [clip.scale for clip in clips]):
        causes = [
            f"{stored} read as {read} in the estimate, or {read} read as {stored} in the truth"
            for stored, read in group.causes
        ]
        ratio = f"estimated depth is {group.scale} the true one"
        yield f"in {group.how_many} {ratio}{_as_by(causes)}: {group.clips}"


def _height(clips: Sequence[ClipAudit]) -> Iterator[str]:
    """Findings about true depth that does not fit the camera's height."""
    for group in _in_another_scale(clips, [clip.height for clip in clips]):
        causes = [f"{stored} read as {read}" for stored, read in group.causes]
        ratio = f"true depth is {group.scale} what the camera's height says"
        yield f"in {group.how_many} {ratio}{_as_by(causes)}: {group.clips}. {MEND_UNIT}"


def _as_by(causes: Sequence[str]) -> str:
    return f", as by {'; or '.join(causes)}" if causes else ", which no unit known here explains"


class _Group(NamedTuple):
    """Clips in another scale that the same units explain, in words for a message."""

    how_many: str
    scale: str
    causes: tuple[tuple[str, str], ...]  # units: as stored, as read
    clips: str


def _in_another_scale(
    clips: Sequence[ClipAudit], scales: Sequence[DepthScale | None]
) -> Iterator[_Group]:
    """Clips that are wrong, grouped by the units that explain it."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[ClipAudit, DepthScale]]] = {}
    for clip, scale in zip(clips, scales, strict=True):
        if scale and scale.wrong:
            groups.setdefault(scale.causes, []).append((clip, scale))
    for causes, group in groups.items():
        names = ", ".join(f"{clip.key} {scale}" for clip, scale in group[:SHOWN])
        names += f", and {len(group) - SHOWN} more" if group[SHOWN:] else ""
        count = f"{len(group)} of {len(clips)} {'clip' if len(clips) == 1 else 'clips'}"
        yield _Group(count, _over([scale for _, scale in group]), causes, names)


def _over(scales: Sequence[DepthScale]) -> str:
    """The median factor of some clips, and what all their intervals span."""
    factor = float(np.median([scale.factor for scale in scales]))
    return str(DepthScale(factor, min(s.low for s in scales), max(s.high for s in scales)))


def _reach(clips: Sequence[ClipAudit]) -> Iterator[str]:
    """True depth that no robot's camera sees."""
    far = [clip for clip in clips if not within_reach(clip.truth_m)]
    if far:
        names = ", ".join(f"{clip.key} {clip.truth_m:.4g} m" for clip in far[:SHOWN])
        yield (
            f"the median true depth of {len(far)} of {len(clips)} clips is {OUT_OF_REACH}: "
            f"{names}. {MEND_UNIT}"
        )


def _untested(clips: Sequence[ClipAudit], swapped: bool) -> Iterator[str]:
    """What could not be tested, and what the true depth can be compared with."""
    metric = all(clip.metric for clip in clips)
    if metric and not swapped:
        unknown = [clip for clip in clips if clip.scale is None]
        if unknown:
            yield f"the scale of {len(unknown)} clips was not tested: too few pixels are valid"
        return
    heights = [clip.height for clip in clips if clip.height]
    if heights:
        fitting = of_medians([math.log(height.factor) for height in heights])
        yield f"true depth is {fitting} what the camera's height says, over {len(heights)} clips"
        return
    kind = "relative depth" if clips[0].fit.in_depth else "disparity"
    reason = (
        "scale was not tested, as near and far are swapped"
        if metric
        else f"{UNTESTABLE}: the estimate is {kind}, which hides a wrong unit of the truth"
    )
    yield f"{reason}. {_to_hold_against(clips)}"


def _to_hold_against(clips: Sequence[ClipAudit]) -> str:
    """What is known of the true scene, for people to compare with what they see."""
    median = float(np.median([clip.truth_m for clip in clips]))
    spans = [clip.spans_m for clip in clips if clip.spans_m]
    if not spans:
        return (
            f"Hold it against the scene: the median true depth is {median:.3g} m; the intrinsics "
            "are not known"
        )
    high, wide = np.median(spans, axis=0)
    return (
        f"Hold it against the scene: the median true depth is {median:.3g} m; there the image is "
        f"{wide:.3g} m wide and {high:.3g} m high, by the camera's intrinsics. Of a camera that "
        f"stands above a table or a floor, `--camera-height {clips[0].camera}=METRES` tests it"
    )


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None


def plain(audit: ClipAudit | CameraAudit) -> dict[str, object]:
    """Plain values for JSON, without the internal fields."""
    fields = {k: v for k, v in asdict(audit).items() if k not in INTERNAL}
    return {**fields, "key": str(audit.key)} if isinstance(audit, ClipAudit) else fields


def typed(value: object) -> object:
    """A result as JSON values: dataclasses by their fields, without those that are for its page
    only, and keys of episodes as text."""
    if isinstance(value, EpisodeKey):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: typed(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): typed(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [typed(item) for item in value]
    return str(value) if isinstance(value, Path) else value
