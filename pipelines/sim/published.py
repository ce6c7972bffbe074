"""LIBERO-Plus's published tasks as variations of LIBERO's: which views, robot starts, noises and
wordings each task is tried with. One published task is one trial, from official state 0."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from importlib.resources import files

from pipelines.sim.perturb import robot_start
from pipelines.sim.simulator import Task
from pipelines.sim.suites import PLUS, suite_named, tasks
from pipelines.sim.variation import Variation, Viewpoint

DATA = "libero_plus.json"  # numbers and wordings; its first lines say whose, and its licence


def variations(task: Task) -> list[Task]:
    """The task as each of its published trials has it, in their order; [] for one of a suite that
    is not LIBERO-Plus's."""
    axis = suite_named(task.suite).variation
    if axis not in PLUS:
        return []
    within = task.number - next(t.number for t in tasks(task.suite) if t.base == task.base)
    entries = _content()[axis][task.base][within]
    return [_varied(task, axis, e if isinstance(e, int) else tuple(e)) for e in entries]


def _varied(task: Task, axis: str, entry: int | tuple[int, str]) -> Task:
    """The task with one entry of its list: a number, of a wording with its text."""
    if isinstance(entry, int):
        variations = {
            "camera": lambda: Variation(view=views()[entry]),
            "robot": lambda: Variation(start=robot_start(entry)),
            "noise": lambda: Variation(noise=entry),
        }
        return replace(task, variation=variations[axis]())
    number, instruction = entry
    return replace(task, variation=Variation(wording=number), instruction=instruction)


@cache
def views() -> list[Viewpoint]:
    """The 450 published views."""
    return [Viewpoint(*map(float, numbers)) for numbers in _content()["views"]]


@cache
def _content() -> dict:
    return json.loads(files(__package__).joinpath(DATA).read_text("utf-8"))
