"""eval-vqvae and decode: what a codebook makes of other data, and codes back to depth."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from depthtok.cli.flags import Cameras, Device, EpisodesMoved, Json, Partial, SourceRoot
from depthtok.cli.options import command
from depthtok.cli.stages import ON_DEVICE, Out, carry_out
from depthtok.cli.train_vqvae import by_task, depth_sources, describe
from depthtok.errors import as_written
from depthtok.log import result, say, typed


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    for function in (eval_vqvae, decode):
        command(app)(function)


def eval_vqvae(
    codebook: Annotated[Path, typer.Argument(metavar="CODEBOOK", help="directory of a codebook")],
    depth: Annotated[list[Path], typer.Argument(metavar="DEPTH...", help="DepthStores")],
    out: Annotated[Path, typer.Option("--out", help="directory of the report")],
    camera: Cameras = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="only episodes whose instruction contains this"),
    ] = None,
    clips: Annotated[
        int, typer.Option("--clips", help="evaluate at most this many clips; 0: all")
    ] = 0,
    sticky: Annotated[
        float, typer.Option("--sticky", min=0, help="tolerance of sticky codes; 0: off")
    ] = 0.0,
    episodes: EpisodesMoved = None,
    source_root: SourceRoot = None,
    partial: Partial = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Evaluate a codebook on another data set's depth.

    Example: depthtok eval-vqvae runs/codebook other/depth --out runs/other
    """
    from depthtok.disk.files import require_writable, write_atomic
    from depthtok.stores.codebook import META
    from pipelines.device import choose
    from vqvae.codec import Codec
    from vqvae.data.clips import spread_over
    from vqvae.data.regions import EpisodesBehind
    from vqvae.quality.quality import assess
    from vqvae.quality.report import build, require_shown

    codec = Codec.load(codebook, choose(device))
    require_writable(out)
    own = codec.codebook.quality or None
    with as_written(codebook / META, "copy the codebook again"):
        require_shown(codec.codebook)
    behind = EpisodesBehind(episodes or (), source_root)
    sources = depth_sources(depth, None, camera, partial=partial)
    if task:
        sources = by_task(sources, task, behind, both=False)[1]
    chosen = spread_over(sources, clips)
    quality, examples = assess(codec, chosen, masks=behind.masks, sticky=sticky)
    quality = {**quality, "held_out": None, "codebook": codec.codebook.fingerprint}
    judged = ", ".join(map(str, depth)) + (f" ({', '.join(task)})" if task else "")
    page = build(codec, quality, examples, judged=judged, own=own).write(out)
    write_atomic(out / "quality.json", jsonlib.dumps(quality, indent=1) + "\n")
    say(*describe(codebook, quality), f"look: {page}", json=json)
    if json:
        result({"codebook": str(codebook), "report": str(page), "quality": quality})


def decode(
    codes: Annotated[Path, typer.Argument(metavar="CODES", help="a CodeStore")],
    out: Out,
    options: ON_DEVICE,
    codebook: Annotated[
        Path | None,
        typer.Option("--codebook", help="the codes' codebook, if it has moved"),
    ] = None,
) -> None:
    """Decode codes: CodeStore -> DepthStore of disparity.

    Example: depthtok decode runs/codes --out runs/decoded
    """
    from depthtok.stores.codes import CodeStore
    from pipelines.decode import DecodeStage
    from pipelines.device import choose_for

    store = CodeStore(codes)
    stage = DecodeStage(
        store, store.open_codebook(codebook), out, choose_for(options), partial=options.partial
    )
    carry_out(stage, options, typed("report", out))
