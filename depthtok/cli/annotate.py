"""annotate: what it made, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.api.annotate import annotate
from depthtok.api.stage_runs import episodes_beside
from depthtok.cli.next_step import after_codes, partial
from depthtok.cli.options import Command
from depthtok.cli.stage_results import tell_stage
from depthtok.log import say, typed

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.stage import Outcome


def tell(
    outcome: Outcome | Plan, source: Path, out: Path, then_tokenize: Path | None, *, json: bool
) -> int:
    """Depth, or codes, or the plan of the conversion before them."""

    def then() -> str:
        from depthtok.stores.spec import is_store

        if then_tokenize is None:
            codebook = out.parent / "codebook"
            return typed("train-vqvae", out, "--out", codebook, *partial(out))
        return after_codes(source if is_store(source) else episodes_beside(out), out)

    code = tell_stage(outcome, then, json=json)
    if str(outcome.out) != str(out):  # the plan of the conversion
        say(
            "the depth can be planned once these episodes are there. Without --plan this command "
            "makes them first: stop it (Ctrl-C) when it goes on to the depth, and plan again",
            json=json,
        )
    return code


def tell_conversion(outcome: Outcome, *, json: bool) -> int:
    """The conversion that came first; the result of the command is what follows."""
    return tell_stage(outcome, json=json, last=False)


COMMAND = Command(annotate, tell, hear=tell_conversion)
