"""audit-depth: estimated depth held against the truth, or estimators against themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.api.audit_depth import DepthAudit, audit_depth
from depthtok.cli.next_step import partial
from depthtok.cli.options import Command
from depthtok.format import human_bytes
from depthtok.log import result, say, suggest
from depthtok.log import typed as command

if TYPE_CHECKING:
    from pipelines.audit.comparison import EstimatorComparison
    from pipelines.audit.consistency_table import ConsistencyAudit
    from pipelines.audit.findings import CameraAudit

SHOWN = {
    "abs_rel": "AbsRel",
    "delta1": "delta1",
    "rmse_m": "RMSE (m)",
    "r2": "R2",
    "flicker": "flicker",
    "edges": "AbsRel at edges",
    "gripper": "AbsRel near the gripper",
    "rows": "AbsRel of row means",
    "plane": "AbsRel of the best plane",
}


def tell(
    audit: DepthAudit | EstimatorComparison | ConsistencyAudit,
    estimated: list[Path] | None,
    json: bool,
) -> int:
    """Prints figures and findings. Exit code 1 if depth of a camera is wrong or weak; of several
    estimators, if depth of one is wrong, or none is better than an answer without the image."""
    from pipelines.audit.comparison import EstimatorComparison
    from pipelines.audit.findings import plain, typed

    page = audit.page
    same = f"the same as data in {page.with_suffix('.json').name}"
    last = f"{page}: open it in a browser; {same}"
    if isinstance(audit, DepthAudit):
        say(*_lines(audit.cameras), last, json=json)
        if json:
            cameras, clips = list(map(plain, audit.cameras)), list(map(plain, audit.clips))
            result({"cameras": cameras, "clips": clips})
        if estimated and not audit.wrong and not audit.weak:
            depth = estimated[0]
            then = command("train-vqvae", depth, "--out", "CODEBOOK", *partial(depth))
            suggest(then, json=json)
        return 1 if audit.wrong or audit.weak else 0
    if isinstance(audit, EstimatorComparison):
        say(*_side_by_side(audit), last, json=json)
    else:
        say(*_against_themselves(audit), last, json=json)
    if json:
        result(typed(audit))
    wrong = isinstance(audit, EstimatorComparison) and audit.wrong
    return 1 if wrong or audit.weak else 0


def _side_by_side(audit: EstimatorComparison) -> list[str]:
    """The table of estimators and the recommendation."""
    from pipelines.audit.comparison_page import NOT_RECORDED, UNKNOWN, columns_of, verdict

    lines = []
    for row in audit.estimators:
        figures = [
            f"{words} {row.figures[name] or UNKNOWN.get(name, 'none')}"
            for name, words in columns_of(audit).items()
        ]
        speed = f"{row.frames_per_s:.3g} frames/s" if row.frames_per_s else f"speed {NOT_RECORDED}"
        licence = row.licence or "no licence stated"
        memory = human_bytes(row.peak_bytes) if row.peak_bytes else f"memory {NOT_RECORDED}"
        lines.append(f"{row.name}: {', '.join(figures)}, {speed}, {memory}, {licence}")
        lines.append(f"  {verdict(row)}")
        lines += [f"  WRONG: {text}" for text in row.wrong]
        lines += [f"  WEAK: {text}" for text in row.weak]
        lines += [f"  note: {text}" for text in row.notes]
    lines += [f"left out: {text}" for text in audit.left_out]
    return [*lines, f"over {audit.clips} clips. {audit.choice.words()}"]


def _against_themselves(audit: ConsistencyAudit) -> list[str]:
    """The table of estimators, the recommendation, and what it is worth."""
    lines = []
    for row in audit.estimators:
        figures = ", ".join(f"{name} {value or 'none'}" for name, value in row.figures.items())
        lines.append(f"{row.called}: {figures}, {row.frames_per_s:.3g} frames/s, {row.licence}")
        lines += [f"  WEAK: {text}" for text in row.weak]
        lines += [f"  {row.doubt}"] if row.doubt else []
    return [*lines, audit.choice.words(), audit.caveat]


def _lines(cameras: Sequence[CameraAudit]) -> list[str]:
    """Figures and findings of every camera."""
    lines = []
    for camera in cameras:
        scale = f", scale {camera.scale}" if camera.scale else ""
        figures = figures_in_words(camera.figures)
        lines.append(f"{camera.camera}: {figures}{scale}, over {camera.clips} clips")
        lines += [f"  WRONG: {text}" for text in camera.wrong]
        lines += [f"  WEAK: {text}" for text in camera.weak]
        lines += [f"  note: {text}" for text in camera.notes]
    return lines


def figures_in_words(figures: Mapping[str, float | None]) -> str:
    """Errors of depth by their names; those that are not known are left out."""
    values = {name: figures.get(name) for name in SHOWN}
    return ", ".join(
        f"{SHOWN[name]} {value:.3f}" for name, value in values.items() if value is not None
    )


COMMAND = Command(audit_depth, tell)
