"""convert: the EpisodeStore, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.api.convert import convert
from depthtok.cli.next_step import after_convert
from depthtok.cli.options import Command
from depthtok.cli.stage_results import tell_stage

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.stage import Outcome


def tell(outcome: Outcome | Plan, out: Path, *, json: bool) -> int:
    """Episodes and steps, or the plan."""
    return tell_stage(outcome, lambda: after_convert(out), json=json)


COMMAND = Command(convert, tell)
