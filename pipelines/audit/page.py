"""The page of `audit-depth`: figures, findings, and the best, the median and the worst clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from depthtok.data import DepthClip, DepthKind
from depthtok.errors import DepthtokError
from depthtok.json_values import JsonObject
from depthtok.pages.colour import INVALID, colourise
from depthtok.pages.pictures import FrameRow, Picture
from depthtok.pages.report import Report
from depthtok.pages.scale import ColourScale, even_bar
from depthtok.stores.depth import DepthStore
from pipelines.audit.audit import ClipAudit, Pair
from pipelines.audit.findings import CameraAudit
from pipelines.audit.fit import as_fitted
from pipelines.audit.scale import TOLERANCE
from pipelines.depth.single_frames.figures import steadied_in_words

WORST_ERROR = 0.5  # relative error of the warmest colour
COLUMNS = {
    "abs_rel": "relative error (AbsRel)",
    "delta1": "within a factor 1.25 (delta1)",
    "rmse_m": "RMSE, m",
    "r2": "variance explained (R2)",
    "flicker": "flicker",
    "edges": "error at edges",
    "gripper": "error at the gripper",
    "constant": "error of a constant",
    "rows": "error of the rows",
    "plane": "error of a plane",
}
ERRORS = even_bar("Relative error of depth", 0, 100 * WORST_ERROR, " %")
EXPLAINED = (
    "Each clip's estimate is compared after the one scale and shift, in disparity (of relative "
    "depth in depth), that bring it nearest the truth. AbsRel is the mean relative error of depth, "
    "delta1 the share of pixels within a factor of 1.25, R2 the share of the variance of true "
    "disparity that is explained.",
    "Flicker is the mean relative change of the estimate from frame to frame where the truth "
    "stands still; the errors at edges and at the gripper are AbsRel near those alone. The errors "
    "of a constant, of the rows and of a plane are the AbsRel of the true mean disparity of the "
    "clip, of that of each row of the image, and of the plane of disparity nearest the truth: "
    "depth that does not beat them has not looked at the image.",
    "Scale is estimated over true depth before that alignment, where both are in metres: the "
    "median of 16 regions of the image, and between which of them it lies with 95 %. It is wrong "
    f"where all of that is beyond a factor of {TOLERANCE}, as in delta1. Where the estimate has no "
    "unit, it is that of true depth over what the camera's height says, if that was given.",
)


def make_page(
    estimated: DepthStore,
    truth: DepthStore,
    pairs: Sequence[Pair],
    clips: Sequence[ClipAudit],
    cameras: Sequence[CameraAudit],
    source_root: Path | None = None,
) -> Report:
    """Everything that was found. `source_root`: where the data set of the images lies now."""
    page = Report("Estimated against true depth", f"{estimated.path} against {truth.path}")
    page.related([estimated.path, truth.path])
    for camera in cameras:
        page.numbers(
            {
                f"{camera.camera}: relative error (AbsRel)": camera.figures["abs_rel"],
                f"{camera.camera}: within a factor 1.25 (delta1)": camera.figures["delta1"],
            }
        )
    wrong = [f"{camera.camera}: {text}" for camera in cameras for text in camera.wrong]
    weak = [f"{camera.camera}: {text}" for camera in cameras for text in camera.weak]
    notes = [f"{camera.camera}: {text}" for camera in cameras for text in camera.notes]
    turned = any(len(camera.wrong) > len(camera.wrong_unit) for camera in cameras)
    verdicts: dict[str, object] = {"the right way round": not turned}
    if any(camera.wrong_unit or camera.scale or camera.height for camera in cameras):
        verdicts["in the right unit"] = not any(camera.wrong_unit for camera in cameras)
    page.numbers({**verdicts, "better than a plane and the rows": not weak})
    if wrong:
        page.text(*wrong, title="What is wrong")
    if weak:
        page.text(*weak, title="What is weak")
    if notes:
        page.text(*notes, title="What to know")
    head, names = [*COLUMNS.values()], [*COLUMNS]
    page.table(
        "By camera",
        ["camera", "clips", "frames", "scale", *head],
        [
            [
                camera.camera,
                camera.clips,
                camera.frames,
                _scale(camera),
                *(camera.figures[n] for n in names),
            ]
            for camera in cameras
        ],
    )
    page.text(*EXPLAINED, title="What the columns are", folded=True)
    rows = _rows(_images(truth, source_root), pairs, clips)
    page.frames("Best, median and worst clip of each camera", rows, shown=3)
    facts = estimator_facts(estimated.estimator) | steadied_in_words(estimated)
    page.facts("The estimator", facts)
    return page.table(
        "By clip",
        ["episode", "camera", "frames", "true m", "scale", *head],
        [
            [
                str(clip.key),
                clip.camera,
                clip.frames,
                clip.truth_m,
                _scale(clip),
                *(getattr(clip, name) for name in names),
            ]
            for clip in clips
        ],
    )


def estimator_facts(estimator: JsonObject) -> dict[str, object]:
    """What made depth, under names for people, without its settings."""
    facts = {name.replace("_", " "): v for name, v in estimator.items() if name != "settings"}
    return facts | {"kind": str(facts["kind"]).replace("_", " ")} if "kind" in facts else facts


def _scale(audit: ClipAudit | CameraAudit) -> str:
    if audit.scale:
        return str(audit.scale)
    return f"{audit.height} (truth, by the camera's height)" if audit.height else "not tested"


def _rows(images, pairs: Sequence[Pair], clips: Sequence[ClipAudit]) -> Iterator[FrameRow]:
    """Image, true depth, estimated depth and error of the middle frame of some clips."""
    by_clip = {(pair.key, pair.camera): pair for pair in pairs}
    for camera in dict.fromkeys(clip.camera for clip in clips):
        order = sorted((c for c in clips if c.camera == camera), key=lambda clip: clip.abs_rel)
        names = {len(order) // 2: "median", len(order) - 1: "worst", 0: "best"}
        for rank in sorted(names):
            clip = order[rank]
            yield _row(by_clip[clip.key, camera], clip, images, names[rank])


def _images(truth: DepthStore, source_root: Path | None):
    """Episodes by key; none where the images are not there any more."""
    from pipelines.depth.truth import episodes_of

    try:
        return {episode.key: episode for episode in episodes_of(truth, source_root)}
    except DepthtokError:
        return {}


def _row(pair: Pair, clip: ClipAudit, images, rank: str) -> FrameRow:
    step = pair.frames // 2
    estimated, true = as_fitted(pair.estimated(step, step + 1)), pair.truth(step, step + 1)
    scale = ColourScale.of(true.to_disparity().quantiles, true.kind)
    blank = np.full((*true.values.shape[1:], 3), INVALID, np.uint8)
    try:
        picture = images[pair.key].frames(pair.camera).read(step, step + 1)[0]
        name, said = "camera image", images[pair.key].instruction(step)
    except (KeyError, DepthtokError):
        picture, name, said = blank, "the image is not there", ""
    depth = clip.fit.depth(estimated.values)
    fitted = DepthClip.of(depth, DepthKind.METRES, estimated.valid)
    pictures = [
        Picture(picture, name, said),
        Picture(scale.paint(true)[0], "true depth"),
        Picture(scale.paint(fitted)[0], "estimated depth, fitted to the true one"),
    ]
    if depth.shape == true.values.shape:
        error = np.abs(depth - true.values) / np.where(true.valid, true.values, 1)
        valid = true.valid & estimated.valid
        red = colourise(error, DepthKind.DISPARITY, 0, WORST_ERROR, valid)[0]
        pictures.append(Picture(red, "relative error"))
    else:
        pictures.append(Picture(blank, "the sizes differ: no image of the error"))
    heading = f"{clip.camera}, {rank}: AbsRel of the clip {clip.abs_rel:.3f}; step {step}"
    return FrameRow(f"{heading} of {clip.key}", pictures, [scale.bar(), ERRORS])
