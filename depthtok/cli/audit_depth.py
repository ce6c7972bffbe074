"""audit-depth: estimated depth held against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.flags import Json, Partial, SourceRoot
from depthtok.cli.options import command
from depthtok.errors import ConfigError, SourceError
from depthtok.log import result, say, warn
from depthtok.signals import stoppable

if TYPE_CHECKING:
    from depthtok.stores.depth import DepthStore
    from pipelines.audit.audit import ClipAudit
    from pipelines.audit.findings import CameraAudit


def register(app: typer.Typer) -> None:
    """Adds the command of this file."""
    command(app)(audit_depth)


def audit_depth(
    estimated: Annotated[Path, typer.Option("--estimated", help="a DepthStore of estimates")],
    truth: Annotated[
        Path, typer.Option("--truth", help="a DepthStore of ground-truth depth (metres)")
    ],
    out: Annotated[Path, typer.Option("--out", help="directory of the report")],
    camera: Annotated[
        list[str] | None, typer.Option("--camera", help="cameras to compare; all by default")
    ] = None,
    camera_height: Annotated[
        list[str] | None,
        typer.Option(
            "--camera-height",
            metavar="CAMERA=METRES",
            help="its distance from the plane that fills most of its image: tests true depth",
        ),
    ] = None,
    partial: Partial = False,
    source_root: SourceRoot = None,
    json: Json = False,
) -> None:
    """Compare estimated depth with ground truth.

    Errors and flicker in disparity, after the best scale and shift of each clip. Exit code 1 if
    depth is rotated, mirrored, inverted or in another unit or scale, or is worse than a plane or
    the mean of each row. The page shows the best, the median and the worst clip.

    Example: depthtok audit-depth --estimated runs/depth --truth runs/true-depth --out runs/audit
    """
    cameras = held_against(
        estimated, truth, out, camera, _heights(camera_height or []), partial=partial,
        source_root=source_root, json=json,
    )  # fmt: skip
    if any(each.wrong or each.weak for each in cameras):
        raise typer.Exit(1)


def _heights(given: list[str]) -> dict[str, float]:
    """Metres by camera, from `CAMERA=METRES`. Raises `ConfigError`."""
    heights = {}
    for text in given:
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


def held_against(
    estimated: Path, truth: Path, out: Path, camera: list[str] | None = None,
    heights: dict[str, float] | None = None, *,
    partial: bool = False, source_root: Path | None = None, json: bool = False,
) -> list[CameraAudit]:  # fmt: skip
    """Compares two DepthStores, writes the page, says what came out, and returns it."""
    from depthtok.progress import progress
    from pipelines.audit.audit import audit
    from pipelines.audit.findings import plain, summarise
    from pipelines.audit.page import make_page
    from pipelines.audit.pairs import paired

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
    say(*_lines(cameras), f"{page}: open it in a browser; the same as data in "
        f"{page.with_suffix('.json').name}", json=json)  # fmt: skip
    if json:
        result({"cameras": list(map(plain, cameras)), "clips": list(map(plain, clips))})
    return cameras


def _lines(cameras: list[CameraAudit]) -> list[str]:
    """Figures and findings of every camera."""
    lines = []
    for each in cameras:
        scale = f", scale {each.scale}" if each.scale else ""
        lines.append(
            f"{each.camera}: {figures_in_words(each.figures)}{scale}, over {each.clips} clips"
        )
        lines += [f"  WRONG: {text}" for text in each.wrong]
        lines += [f"  WEAK: {text}" for text in each.weak]
        lines += [f"  note: {text}" for text in each.notes]
    return lines


SHOWN = {
    "abs_rel": "AbsRel", "delta1": "delta1", "rmse_m": "RMSE (m)", "r2": "R2", "flicker": "flicker",
    "edges": "AbsRel at edges", "gripper": "AbsRel near the gripper",
    "rows": "AbsRel of row means", "plane": "AbsRel of the best plane",
}  # fmt: skip


def figures_in_words(figures) -> str:
    known = {name: figures.get(name) for name in SHOWN}
    return ", ".join(f"{SHOWN[name]} {value:.3f}" for name, value in known.items()
                     if value is not None)  # fmt: skip


def opened(path: Path, *, partial: bool) -> DepthStore:
    """A DepthStore; says what is left out of it."""
    from depthtok.stores.depth import DepthStore
    from depthtok.stores.failures import in_words, left_out

    store = DepthStore(path)
    store.require_complete(partial=partial)
    if failures := in_words(left_out(store)):
        warn(f"{store.path}: {failures}")
    for name, count in store.absent_counts().items():
        warn(f"{store.path}: {count} episodes do not have camera {name}: left out")
    return store
