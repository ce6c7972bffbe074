"""ablate: named arms over seeds, trained or resumed, played, and what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from depthtok.api.ablate import Ablation, ablate
from depthtok.api.train_vla import TrainedPolicy
from depthtok.cli import train_vla
from depthtok.cli.options import Command
from depthtok.log import result, say

if TYPE_CHECKING:
    from pipelines.ablate.power import PowerPlan


def hear(event: str | TrainedPolicy, json: bool) -> None:
    """Prints which training begins, and what the last one learnt."""
    say(*(["", event] if isinstance(event, str) else train_vla.lines_of(event)), json=json)


def tell(ablation: Ablation | PowerPlan, json: bool) -> int:
    """Prints the tables, and where the page is; or what differences take. 1 if a run failed."""
    if not isinstance(ablation, Ablation):
        say(*ablation.words(), json=json)
        if json:
            result(ablation.to_json())
        return 0
    closed = ablation.closed_loop
    page = f"{ablation.page}: open it in a browser"
    played = ["", *closed.words()] if closed else []
    failed = [f"failed: {title}: {words}" for title, words in ablation.failures.items()]
    say("", *ablation.table.words(), *played, page, *failed, json=json)
    if json:
        loop = {"closed_loop": closed.to_json()} if closed else {}
        result({**ablation.table.to_json(), **loop})
    return 1 if failed else 0


COMMAND = Command(ablate, tell, hear=hear)
