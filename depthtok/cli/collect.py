"""collect: demonstrations from a simulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.old_options import Only, command
from depthtok.cli.stages import SHOWN_FAILURES
from depthtok.config import RunOptions
from depthtok.format import human_count, human_duration
from depthtok.log import result, say, typed, warn
from depthtok.signals import stoppable
from pipelines.sim.config import CollectConfig

if TYPE_CHECKING:
    from pipelines.collect import CollectStage
    from pipelines.stage import Outcome

How = Annotated[
    RunOptions,
    Only("workers", "ray_address", "cpus_per_worker", "shard", "limit", "resume", "retry_failed",
         "json", limit="stop after the shards with this many episodes",
         resume="keep finished shards"),
]  # fmt: skip
SCHEMA = "libero_sim_depth"  # of what collect makes


def register(app: typer.Typer) -> None:
    """Adds the command of this file."""
    command(app)(collect)


def collect(
    out: Annotated[Path, typer.Option("--out", help="directory of the RLDS data set")],
    settings: CollectConfig,
    options: How,
) -> None:
    """Record LIBERO demonstrations with ground-truth depth.

    A scripted expert solves pick-and-place tasks from seeded placements, or official demonstrations
    are replayed (--demos). Writes an RLDS data set. Needs the extra `sim`.

    Example: depthtok collect --suite libero_object --tasks 0,1 --episodes 10 --out runs/demos
    """
    from pipelines.collect import CollectStage
    from pipelines.run import run
    from pipelines.sim.setup import graphics

    graphics()  # refused here, and not by every episode
    stage = CollectStage(out, settings)
    if stage.left_out:
        warn(f"left out, as the scripted expert only puts things somewhere: tasks {stage.left_out}")
    with stoppable():
        outcome = run(stage, options)
    say(*_collected(stage, outcome), json=options.json)
    if options.json:
        result(outcome)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _collected(stage: CollectStage, outcome: Outcome) -> list[str]:
    from depthtok.sources.schema import Schema

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
        # A data set of another name has the same schema, which is not found by that name.
        told = () if Schema.find(stage.config.name) else ("--schema", SCHEMA)
        lines.append(
            f"next: {typed('convert', stage.place, *told, '--out', f'{stage.place}.episodes')}"
        )
    return lines
