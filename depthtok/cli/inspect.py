"""inspect: what data sets, stores, codebooks, runs and evaluations hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depthtok.cli.flags import Json
from depthtok.cli.options import command
from depthtok.log import result, say


def register(app: typer.Typer) -> None:
    """Adds the command of this file."""
    command(app)(inspect)


def inspect(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="data sets, stores, codebooks, runs, evaluations"),
    ],
    draft: Annotated[
        bool, typer.Option("--draft", help="print a schema draft of RLDS data sets, as TOML")
    ] = False,
    json: Json = False,
) -> None:
    """Summarise data sets, stores, codebooks, runs, evaluations.

    An RLDS data set without a schema gets a draft of one; `--draft` prints that alone. For several
    EpisodeStores the statistics of their mixture come last.

    Example: depthtok inspect my_dataset/1.0.0
    """
    from depthtok.stores.episodes import EpisodeStore
    from depthtok.stores.lineage import open_store
    from depthtok.stores.store import is_store
    from pipelines.inspect.summary import inspect as look
    from pipelines.inspect.summary import inspect_mixture, schema_draft

    if draft:
        say(*(schema_draft(path) for path in paths))
        return
    found = [look(path) for path in paths]
    stores = [open_store(path) for path in paths if is_store(path)]
    mixed = [store for store in stores if isinstance(store, EpisodeStore)]
    if len(mixed) > 1:
        found.append(inspect_mixture(mixed))
    if json:
        result([vars(summary) for summary in found] if len(found) > 1 else vars(found[0]))
    else:
        say(*(line for summary in found for line in (*summary.lines(), "")))
