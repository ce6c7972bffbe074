"""decode: the DepthStore, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.api.decode import decode
from depthtok.cli.options import Command
from depthtok.cli.stage_results import tell_stage
from depthtok.log import typed

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.stage import Outcome


def tell(outcome: Outcome | Plan, out: Path, *, json: bool) -> int:
    """Depth, or the plan."""
    return tell_stage(outcome, lambda: typed("report", out), json=json)


COMMAND = Command(decode, tell)
