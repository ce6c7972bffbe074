"""eval: a policy in a simulator, closed loop."""

from __future__ import annotations

from depthtok.api.eval import PolicyEvaluation, evaluate
from depthtok.cli.options import Command
from depthtok.log import result, say, suggest, typed


def tell(evaluation: PolicyEvaluation, json: bool) -> None:
    """Prints success rates, and where to look."""
    say(f"{evaluation.path}: {evaluation.words}", f"look: {evaluation.page}", json=json)
    suggest(typed("compare", evaluation.path, "ANOTHER_EVALUATION"), json=json)
    if json:
        result(evaluation.figures)


COMMAND = Command(evaluate, tell, "eval")
