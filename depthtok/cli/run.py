"""run: the steps of a whole run, in words."""

from __future__ import annotations

from typing import Any

from depthtok.api.run import Done, RunPlan, Step, WholeRun, run
from depthtok.cli import annotate, audit_depth, convert, tokenize, train_vla, train_vqvae
from depthtok.cli.options import Command
from depthtok.log import say, suggest, title, typed, unsuggesting

STEPS = {
    module.COMMAND.name: module.COMMAND
    for module in (annotate, audit_depth, convert, tokenize, train_vla, train_vqvae)
}


def tell(whole: WholeRun | RunPlan) -> int:
    """What is not whole; of a plan, what is not known yet."""
    if isinstance(whole, RunPlan):
        for name, path in whole.waiting.items():
            say(f"{name}: planned once {path} is whole")
        return 0
    if whole.exit_code:
        say("", *whole.failed)
    if (whole.out / "policy").is_dir():
        suggest(typed("report", whole.out / "policy"))
    return whole.exit_code


def tell_step(event: Any) -> int:
    """The title of a step that begins, and what its command says of one that ended."""
    if isinstance(event, Step):
        if event.title:
            title(f"[{event.number}] {event.title}")
    elif isinstance(event, Done):
        command = STEPS[event.step.command]
        with unsuggesting():
            command.say(command.tell, event.result, event.step.arguments, json=False)
    return 0


COMMAND = Command(run, tell, hear=tell_step)
