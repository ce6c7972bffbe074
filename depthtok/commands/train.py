"""train-vqvae and train-vla: the two trainings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.errors import ConfigError
from depthtok.log import result, say, suggest, warn
from depthtok.options import command

if TYPE_CHECKING:
    from vqvae.clips import ClipSource

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")]
Resume = Annotated[bool, typer.Option("--resume/--no-resume", help="go on from a checkpoint")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    command(app)(train_vqvae)


def train_vqvae(
    depth: Annotated[list[Path], typer.Argument(metavar="DEPTH...", help="DepthStores")],
    out: Annotated[Path, typer.Option("--out", help="directory of the codebook to make")],
    preset: Annotated[
        str, typer.Option("--preset", help="named settings, or a TOML file")
    ] = "default",
    weight: Annotated[
        list[float] | None, typer.Option("--weight", help="how often a store is drawn; one each")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option("--camera", help="cameras to learn from; all by default")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="training steps")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="crops in a step")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="of everything random")] = None,
    held_out: Annotated[
        float | None, typer.Option("--held-out", help="share of the episodes that only judge")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="use stores that lack parts")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="mark the codebook as a demo")] = False,
    device: Device = "auto",
    resume: Resume = True,
    json: Json = False,
) -> None:
    """Train a codebook for depth: DepthStores -> codebook, with its quality report.

    Example: depthtok train-vqvae runs/depth --out runs/codebook
    """
    from depthtok.codebook import Codebook
    from depthtok.progress import progress
    from depthtok.signals import Stopped, stop_request
    from pipelines.device import choose
    from vqvae.config import TokeniserConfig, TrainOptions
    from vqvae.train import train

    changes = {"steps": steps, "batch": batch, "seed": seed, "held_out": held_out}
    given = {name: value for name, value in changes.items() if value is not None}
    config = TokeniserConfig.preset(preset).with_training(**given)
    sources = depth_sources(depth, weight, camera, partial=partial)
    options = TrainOptions(device=choose(device), resume=resume)
    with (
        stop_request() as should_stop,
        progress(total=config.training.steps, unit="steps", label="train-vqvae") as bar,
    ):
        last = 0

        def on_step(step: int, figures: dict[str, float]) -> None:
            nonlocal last
            bar.advance(step - last, **figures)
            last = step

        made = train(config, sources, out, options, on_step=on_step, should_stop=should_stop,
                     demo=demo)  # fmt: skip
    if made is None:
        raise Stopped(15)
    book = Codebook.load(out)
    say(*describe(book), json=json)
    codes = out.parent / "codes"
    suggest(f"depthtok tokenize {depth[0]} --codebook {out} --out {codes}", json=json)
    if json:
        result({"codebook": str(out), "fingerprint": book.fingerprint, "quality": book.quality})


def depth_sources(
    paths: list[Path], weights: list[float] | None, cameras: list[str] | None, *, partial: bool
) -> list[ClipSource]:
    """The clips of DepthStores. Raises `MissingParts` unless `partial`."""
    from depthtok.depth import DepthStore
    from vqvae.clips import ClipSource

    weights = weights or [1.0] * len(paths)
    if len(weights) != len(paths):
        raise ConfigError(
            f"{len(weights)} weights for {len(paths)} stores", remedy="give one --weight a store"
        )
    sources = []
    for path, weight in zip(paths, weights, strict=True):
        store = DepthStore(path)
        store.require_complete(partial=partial)
        names = cameras or store.cameras
        clips = [clip for part in store.parts() for clip in store.clips_of(part, names)]
        sources.append(ClipSource(store.about["dataset"], store.fingerprint, clips, weight))
        if failures := store.failures():
            warn(f"{path}: {len(failures)} failed episodes are left out")
    return sources


def describe(book) -> list[str]:
    """What a codebook is worth."""
    from vqvae.gate import judge

    quality = book.quality
    failures = judge(quality)
    use = "no codes (continuous latents)"
    if "codes" in quality:
        codes = quality["codes"]
        use = f"{codes['used']} of {codes['of']} codes used, perplexity {codes['perplexity']:.0f}"
    lines = [
        f"{book.path}: {use}, L1 {quality['disparity']['l1']:.4f} of the range, on "
        f"{quality['episodes']} {'held-out ' if quality['held_out'] else ''}episodes"
    ]
    if failures:
        lines.append("below the quality gate: " + "; ".join(failures))
    return lines
