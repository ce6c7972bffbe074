"""train-vqvae: DepthStores to a codebook, with its quality report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.flags import (
    Cameras,
    Device,
    EpisodesMoved,
    Json,
    Partial,
    Resume,
    SourceRoot,
    Threads,
)
from depthtok.cli.options import command
from depthtok.errors import ConfigError
from depthtok.log import result, say, suggest, typed, warn

if TYPE_CHECKING:
    from vqvae.config import TokeniserConfig
    from vqvae.data.clips import ClipSource
    from vqvae.data.regions import EpisodesBehind


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    command(app)(train_vqvae)


def train_vqvae(
    depth: Annotated[list[Path], typer.Argument(metavar="DEPTH...", help="DepthStores")],
    out: Annotated[Path, typer.Option("--out", help="directory of the codebook")],
    preset: Annotated[
        str, typer.Option("--preset", help="named settings, or a TOML file")
    ] = "default",
    weight: Annotated[
        list[float] | None, typer.Option("--weight", help="sampling weight, one per store")
    ] = None,
    camera: Cameras = None,
    steps: Annotated[int | None, typer.Option("--steps", help="training steps")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="crops per step")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="random seed")] = None,
    held_out: Annotated[
        float | None,
        typer.Option("--held-out", help="fraction of episodes held out for validation"),
    ] = None,
    held_out_task: Annotated[
        list[str] | None,
        typer.Option("--held-out-task", help="hold out episodes whose instruction contains this"),
    ] = None,
    size: Annotated[int | None, typer.Option("--size", help="side of the depth images, px")] = None,
    grid: Annotated[int | None, typer.Option("--grid", help="side of the code grid, cells")] = None,
    normalisation: Annotated[
        str | None,
        typer.Option("--normalisation", help="clip_quantile, per_frame, dataset or metric"),
    ] = None,
    quantizer: Annotated[
        str | None, typer.Option("--quantizer", help="ema, gradient, simvq, fsq or none")
    ] = None,
    twin: Annotated[
        bool, typer.Option("--twin", help="also train without a quantiser, as the bound")
    ] = False,
    sticky: Annotated[
        float, typer.Option("--sticky", min=0, help="also evaluate sticky codes of this tolerance")
    ] = 0.0,
    episodes: EpisodesMoved = None,
    source_root: SourceRoot = None,
    partial: Partial = False,
    demo: Annotated[bool, typer.Option("--demo", help="mark the codebook as a demo")] = False,
    device: Device = "auto",
    threads: Threads = 0,
    resume: Resume = True,
    json: Json = False,
) -> None:
    """Train a codebook for depth: DepthStores -> codebook.

    Writes a quality report beside it. --preset also takes a TOML file with any of the settings
    (docs/tokeniser.md). On several GPUs, start it by
    torchrun --nproc-per-node 8 -m depthtok.cli train-vqvae ...

    Example: depthtok train-vqvae runs/depth --out runs/codebook
    """
    from vqvae.config import TokeniserConfig
    from vqvae.data.regions import EpisodesBehind

    config = TokeniserConfig.preset(preset)
    config = _changed(
        config,
        training={"steps": steps, "batch": batch, "seed": seed, "held_out": held_out},
        network={"size": size, "grid": grid},
        quantizer={"kind": quantizer},
    )
    if normalisation:
        config = replace(config, normalisation=normalisation)
    sources = depth_sources(depth, weight, camera, partial=partial)
    outs = [out, _twin(out)] if twin else [out]
    with ranks(device, threads) as (rank, place), only_writer(outs if rank == 0 else []):
        behind = EpisodesBehind(episodes or (), source_root)
        run = _Run(sources, held_out_task or [], behind, place, resume, quiet=rank > 0)
        run.train(config, out, demo=demo)
        if twin:
            run.train(config.continuous(), _twin(out), demo=demo)
        if rank == 0:
            run.conclude(out, twin=twin, sticky=sticky)
            _say(out, depth[0], json=json)


def _changed(config: TokeniserConfig, **tables: dict) -> TokeniserConfig:
    """The settings with the flags that were given, all changed at once."""
    for name, changes in tables.items():
        given = {key: value for key, value in changes.items() if value is not None}
        tables[name] = replace(getattr(config, name), **given)
    return replace(config, **tables)


@contextmanager
def ranks(device: str, threads: int) -> Iterator[tuple[int, str]]:
    """This process's rank and device: as torchrun says, or alone."""
    from pipelines.device import choose, training_threads

    training_threads(threads)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0, choose(device)
        return
    from datetime import timedelta

    from torch import cuda, distributed

    chosen = choose(device)
    if chosen.startswith("cuda"):
        chosen = f"cuda:{os.environ['LOCAL_RANK']}"
        cuda.set_device(chosen)
    # The others wait while rank 0 fills the cache and judges.
    backend = "nccl" if chosen.startswith("cuda") else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(days=1))
    try:
        yield distributed.get_rank(), chosen
    finally:
        distributed.destroy_process_group()


@contextmanager
def only_writer(outs: Sequence[Path]) -> Iterator[None]:
    """Locks these codebooks, whose directories appear when they are done, and can be written."""
    from depthtok.disk.files import require_writable
    from depthtok.disk.locks import writing

    with ExitStack() as stack:
        for out in outs:
            require_writable(out)
            stack.enter_context(writing(out, file=True))
        yield


