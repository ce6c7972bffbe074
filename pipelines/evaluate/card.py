"""What the card of an evaluation (eval.json) has to say, and what it says in other words."""

from __future__ import annotations

from collections.abc import Mapping

from depthtok.errors import as_type
from depthtok.json_values import JsonObject, value_of


def require_types(card: JsonObject) -> None:
    """Raises a `TypeError` or `LookupError` for a card that `depthtok eval` does not write."""
    numbers = ("trials", "seed", "max_steps", "replan_steps", "size")
    for kind, names in ((str, ("policy", "suite")), (dict, ("tasks", "versions")), (int, numbers)):
        for name in names:
            as_type(kind, card[name])
    as_type(dict, card.get("software", {}))
    as_type(int, card.get("videos", 0))
    for limit in as_type(dict, card.get("step_limits", {})).values():
        as_type(int, limit)
    for number, instruction in value_of(card, "tasks", dict).items():
        int(number), as_type(str, instruction)


def as_carried_out(card: Mapping[str, object]) -> dict[str, object]:
    """The card with the actions that are carried out of each plan: not more than a plan has, as far
    as that is known. Earlier versions wrote what was asked for."""
    asked, has = card["replan_steps"], _actions_of_a_plan(card)
    return {**card, "replan_steps": min(as_type(int, asked), has)} if has else dict(card)


def _actions_of_a_plan(card: Mapping[str, object]) -> int | None:
    """As the settings of the run say, or `depthtok serve`; None where nobody does."""
    config, says = card.get("config"), card.get("says")
    model = config.get("model") if isinstance(config, Mapping) else None
    if isinstance(model, Mapping):
        count = model.get("chunk")
    else:
        count = says.get("action_horizon") if isinstance(says, Mapping) else None
    return count if type(count) is int and count > 0 else None
