"""finetune-depth: a depth network that learns from true depth."""

from __future__ import annotations

from depthtok.api.finetune_depth import FinetunedDepth, finetune_depth
from depthtok.cli.audit_depth import figures_in_words
from depthtok.cli.options import Command
from depthtok.log import result, say, suggest, typed


def hear(clips: str, json: bool) -> None:
    """Prints which clips it learns from."""
    say(clips, json=json)


def tell(made: FinetunedDepth, estimator: str, json: bool) -> None:
    """Prints the held-out error, and the command that uses the weights."""
    for name, figures in made.card["held_out"]["figures"].items():
        say(f"{name}: {figures_in_words(figures)}", json=json)
    say(f"{made.weights}, and what it is worth in {made.card_path.name}", json=json)
    store = ("annotate", "EPISODES", "--out", "DEPTH")
    suggest(typed(*store, "--estimator", estimator, "--weights", made.weights), json=json)
    if json:
        result(made.card)


COMMAND = Command(finetune_depth, tell, hear=hear, formerly="finetune-vida")
