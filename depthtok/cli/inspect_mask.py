"""inspect-mask: the attention mask of a policy, drawn and proved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.flags import Json
from depthtok.cli.options import command
from depthtok.log import result, say

if TYPE_CHECKING:
    from vla.model.proof import Proof


PROVED = "proved: gradients are exactly zero where the table lets nothing through"


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    command(app)(inspect_mask)


def inspect_mask(
    config: Annotated[str, typer.Argument(help="a preset (qdepth+causal), a TOML file or a run")],
    out: Annotated[
        Path | None, typer.Option("--out", help="also write a page and a PNG here")
    ] = None,
    json: Json = False,
) -> None:
    """Draw an attention mask and verify it by gradients.

    Measured on a small model with the same mask and token types, in float64. Exit code 1 if a
    gradient contradicts the table.

    Example: depthtok inspect-mask qdepth --out runs/mask
    """
    from dataclasses import replace

    from depthtok.disk.files import require_writable
    from vla.model.proof import prove, shrunk
    from vla.named_configs import load

    if out is not None:
        require_writable(out)
    path = Path(config)
    settings = load(path / "config.json" if path.is_dir() else config)
    proof = prove(replace(settings, model=shrunk(settings.model)))
    found = proof.violations()
    say(*words(proof), "", *(found or [PROVED]), json=json)
    if out is not None:
        say(f"page: {write(config, proof, out)}", json=json)
    if json:
        result({"gradient": proof.gradient, "attention": proof.attention, "violations": found})
    if found:
        raise typer.Exit(1)


def words(proof: Proof) -> list[str]:
    """The table, and both measurements, as text."""
    lines = ["Who attends to whom (rows attend to columns):", proof.table.draw()]
    for title, cells in (
        ("Largest gradient from column to row, through all layers:", proof.gradient),
        ("Share of the row's attention on the column:", proof.attention),
    ):
        names = list(cells)
        lines += ["", title, " " * 9 + "".join(f"{key:>9}" for key in names)]
        lines += [
            f"{query:9}" + "".join(f"{_cell(cells[query][key]):>9}" for key in names)
            for query in names
        ]
    return lines


def _cell(value: float) -> str:
    return "0" if value == 0 else f"{value:.2g}"


def write(name: str, proof: Proof, out: Path) -> Path:
    """The page, and the mask as an image beside it."""
    from PIL import Image

    from vla.evaluation.report import mask_picture, mask_report

    page = mask_report(name, proof).write(out, "mask")
    Image.fromarray(mask_picture(proof)).save(out / "mask.png")
    return page
