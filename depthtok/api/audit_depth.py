"""Estimated depth held against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.depth_stores import opened
from depthtok.api.flags import Partial, SourceRoot
from depthtok.api.parameters import Flag
from depthtok.errors import ConfigError, SourceError
from depthtok.log import warn
from depthtok.signals import stoppable

if TYPE_CHECKING:
    from pipelines.audit.audit import ClipAudit
    from pipelines.audit.findings import CameraAudit


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
    estimated: Annotated[Path, "a DepthStore of estimates"],
    truth: Annotated[Path, "a DepthStore of ground-truth depth (metres)"],
    out: Annotated[Path, "directory of the report"],
    camera: Annotated[list[str] | None, "cameras to compare; all by default"] = None,
    camera_height: Annotated[
        list[str] | None,
        Flag(
            "its distance from the plane that fills most of its image: tests true depth",
            metavar="CAMERA=METRES",
        ),
    ] = None,
    partial: Partial = False,
    source_root: SourceRoot = None,
) -> DepthAudit:
    """Compare estimated depth with ground truth.

    Errors and flicker in disparity, after the best scale and shift of each clip. Exit code 1 if
    depth is rotated, mirrored, inverted or in another unit or scale, or is worse than a plane or
    the mean of each row. The page shows the best, the median and the worst clip.

    Example: depthtok audit-depth --estimated runs/depth --truth runs/true-depth --out runs/audit
    """
    from depthtok.disk.files import require_writable
    from depthtok.progress import progress
    from pipelines.audit.audit import audit
    from pipelines.audit.findings import summarise
    from pipelines.audit.page import make_page
    from pipelines.audit.pairs import paired

    heights = _heights(camera_height or [])
    require_writable(out)
    stores = opened(estimated, partial=partial), opened(truth, partial=partial)
    pairs = list(paired(*stores, camera, source_root, heights))
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
    cameras = summarise(clips)
    page = make_page(*stores, pairs, clips, cameras).write(out)
    return DepthAudit(cameras, clips, page)


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
