"""demo: its steps, and what was made, in words."""

from __future__ import annotations

from pathlib import Path

from depthtok.api.demo import Demo, demo
from depthtok.cli.options import Command
from depthtok.cli.run import tell_step
from depthtok.log import say, suggest, typed

MADE = {
    "sample/episodes": "actions, states, instructions, and where each image lies",
    "sample/depth": "depth in metres for every frame of both cameras",
    "sample/estimated-depth": "depth from RGB, by a tiny demo network (for real data: vits)",
    "sample/audit": "how far that is from the ground truth: open its report.html",
    "codebook": "256 depth codes, trained to show it (the codes below use the shipped ones)",
    "sample/codes": "a 16x16 grid of codes for every frame",
    "policy": "a tiny QDepth-VLA, its log and checkpoints",
}


def tell(shown: Demo, out: Path) -> int:
    """Where everything lies, and the page to look at."""
    if shown.run.exit_code:
        say("", *shown.run.failed)
    if shown.audit is not None and shown.audit.weak and not shown.audit.wrong:
        say("so weak is a tiny network: `depthtok audit-depth` would end with exit code 1")
    if shown.page is not None:
        width = max(map(len, MADE)) + len(str(out)) + 1
        lines = [f"  {out / name!s:<{width}}  {words}" for name, words in MADE.items()]
        page = f"look:  open {shown.page} in a browser"
        say("", "What was made:", *lines, *shown.failed, page)
        suggest(typed("inspect", "YOUR_DATA_SET"))
    return shown.exit_code


COMMAND = Command(demo, tell, hear=tell_step)
