"""convert: by which schema it was done, and which steps that leaves out, for its outcome."""

from __future__ import annotations

from dataclasses import replace

from depthtok.sources.keep import Keep
from depthtok.sources.schema import Schema
from pipelines.convert.description import DRAFTED
from pipelines.convert.opening import Converting
from pipelines.stage import Outcome


def with_schema(outcome: Outcome, stage: Converting) -> Outcome:
    """The outcome of a conversion, with its schema and the steps that this leaves out."""
    schema = stage.schema
    return replace(
        outcome,
        schema=name_of(schema, stage.config.schema),
        steps_rule=schema.keep_rule.words,
        steps_left_out=left_out(outcome, schema.keep_rule, stage.dropped),
    )


def name_of(schema: Schema, requested: str | None) -> str:
    """A shipped schema and its status; the file that was given; a draft."""
    if requested and requested.endswith(".toml"):
        return requested
    if schema.name == DRAFTED:
        return "draft (of the data's features: nobody has checked it)"
    if schema.name in Schema.names():
        return f"{schema.name} ({schema.status})"
    return schema.name


def left_out(outcome: Outcome, keep: Keep, dropped: dict[str, int]) -> int | None:
    """How many steps of the episodes in the store were left out; None where that is not known:
    stores do not record it, and it depends on the first step. `dropped`: by part, of those that
    were made in this process."""
    if not outcome.kept and len(dropped) == outcome.made:
        return sum(dropped.values())
    if keep.by_motion:
        return None
    return outcome.episodes * (keep.drop_first + keep.drop_last)
