"""What the card of an evaluation, and its videos, are called on pages: no name of a file's keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from depthtok.errors import as_type
from depthtok.pages.scale import ColourBar
from pipelines.sim.benchmark import step_limit
from pipelines.sim.pictures import Video

WORDS = {
    "says": "what the server says of its policy",
    "meaning": "what its actions mean",
    "accepted": "differences that were accepted",
    "step": "updates of the checkpoint",
    "settle_steps": "idle actions before a trial",
    "replan_steps": "actions carried out of each plan",
    "max_steps": "most steps of a trial",
    "size": "side of the camera images, px",
    "chosen_by": "how the checkpoint was chosen",
    "action_noise": "noise on the xyz action (standard deviation; 1 is a full action)",
    "views": "changed camera views",
    "starts": "changed starts",
    "different_states": "different initial states of each task",
}
DEPTH_BAR = ColourBar(
    "Ground-truth depth in the videos, one scale a trial; red is near",
    [(0.0, "farthest"), (1.0, "nearest")],
)
_TRIAL = re.compile(r"task-(?P<task>\d+)-trial-(?P<trial>\d+)-(?P<end>\w+)")


def usual_limit(card: Mapping[str, object]) -> int | str | None:
    """The most steps of a trial where none are asked for: of the suite, or `220 to 520, by task` of
    one whose tasks differ in that (older cards do not say in what); None where it is not known."""
    limits = card.get("step_limits")
    if isinstance(limits, Mapping) and limits:
        numbers = [as_type(int, steps) for steps in limits.values()]
        low, high = min(numbers), max(numbers)
        return low if low == high else f"{low} to {high}, by task"
    limit = step_limit(str(card["suite"]))
    return "as many as its task allows" if limit == 0 else limit


def in_words(card: Mapping[str, object], names: Iterable[str]) -> dict[str, object]:
    """Entries of a card under names for people; what is empty is `none`."""
    entries = {name: card[name] for name in names if name in card}
    if entries.get("max_steps") == 0:
        entries["max_steps"] = usual_limit(card)
    return {
        WORDS.get(name, name.replace("_", " ")): "none" if value in ("", {}, []) else value
        for name, value in entries.items()
    }


def video_of(path: Path, instructions: Mapping[str, str]) -> Video:
    """The video of a trial, under its task, number and end, with its task's instruction."""
    match = _TRIAL.fullmatch(path.stem)
    if match is None:
        return Video.read(path, path.stem)
    task, trial = str(int(match["task"])), int(match["trial"])
    caption = f"task {task}, trial {trial}: {match['end']}"
    return Video.read(path, caption, instructions.get(task, ""))
