"""inspect-mask: the attention mask of a policy, drawn and proved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from depthtok.api.inspect_mask import MaskInspection, inspect_mask
from depthtok.cli.options import Command
from depthtok.log import result, say

if TYPE_CHECKING:
    from vla.model.proof import Proof

PROVED = "proved: gradients are exactly zero where the table lets nothing through"


def tell(inspection: MaskInspection, json: bool) -> int:
    """Prints the table and the measurements; exit code 1 if a gradient contradicts the table."""
    proof, violations = inspection.proof, inspection.violations
    say(*words(proof), "", *(violations or [PROVED]), json=json)
    if inspection.page is not None:
        say(f"page: {inspection.page}", json=json)
    if json:
        measured = {"gradient": proof.gradient, "attention": proof.attention}
        result({**measured, "violations": violations})
    return 1 if violations else 0


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


COMMAND = Command(inspect_mask, tell)
