"""inspect: what data sets, stores, codebooks, runs and evaluations hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.api.inspect import Inspection, inspect
from depthtok.cli.options import Command
from depthtok.log import result, say, suggest, typed

if TYPE_CHECKING:
    from pipelines.inspect.facts import Summary


def tell(inspection: Inspection, paths: list[Path], json: bool) -> None:
    """Prints the drafts of schemas, or the summaries, and what to type next of one thing alone."""
    summaries = [vars(summary) for summary in inspection.summaries]
    if inspection.drafts:
        say(*inspection.drafts)
    elif json:
        result(summaries if len(summaries) > 1 else summaries[0])
    else:
        say(*(line for summary in inspection.summaries for line in (*summary.lines(), "")))
        if len(paths) == 1 and (then := _next(paths[0], inspection.summaries[0])):
            suggest(then)


def _next(path: Path, summary: Summary) -> str:
    """The command that goes on from there; "" where there is no such one."""
    from pipelines.inspect.kinds import kind_of

    kind = kind_of(path) if path.is_dir() else None
    if kind in ("rlds", "files") and "does not fit" not in str(summary.facts.get("schema")):
        beside = path / "schema.toml"  # as an export has it
        schema = ("--schema", beside) if kind == "files" and beside.is_file() else ()
        return typed("convert", path, *schema, "--out", "EPISODES")
    return typed("report", path) if kind in ("store", "codebook", "run", "evaluation") else ""


COMMAND = Command(inspect, tell)
