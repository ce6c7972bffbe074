"""push: what lies on the Hub now, and how it is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from depthtok.api.push import PushPlan, push
from depthtok.cli.options import Command
from depthtok.format import human_bytes
from depthtok.log import result, say, suggest, typed

if TYPE_CHECKING:
    from pipelines.push.sending import Pushed


def tell(done: Pushed | PushPlan, json: bool) -> int:
    """The files and the name; of a plan the card."""
    if isinstance(done, PushPlan):
        shown = [f"{done.url}: {len(done.files)} files and this card", "", done.card]
        say(*shown, json=json)
    else:
        sent = f"{done.files - done.kept} of {done.files} files sent ({human_bytes(done.bytes)})"
        lines = [f"{done.url}: {done.what}, {sent}, {done.kept} were there", f"look: {done.page}"]
        say(*lines, json=json)
        suggest(_next(done), json=json)
    if json:
        result(done)
    return 0


def _next(done: Pushed) -> str:
    """What is done with it on another machine."""
    if done.what == "codebook":
        return typed("tokenize", "DEPTH", "--codebook", done.url, "--out", "CODES")
    if done.what == "codes":
        return typed("train-vla", "--episodes", "EPISODES", "--codes", done.url, "--out", "RUN")
    return typed("serve", done.url)


COMMAND = Command(push, tell)
