"""annotate: EpisodeStore, RLDS or videos to depth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.parameters import BySet, Flag, Only, Positional
from depthtok.api.stage_runs import (
    SHARED,
    Out,
    carry_out,
    codebook_with_verdict,
    open_episodes,
)
from depthtok.config import RunOptions
from depthtok.log import warn
from pipelines.config import AnnotateConfig, TokenizeConfig

BY_SET = (
    "input_size",
    "precision",
    "graphs",
    "attention",
    "kind",
    "shift",
    "focal_px",
    "sky",
    "steady",
    "pose",
)

if TYPE_CHECKING:
    from pipelines.annotate.fused import FusedStage
    from pipelines.annotate.stage import AnnotateStage
    from pipelines.plan import Plan
    from pipelines.stage import Outcome


def annotate(
    source: Annotated[
        Path,
        Positional(
            "EPISODES|DATA|VIDEOS",
            "an EpisodeStore, a data set, a video, or a folder of videos or images",
        ),
    ],
    out: Out,
    settings: Annotated[AnnotateConfig, BySet(*BY_SET)],
    options: Annotated[
        RunOptions,
        Only(*SHARED, "partial", "device", "gpus_per_worker", "source_root"),
        BySet("cpus_per_worker", "gpus_per_worker"),
    ],
    weights: Annotated[Path | None, "the estimator's weights: .pth or .safetensors"] = None,
    schema: Annotated[str, "of a data set: a shipped name, or a .toml file"] = "",
    then_tokenize: Annotated[
        Path | None, Flag("keep only codes: OUT becomes a CodeStore", metavar="CODEBOOK")
    ] = None,
) -> Outcome | Plan:
    """Estimate depth for every frame: EpisodeStore -> DepthStore.

    A data set (RLDS, LeRobot, HDF5), or a folder of videos or of folders of images, is first
    converted, into OUT.episodes. `--estimator dataset` takes the ground-truth depth of the data
    set. With `--then-tokenize` each worker encodes its depth and drops it: the codes equal those of
    `tokenize`.

    Example: depthtok annotate runs/episodes --out runs/depth --estimator vits --workers 8
    """
    from depthtok.stores.episodes import EpisodeStore
    from pipelines.annotate.speed import record
    from pipelines.annotate.stage import AnnotateStage
    from pipelines.depth.registry import find
    from pipelines.device import choose, choose_for
    from pipelines.stage import Outcome

    episodes = open_episodes(source, out, options, schema)
    if not isinstance(episodes, EpisodeStore):  # a conversion, which was only planned
        return episodes
    if notice := find(settings.estimator).notice:
        warn(notice)
    device = choose_for(options)
    if settings.compile:
        choose(device)  # what compiles is tried here, for all workers
    stage = AnnotateStage(episodes, out, settings, device, partial=options.partial, weights=weights)
    if options.plan:
        return _plan(stage, then_tokenize, options)
    _warn_of_unknown(stage)
    if then_tokenize is None:
        done = carry_out(stage, options)
        if isinstance(done, Outcome):
            record(done, device, options.workers)
        return done
    return carry_out(_fused(stage, then_tokenize), options)


def _warn_of_unknown(stage: AnnotateStage) -> None:
    if stage.origin is not None and not stage.origin.networks:
        warn(unknown_weights(stage.weights, stage.config.estimator))


def _fused(stage: AnnotateStage, codebook: Path) -> FusedStage:
    """The stage that encodes its depth, too."""
    from pipelines.annotate.fused import FusedStage

    book, verdict = codebook_with_verdict(codebook)
    return FusedStage(stage, book, stage.out, TokenizeConfig(), verdict)


def _plan(stage: AnnotateStage, codebook: Path | None, options: RunOptions) -> Outcome | Plan:
    """The plan of the stage; fetches no network, as large ones take long."""
    from pipelines.annotate.unmeasured import to_plan
    from pipelines.depth.here import only_here

    with only_here():
        stage = to_plan(stage)
        _warn_of_unknown(stage)
        return carry_out(stage if codebook is None else _fused(stage, codebook), options)


def unknown_weights(path: Path | None, estimator: str) -> str:
    """A warning: nothing tells a relative network's weights from a metric one's."""
    return (
        f"nothing says which network {path} is of: its name is no published one, and it has no "
        f"metadata. It is run as {estimator}; relative and metric weights have the same tensors, "
        "and the wrong ones give depth that is inverted, or in another unit: hold some of it "
        "against the images"
    )
