"""finetune-vida and audit-depth: learning from true depth, and holding estimates against it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.flags import Device, Json, Partial, Resume, SourceRoot
from depthtok.cli.options import command
from depthtok.errors import ConfigError, SourceError
from depthtok.log import result, say, suggest, typed, warn
from depthtok.signals import stoppable

if TYPE_CHECKING:
    from depthtok.stores.depth import DepthStore
    from pipelines.audit.audit import ClipAudit
    from pipelines.audit.findings import CameraAudit
    from pipelines.depth.vida.truth import TrueClip


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    for function in (finetune_vida, audit_depth):
        command(app)(function)


def finetune_vida(
    depth: Annotated[
        list[Path],
        typer.Argument(metavar="DEPTH...", help="DepthStores of ground-truth depth (metres)"),
    ],
    out: Annotated[Path, typer.Option("--out", help="the .safetensors file to write")],
    estimator: Annotated[
        str, typer.Option("--estimator", help="network: vits, vitb, vitl, tiny, metric-vits, ...")
    ] = "vits",
    weights: Annotated[
        Path | None, typer.Option("--weights", help="weights to start from: .pth or .safetensors")
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="start from random weights")
    ] = False,
    steps: Annotated[int | None, typer.Option("--steps", help="training steps [1000]")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="windows per step [2]")] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", help="frames per window, 2 to 32 [8]")
    ] = None,
    input_size: Annotated[
        int | None, typer.Option("--input-size", help="network input size, px [its own]")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="peak learning rate [0.0001]")
    ] = None,
    temporal_weight: Annotated[
        float | None, typer.Option("--temporal-weight", help="weight of the temporal loss [1]")
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror/--no-mirror", help="mirror half of the windows")
    ] = True,
    seed: Annotated[int | None, typer.Option("--seed", help="random seed [0]")] = None,
    camera: Annotated[
        list[str] | None, typer.Option("--camera", help="cameras to train on; all by default")
    ] = None,
    held_out: Annotated[
        float, typer.Option("--held-out", help="fraction of episodes held out for validation")
    ] = 0.1,
    held_out_task: Annotated[
        list[str] | None,
        typer.Option("--held-out-task", help="hold out episodes whose instruction contains this"),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="store the weights as float16")] = False,
    partial: Partial = False,
    source_root: SourceRoot = None,
    device: Device = "auto",
    resume: Resume = True,
    json: Json = False,
) -> None:
    """Fine-tune Video-Depth-Anything on ground-truth depth.

    Frames come from the EpisodeStores that the depth was made from. Relative networks learn
    disparity up to scale and shift, metric ones metres. Writes the weights and a card with
    their held-out error. Rerun to resume.

    Example: depthtok finetune-vida runs/true-depth --out runs/vits-mine.safetensors
    """
    from depthtok.disk.locks import writing
    from pipelines.depth.vida.config import config_named
    from pipelines.depth.vida.course import Course
    from pipelines.depth.vida.finetune import FinetuneConfig
    from pipelines.depth.vida.published import licence_notice
    from pipelines.device import choose

    network = config_named(estimator)
    if notice := licence_notice(estimator):
        warn(notice)
    changes = {
        "steps": steps, "batch": batch, "frames": frames, "seed": seed,
        "input_size": input_size or network.input_size, "learning_rate": learning_rate,
        "temporal_weight": temporal_weight, "mirror": mirror,
    }  # fmt: skip
    given = {name: value for name, value in changes.items() if value is not None}
    config = FinetuneConfig(**given)
    stores = [_opened(path, partial=partial) for path in depth]

    def course_of(before: int | None) -> Course:
        clips = _clips(stores, camera, source_root, held_out, held_out_task or [], before)
        return Course(network, config, *clips, out,
                      weights=weights, from_scratch=from_scratch, half=half)  # fmt: skip

    with writing(out, file=True):
        course = course_of(None)
        if resume and course.checkpoint.is_file() and not course.goes_on():
            before = course_of(config.seed)  # a run of former versions keeps its held-out episodes
            course = before if before.goes_on() else course
        say(f"{len(course.clips)} clips train, {len(course.judges)} judge", json=json)
        _train(course, choose(device), resume=resume)
        with stoppable():
            card = course.finish(choose(device))
    for name, figures in card["held_out"]["figures"].items():
        say(f"{name}: " + _told(figures), json=json)
    say(f"{out}, and what it is worth in {course.card.name}", json=json)
    then = typed("annotate", "EPISODES", "--out", "DEPTH", "--estimator", estimator,
                 "--weights", out)  # fmt: skip
    suggest(then, json=json)
    if json:
        result(card)


def _train(course, device: str, *, resume: bool) -> None:
    """Trains with a progress line. Raises `Stopped` where a signal ended it."""
    from depthtok.progress import progress
    from depthtok.signals import stop_request

    with (
        stop_request() as should_stop,
        progress(total=course.config.steps, unit="steps", label="finetune-vida") as bar,
    ):

        def on_step(report) -> None:
            bar.reach(report.step + 1, loss=report.loss, temporal=report.temporal)

        if not course.train(device, on_step, should_stop, resume=resume):
            raise should_stop.stopped


def _clips(
    stores: list[DepthStore], cameras: list[str] | None, source_root: Path | None, share: float,
    tasks: list[str], before: int | None,
) -> tuple[list[TrueClip], list[TrueClip], str]:  # fmt: skip
    """Clips that train, clips that judge, and a digest of which those are; `before` is the seed of
    a run that held out by the rule of former versions."""
    from depthtok.config import digest
    from pipelines.depth.vida.truth import held_out, true_clips

    found = [(store, true_clips(store, cameras, source_root)) for store in stores]
    train, judges = held_out(found, share, tasks, before)
    clips = [[str(clip.key), clip.camera.name] for clip in train]
    content = [[store.fingerprint for store in stores], clips]
    return train, judges, digest(content)


def _opened(path: Path, *, partial: bool) -> DepthStore:
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
    from depthtok.disk.files import require_writable
    from depthtok.progress import progress
    from pipelines.audit.audit import audit
    from pipelines.audit.findings import plain, summarise
    from pipelines.audit.page import make_page
    from pipelines.audit.pairs import paired

    require_writable(out)
    stores = _opened(estimated, partial=partial), _opened(truth, partial=partial)
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
        lines.append(f"{each.camera}: {_told(each.figures)}{scale}, over {each.clips} clips")
        lines += [f"  WRONG: {text}" for text in each.wrong]
        lines += [f"  WEAK: {text}" for text in each.weak]
        lines += [f"  note: {text}" for text in each.notes]
    return lines


SHOWN = {
    "abs_rel": "AbsRel", "delta1": "delta1", "rmse_m": "RMSE (m)", "r2": "R2", "flicker": "flicker",
    "edges": "AbsRel at edges", "gripper": "AbsRel near the gripper",
    "rows": "AbsRel of row means", "plane": "AbsRel of the best plane",
}  # fmt: skip


def _told(figures) -> str:
    known = {name: figures.get(name) for name in SHOWN}
    return ", ".join(f"{SHOWN[name]} {value:.3f}" for name, value in known.items()
                     if value is not None)  # fmt: skip
