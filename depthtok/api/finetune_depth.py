"""A depth network that learns from true depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from depthtok.api.depth_stores import opened
from depthtok.api.flags import Device, Partial, Resume, SourceRoot
from depthtok.api.parameters import BySet, Flag, Only, Positional
from depthtok.errors import ConfigError
from depthtok.log import announce, warn
from depthtok.signals import stoppable
from pipelines.depth.learning.finetune_config import FinetuneConfig

if TYPE_CHECKING:
    from depthtok.stores.depth import DepthStore
    from pipelines.depth.learning.course import Course
    from pipelines.depth.learning.finetune import StepReport
    from pipelines.depth.learning.learner import Family
    from pipelines.depth.truth import TrueClip


BY_SET = ("temporal_weight", "weight_decay", "mirror", "save_every")


@dataclass(frozen=True)
class FinetunedDepth:
    """The weights, and their card: what they were trained on, and their held-out error."""

    weights: Path
    card_path: Path
    card: dict[str, Any]


def finetune_depth(
    depth: Annotated[
        list[Path], Positional("DEPTH...", "DepthStores of ground-truth depth (metres)")
    ],
    out: Annotated[Path, "the .safetensors file to write"],
    settings: Annotated[
        FinetuneConfig,
        Only("steps", "batch", "frames", "learning_rate", "seed", *BY_SET),
        BySet(*BY_SET),
    ],
    estimator: Annotated[str, "network: vits, gemdepth, da3-small, hf:OWNER/NAME, ..."] = "vits",
    weights: Annotated[Path | None, "weights to start from: .pth or .safetensors"] = None,
    from_scratch: Annotated[bool, "start from random weights"] = False,
    input_size: Annotated[int | None, "network input size, px [its own]"] = None,
    camera: Annotated[list[str] | None, "cameras to train on; all by default"] = None,
    held_out: Annotated[float, "fraction of episodes held out for validation"] = 0.1,
    held_out_task: Annotated[
        list[str] | None, "hold out episodes whose instruction contains this"
    ] = None,
    half: Annotated[bool, Flag("store the weights as float16", by_set=True)] = False,
    pose: Annotated[
        str, Flag("of gemdepth: on embeds the camera poses it predicts; or off", by_set=True)
    ] = "on",
    kind: Annotated[
        str, Flag("of the depth, where the estimator does not say it", by_set=True)
    ] = "",
    focal_px: Annotated[
        float,
        Flag("of metres by focal length: pixels of the frame; 0: the data's own", by_set=True),
    ] = 0.0,
    partial: Partial = False,
    source_root: SourceRoot = None,
    device: Device = "auto",
    resume: Resume = True,
) -> FinetunedDepth:
    """Fine-tune a depth network on ground-truth depth.

    Frames come from the EpisodeStores that the depth was made from. Networks learn the kind of
    depth that they give: disparity or relative depth up to scale and shift, or metres. Writes the
    weights and a card with their held-out error. Rerun to resume.

    Example: depthtok finetune-depth runs/true-depth --out runs/vits-mine.safetensors
    """
    from depthtok.disk.locks import writing
    from pipelines.depth.learning.choice import trainable
    from pipelines.depth.learning.course import Course
    from pipelines.depth.single_frames.config import FrameConfig
    from pipelines.depth.truth import doubt_about
    from pipelines.device import choose

    family = trainable(estimator, pose, FrameConfig(kind=kind, focal_px=focal_px))
    if family.notice:
        warn(family.notice)
    settings = replace(settings, input_size=_input_size(family, input_size))
    stores = [opened(path, partial=partial) for path in depth]
    for doubt in filter(None, map(doubt_about, stores)):
        warn(doubt)

    def course_of(before: int | None) -> Course:
        clips = _clips(stores, camera, source_root, held_out, held_out_task or [], before)
        return Course(
            family,
            settings,
            *clips,
            out,
            weights=weights,
            from_scratch=from_scratch,
            half=half,
            truth=[store.estimator for store in stores],
        )

    with writing(out, file=True):
        course = course_of(None)
        if resume and course.checkpoint.is_file() and not course.goes_on():
            before = course_of(
                settings.seed
            )  # a run of former versions keeps its held-out episodes
            course = before if before.goes_on() else course
        announce(f"{len(course.clips)} clips train, {len(course.held_out)} held out")
        _train(course, choose(device), resume=resume)
        with stoppable():
            card = course.finish(choose(device))
    return FinetunedDepth(out, course.card, card)


def _input_size(family: Family, asked: int | None) -> int:
    """The size to train at, px; 0 where the network's own processor sets it. Raises `ConfigError`
    for one that was asked for there."""
    if asked and not family.input_size:
        raise ConfigError(
            f"the input size of {family.name} is set by its own processor",
            remedy="leave --input-size out",
        )
    return asked or family.input_size


def _train(course: Course, device: str, *, resume: bool) -> None:
    """Trains with a progress line. Raises `Stopped` where a signal ended it."""
    from depthtok.progress import progress
    from depthtok.signals import stop_request

    with (
        stop_request() as should_stop,
        progress(total=course.config.steps, unit="steps", label="finetune-depth") as bar,
    ):

        def on_step(report: StepReport) -> None:
            bar.reach(report.step + 1, loss=report.loss, temporal=report.temporal)

        if not course.train(device, on_step, should_stop, resume=resume):
            raise should_stop.stopped


def _clips(
    stores: list[DepthStore],
    cameras: list[str] | None,
    source_root: Path | None,
    share: float,
    tasks: list[str],
    before: int | None,
) -> tuple[list[TrueClip], list[TrueClip], str]:
    """Clips for training, those held out, and a digest of which those are; `before` is the seed of
    a run that held out by the rule of former versions."""
    from depthtok.config import digest
    from pipelines.depth.truth import held_out, true_clips

    clips = [(store, true_clips(store, cameras, source_root)) for store in stores]
    train, validation = held_out(clips, share, tasks, before)
    keys = [[str(clip.key), clip.camera.name] for clip in train]
    return train, validation, digest([[store.fingerprint for store in stores], keys])
