"""audit-depth: estimated depth held against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from depthtok.api.audit_depth import DepthAudit, audit_depth
from depthtok.cli.options import Command
from depthtok.log import result, say

if TYPE_CHECKING:
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


def tell(audit: DepthAudit, json: bool) -> int:
    """Prints figures and findings; exit code 1 if depth of a camera is wrong or weak."""
    from pipelines.audit.findings import plain

    page = audit.page
    same = f"the same as data in {page.with_suffix('.json').name}"
    say(*_lines(audit.cameras), f"{page}: open it in a browser; {same}", json=json)
    if json:
        cameras, clips = list(map(plain, audit.cameras)), list(map(plain, audit.clips))
        result({"cameras": cameras, "clips": clips})
    return 1 if audit.wrong or audit.weak else 0


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
