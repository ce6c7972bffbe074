"""doctor: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from depthtok.cli.flags import Json
from depthtok.cli.options import command
from depthtok.log import result, say

if TYPE_CHECKING:
    from depthtok.installation import Row


def register(app: typer.Typer) -> None:
    """Adds the command of this file."""
    command(app)(doctor)


def _estimators() -> list[Row]:
    """Every depth estimator: kind, licence, and where its weights are."""
    from depthtok.installation import Row, State, hub_cache
    from pipelines.depth.vida.config import CONFIGS
    from pipelines.depth.vida.published import PUBLISHED, licence_of, shipped_or_cached

    rows = [Row("Estimators", "dataset", State.OK, "metres; the depth that a data set carries")]
    cache = hub_cache(os.environ)
    for name, config in CONFIGS.items():
        path = shipped_or_cached(name, cache)
        kind = "metres" if config.metric else "disparity"
        licence = f"{licence_of(name)}; " if path or name in PUBLISHED else ""
        get = "downloaded at first use, or --weights FILE"
        if name not in PUBLISHED:
            get = (
                f"not published; train it: depthtok finetune-vida --estimator {name} --from-scratch"
            )
        state, remedy = (State.OK, "") if path else (State.OPTIONAL, get)
        detail = f"{kind}; {licence}{path or 'no weights here'}"
        rows.append(Row("Estimators", name, state, detail, remedy))
    return rows


def doctor(json: Json = False) -> None:
    """Show what is installed, what is missing, and how to get it."""
    from depthtok.installation import examine, render, verdict

    rows = [*examine(), *_estimators()]
    good, _ = verdict(rows)
    if json:
        result({"good": good, "rows": [vars(row) for row in rows]})
    else:
        say(render(rows))
    if not good:
        raise typer.Exit(1)
