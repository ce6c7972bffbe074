"""Summary of the audits of a camera's clips: mean figures, and what is wrong or weak."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pipelines.audit import FIGURES, TURNS, ClipAudit

MARGIN = 0.1  # by this much rank correlation another orientation must fit better
WEAK = 0.99  # share of the row means' error that depth must beat
UNITS = {2: "centimetres", 3: "millimetres"}
"""Units that may have been confused with metres, by powers of ten."""


@dataclass(frozen=True)
class CameraAudit:
    """Summary of one camera's clips. `wrong` lists what makes the depth useless, `notes` what makes
    it weak."""

    camera: str
    clips: int
    frames: int
    figures: Mapping[str, float | None]
    wrong: Sequence[str]
    notes: Sequence[str]


def summarise(clips: Sequence[ClipAudit]) -> list[CameraAudit]:
    """One summary per camera, in order of first appearance."""
    names = dict.fromkeys(clip.camera for clip in clips)
    return [_summarise(name, [c for c in clips if c.camera == name]) for name in names]


def _summarise(camera: str, clips: Sequence[ClipAudit]) -> CameraAudit:
    figures = {name: _mean(getattr(clip, name) for clip in clips) for name in FIGURES}
    turned = {name: _mean(clip.turned[name] for clip in clips) for name in TURNS}
    notes = []
    if figures["abs_rel"] >= WEAK * figures["rows"]:
        notes.append(
            f"no better than the mean depth of each row (AbsRel {figures['abs_rel']:.3f}, rows "
            f"{figures['rows']:.3f})"
        )
    wrong = [*_orientation(turned), *_unit([c.ratio for c in clips if c.ratio is not None])]
    return CameraAudit(camera, len(clips), sum(c.frames for c in clips), figures, wrong, notes)


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


def _unit(ratios: Sequence[float]) -> Iterator[str]:
    power = np.log10(np.median(ratios)) if ratios else 0.0
    whole = round(abs(power))
    if whole in UNITS and abs(abs(power) - whole) < 0.2:
        which, other = ("estimated", "true") if power > 0 else ("true", "estimated")
        yield (
            f"{which} depth is about {10**whole} times the {other} one: {UNITS[whole]} taken for "
            "metres"
        )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def plain(audit: ClipAudit | CameraAudit) -> dict:
    """Plain values for JSON, without the internal fields."""
    found = {k: v for k, v in asdict(audit).items() if k not in ("fit", "turned", "ratio")}
    return {**found, "key": str(audit.key)} if isinstance(audit, ClipAudit) else found
