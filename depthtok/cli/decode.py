"""decode: codes back to depth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depthtok.cli.old_options import command
from depthtok.cli.stages import ON_DEVICE, Out, carry_out
from depthtok.log import typed


def register(app: typer.Typer) -> None:
    """Adds the command of this file."""
    command(app)(decode)


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
