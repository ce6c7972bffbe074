"""compare: two evaluations, two trainings or two stores of codes side by side."""

from __future__ import annotations

from depthtok.api.compare import Comparison, compare
from depthtok.cli.options import Command
from depthtok.log import result, say


def tell(comparison: Comparison, json: bool) -> None:
    """Prints figures and differences."""
    say(*comparison.words, json=json)
    if comparison.page is not None:
        say(f"look: {comparison.page}", json=json)
    if json:
        result(comparison.figures)


COMMAND = Command(compare, tell)
