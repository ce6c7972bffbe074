"""The goals of a LIBERO task, and whether the scripted expert can do it. Read from the task's
definition, without a simulator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from depthtok.errors import ConfigError
from pipelines.sim.simulator import Task
from pipelines.sim.suites import definition


@dataclass(frozen=True)
class Goal:
    """`object` must end up on or in `target`: an object, a fixture, or a region of one."""

    object: str
    target: str


def goals(task: Task) -> list[Goal]:
    """Which object to put where. Raises `ConfigError` if the task needs anything else."""
    from libero.libero.envs.bddl_utils import robosuite_parse_problem

    problem = robosuite_parse_problem(str(definition(task)))
    movable = {name for names in problem["objects"].values() for name in names}
    required = []
    for relation, *names in problem["goal_state"]:
        puts = relation in ("on", "in") and names[0] in movable
        if not puts or (relation == "in" and _is_shut(problem, names[1])):
            raise ConfigError(
                f"{task} ({task.name}) needs more than pick-and-place, which the scripted expert "
                "cannot do",
                remedy="choose other tasks, or replay demonstrations of this one (--demos)",
            )
        required.append(Goal(*names))
    return required


def sort_out(tasks: Iterable[Task]) -> tuple[list[Task], list[Task]]:
    """The tasks that the expert can do, and the others."""
    can, cannot = [], []
    for task in tasks:
        try:
            goals(task)
            can.append(task)
        except ConfigError:
            cannot.append(task)
    return can, cannot


def _is_shut(problem: Mapping[str, Any], target: str) -> bool:
    """Whether a target is inside a closed drawer or the like."""
    from libero.libero.envs.objects import get_object_fn
    from libero.libero.envs.objects.articulated_objects import ArticulatedObject

    owner = problem["regions"].get(target, {}).get("target", target)
    kinds = [kind for kind, names in problem["fixtures"].items() if owner in names]
    opens = any(issubclass(get_object_fn(kind), ArticulatedObject) for kind in kinds)
    return opens and not any(["open", it] in problem["initial_state"] for it in (target, owner))
