"""eval-depth: a trained depth expert on another data set."""

from __future__ import annotations

from depthtok.api.eval_depth import DepthEvaluation, eval_depth
from depthtok.cli.options import Command
from depthtok.log import result, say

ROWS = (
    ("loss", "depth", "constant_depth"),
    ("code accuracy", "top1", "constant_top1"),
    ("decoded depth off by (share of the range)", "error", "constant_error"),
)


def tell(evaluation: DepthEvaluation, json: bool) -> None:
    """Prints the score beside the constant answer's."""
    figures = evaluation.figures
    say(
        f"{evaluation.run} on {figures['frames']} frames of {evaluation.dataset}:",
        *(
            f"  {title:<44}{figures[figure]:>8.3f}   constant answer: {figures[constant]:.3f}"
            for title, figure, constant in ROWS
        ),
        "(constant answer: each position's own statistics of these very frames)",
        json=json,
    )
    if evaluation.page is not None:
        say(f"page: {evaluation.page}", json=json)
    if json:
        result(figures)


COMMAND = Command(eval_depth, tell)
