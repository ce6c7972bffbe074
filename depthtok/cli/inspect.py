"""inspect: what data sets, stores, codebooks, runs and evaluations hold."""

from __future__ import annotations

from depthtok.api.inspect import Inspection, inspect
from depthtok.cli.options import Command
from depthtok.log import result, say


def tell(inspection: Inspection, json: bool) -> None:
    """Prints the drafts of schemas, or the summaries."""
    summaries = [vars(summary) for summary in inspection.summaries]
    if inspection.drafts:
        say(*inspection.drafts)
    elif json:
        result(summaries if len(summaries) > 1 else summaries[0])
    else:
        say(*(line for summary in inspection.summaries for line in (*summary.lines(), "")))


COMMAND = Command(inspect, tell)
