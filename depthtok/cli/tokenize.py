"""tokenize: the CodeStore, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.api.tokenize import tokenize
from depthtok.cli.next_step import after_codes, episodes_behind
from depthtok.cli.options import Command
from depthtok.cli.stage_results import tell_stage

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.stage import Outcome


def tell(outcome: Outcome | Plan, depth: Path, out: Path, *, json: bool) -> int:
    """Codes, or the plan."""

    return tell_stage(outcome, lambda: after_codes(episodes_behind(depth), out), json=json)


COMMAND = Command(tokenize, tell)
