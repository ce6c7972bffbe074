"""ablate: named variants over seeds, trained or resumed, and one table."""

from __future__ import annotations

from depthtok.api.ablate import Ablation, ablate
from depthtok.api.train_vla import TrainedPolicy
from depthtok.cli import train_vla
from depthtok.cli.options import Command
from depthtok.log import result, say


def hear(event: str | TrainedPolicy, json: bool) -> None:
    """Prints which training begins, and what the last one learnt."""
    say(*(["", event] if isinstance(event, str) else train_vla.lines_of(event)), json=json)


def tell(ablation: Ablation, json: bool) -> None:
    """Prints the table, and where the page is."""
    page = f"{ablation.page}: open it in a browser"
    say("", *ablation.table.words(), page, json=json)
    if json:
        result(ablation.table.to_json())


COMMAND = Command(ablate, tell, hear=hear)
