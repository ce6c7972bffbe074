"""view: what was shown, and what could not be."""

from __future__ import annotations

from depthtok.api.view import ViewedEpisodes, ViewPlan, view
from depthtok.cli.options import Command
from depthtok.format import human_bytes
from depthtok.log import say, warn


def tell(shown: ViewedEpisodes | ViewPlan) -> int:
    """Prints how much was shown, or would be; exit code 1 if episodes could not be read."""
    amount = f"{shown.episodes} of {shown.of} episodes, {shown.frames} frames"
    others = [] if shown.episodes == shown.of else ["--episodes NUMBERS shows others"]
    if isinstance(shown, ViewPlan):
        say(f"{amount}: {human_bytes(shown.size)} before rerun packs them", *others)
        return 0
    for note in shown.notes:
        warn(note)
    say(f"{amount}; of each camera: rgb, {', '.join(shown.pictures)}", *others)
    if shown.path is not None:
        say(f"{shown.path}: `rerun {shown.path}` opens it")
    return 1 if shown.failed else 0


COMMAND = Command(view, tell)