class _Run:
    """Trainings over the same sources."""

    def __init__(
        self, sources: list[ClipSource], tasks: Sequence[str], behind: EpisodesBehind, device: str,
        resume: bool, *, quiet: bool,
    ) -> None:  # fmt: skip
        self.behind = behind
        self.learn, self.judge = sources, None
        if tasks:
            self.learn, self.judge = by_task(sources, tasks, self.behind)
        self.device, self.resume, self.quiet = device, resume, quiet

    def train(self, config: TokeniserConfig, out: Path, *, demo: bool) -> None:
        """Train into `out`. Raises `Stopped` where a signal ended it."""
        from depthtok.signals import stop_request
        from vqvae.config import TrainOptions
        from vqvae.training.train import train

        options = TrainOptions(device=self.device, resume=self.resume)
        with stop_request() as should_stop, self._steps(config, out) as on_step:
            made = train(
                config, self.learn, out, options, judge=self.judge, on_step=on_step,
                should_stop=should_stop, masks=self.behind.masks, demo=demo,
            )  # fmt: skip
            if made is None:
                raise should_stop.stopped

    @contextmanager
    def _steps(self, config: TokeniserConfig, out: Path) -> Iterator[Callable | None]:
        """What to call after each step, to move a progress line; None where none is shown."""
        from depthtok.progress import progress

        if self.quiet:
            yield None
            return
        with progress(config.training.steps, "steps", f"train-vqvae {out}") as bar:
            yield lambda step, figures: bar.reach(step, **figures)

    def conclude(self, out: Path, *, twin: bool, sticky: float) -> None:
        """Add what was asked for to the quality, and write the page."""
        from vqvae.codec import Codec
        from vqvae.quality.report import of_codebook
        from vqvae.training import export

        if twin:
            export.add_twin(out, _twin(out))
            of_codebook(Codec.load(_twin(out))).write(_twin(out))
        if sticky:
            export.add_sticky(out, self.learn, self.judge, sticky, self.device)
        of_codebook(Codec.load(out)).write(out)


def _twin(out: Path) -> Path:
    return out.with_name(f"{out.name}.continuous")


def by_task(
    sources: list[ClipSource], tasks: Sequence[str], behind, *, both: bool = True
) -> tuple[list[ClipSource], list[ClipSource]]:
    """The clips of other tasks, and those with one of `tasks` in their instruction.

    Raises `ConfigError` where no clip has, or, if `both` sides are wanted, where all have.
    """
    from vqvae.data.clips import where

    def named(clip) -> bool:
        episode = behind.episode(clip)
        text = episode.instruction(0).lower() if episode else ""
        return any(task.lower() in text for task in tasks)

    marks = [[named(clip) for clip in source.clips] for source in sources]
    pairs = list(zip(sources, marks, strict=True))
    learn = [where(source, (not mark for mark in found)) for source, found in pairs]
    judge = [where(source, found) for source, found in pairs]
    sides = [judge, learn] if both else [judge]
    if not all(any(len(source.clips) for source in side) for side in sides):
        raise ConfigError(
            f"{', '.join(map(repr, tasks))} names no episode, or all of them",
            remedy="give part of an instruction; `depthtok inspect EPISODES` shows some",
        )
    return learn, judge


def depth_sources(
    paths: list[Path], weights: list[float] | None, cameras: list[str] | None, *, partial: bool
) -> list[ClipSource]:
    """The clips of DepthStores. Raises `MissingParts` unless `partial`."""
    from depthtok.stores.depth import DepthStore
    from depthtok.stores.failures import in_words, left_out
    from depthtok.stores.lineage import outdated
    from vqvae.data.clips import ClipSource, StoredClips

    weights = weights or [1.0] * len(paths)
    if len(weights) != len(paths):
        raise ConfigError(
            f"{len(weights)} weights for {len(paths)} stores", remedy="give one --weight a store"
        )
    sources = []
    for path, weight in zip(paths, weights, strict=True):
        store = DepthStore(path)
        store.require_complete(partial=partial)
        clips = StoredClips(store, cameras or store.cameras)
        name, content = store.about["dataset"], store.content
        sources.append(ClipSource(name, store.fingerprint, clips, weight, content))
        if failures := in_words(left_out(store)):
            warn(f"{path}: {failures}")
        for line in outdated(store):
            warn(line)
        if clips.absent:
            warn(f"{path}: {clips.absent} clips of cameras that episodes do not have are left out")
    return sources


def _say(out: Path, depth: Path, *, json: bool) -> None:
    from depthtok.stores.codebook import Codebook

    book = Codebook.load(out)
    say(*describe(out, book.quality), f"look: {out / 'report.html'}", json=json)
    codes = out.parent / "codes"
    suggest(typed("tokenize", depth, "--codebook", out, "--out", codes), json=json)
    if json:
        result({"codebook": str(out), "fingerprint": book.fingerprint, "quality": book.quality})


def describe(path: Path, quality: dict) -> list[str]:
    """What a codebook is worth on the data that `quality` was measured on."""
    from vqvae.quality.gate import judge

    failures = judge(quality)
    use = "no codes (continuous latents)"
    if "codes" in quality:
        codes = quality["codes"]
        use = f"{codes['used']} of {codes['of']} codes used, perplexity {codes['perplexity']:.0f}"
    error = f"L1 {quality['disparity']['l1']:.4f} of the range"
    if "metres" in quality:
        error += f", AbsRel {quality['metres']['abs_rel']:.4f}"
    lines = [
        f"{path}: {use}, {error}, on "
        f"{quality['episodes']} {'held-out ' if quality['held_out'] else ''}"
        f"episode{'' if quality['episodes'] == 1 else 's'}"
    ]
    if failures:
        lines.append("below the quality gate: " + "; ".join(failures))
    return lines
