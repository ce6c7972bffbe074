"""collect: what was recorded, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.api.collect import collect
from depthtok.cli.options import Command
from depthtok.cli.stage_results import SHOWN_FAILURES
from depthtok.format import human_count, human_duration
from depthtok.log import result, say, suggest, typed
from pipelines.sim.config import CollectConfig

if TYPE_CHECKING:
    from pipelines.stage import Outcome


def tell(outcome: Outcome, out: Path, settings: CollectConfig, *, json: bool) -> int:
    """How many episodes there are, which failed, and what to type next."""
    lines, then = _lines(outcome, out, settings)
    say(*lines, json=json)
    if then:
        suggest(then, json=json)
    if json:
        result(outcome)
    return outcome.exit_code


def _lines(outcome: Outcome, out: Path, settings: CollectConfig) -> tuple[list[str], str]:
    """What was recorded, and what to type next; "" where it is not done."""
    from depthtok.sources.schema import Schema
    from pipelines.collect import CollectStage

    stage = CollectStage(out, settings)

    then = ""
    lines = [
        f"{out}: {human_count(outcome.episodes)} successful episodes, "
        f"{human_count(outcome.steps)} steps; {outcome.made} made, {outcome.kept} kept, in "
        f"{human_duration(outcome.seconds)}"
    ]
    lines += [f"failed: {f.key}: {f.reason}" for f in outcome.failures[:SHOWN_FAILURES]]
    if (folder := out / "failed").is_dir():  # not before the last episode is there
        lines.append(f"{len(outcome.failures)} failed; what was recorded of them is in {folder}")
    lines += [f"given up: {part}: {why}" for part, why in outcome.given_up.items()]
    if outcome.left or outcome.given_up:
        lines.append(f"{outcome.left} episodes are not done yet: the same command goes on")
    else:
        # A data set of another name has the same schema, which is not found by that name.
        schema = () if Schema.find(stage.name) else ("--schema", stage.usual_name)
        then = typed("convert", out, *schema, "--out", f"{out}.episodes")
    return lines, then


COMMAND = Command(collect, tell)
