"""collect, eval, compare: demonstrations from a simulator, and policies judged in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.config import RunOptions
from depthtok.format import human_count, human_duration
from depthtok.log import result, say
from depthtok.options import Only, command
from depthtok.signals import stoppable
from pipelines.sim_config import CollectConfig

if TYPE_CHECKING:
    from pipelines.collect import CollectStage
    from pipelines.stage import Outcome

How = Annotated[
    RunOptions,
    Only("workers", "ray_address", "cpus_per_worker", "shard", "limit", "resume", "retry_failed",
         "json"),
]  # fmt: skip
SHOWN_FAILURES = 5


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    command(app)(collect)


def collect(
    out: Annotated[Path, typer.Option("--out", help="directory of the RLDS data set to make")],
    settings: CollectConfig,
    options: How,
) -> None:
    """Record demonstrations with true depth in LIBERO: -> RLDS data set.

    A scripted expert solves pick-and-place tasks from placements drawn by seed, or official
    demonstrations are replayed (--demos). Needs the extra `sim`.

    Example: depthtok collect --suite libero_object --tasks 0,1 --episodes 10 --out runs/demos
    """
    from pipelines.collect import CollectStage
    from pipelines.stage import run

    stage = CollectStage(out, settings)
    with stoppable():
        outcome = run(stage, options)
    say(*_collected(stage, outcome), json=options.json)
    if options.json:
        result(outcome)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _collected(stage: CollectStage, outcome: Outcome) -> list[str]:
    lines = [
        f"{stage.place}: {human_count(outcome.episodes)} successful episodes, "
        f"{human_count(outcome.steps)} steps; {outcome.made} made, {outcome.kept} kept, in "
        f"{human_duration(outcome.seconds)}"
    ]
    lines += [f"failed: {each.key}: {each.reason}" for each in outcome.failures[:SHOWN_FAILURES]]
    if outcome.failures:
        lines.append(f"{len(outcome.failures)} failed episodes are in {stage.place / 'failed'}")
    lines += [f"given up: {part}: {why}" for part, why in outcome.given_up.items()]
    if outcome.left or outcome.given_up:
        lines.append(f"{outcome.left} episodes are not done yet: the same command goes on")
    else:
        lines.append(f"next: depthtok convert {stage.place} --out {stage.place}.episodes")
    return lines
