"""finetune-depth: a depth network that learns from true depth."""

from __future__ import annotations

from pathlib import Path

from depthtok.api.finetune_depth import FinetunedDepth, finetune_depth
from depthtok.cli.audit_depth import figures_in_words
from depthtok.cli.next_step import after_finetuning
from depthtok.cli.options import Command
from depthtok.log import result, say, suggest


def hear(clips: str, json: bool) -> None:
    """Prints which clips it learns from."""
    say(clips, json=json)


def tell(
    tuned: FinetunedDepth,
    depth: list[Path],
    estimator: str,
    input_size: int | None,
    pose: str,
    kind: str,
    focal_px: float,
    source_root: Path | None,
    json: bool,
) -> int:
    """Prints the held-out error, and the command that uses the weights. Exit code 1 where a
    held-out clip could not be evaluated."""
    for name, figures in tuned.card["held_out"]["figures"].items():
        say(f"{name}: {figures_in_words(figures)}", json=json)
    failures = tuned.card["held_out"].get("failed", {})
    for clip, reason in failures.items():
        say(f"not evaluated: {clip}: {reason}", json=json)
    say(f"{tuned.weights}, and what it is worth in {tuned.card_path.name}", json=json)
    chosen = {"pose": pose if pose != "on" else "", "kind": kind, "focal_px": focal_px}
    chosen["input_size"] = input_size
    shift = tuned.card["held_out"].get("fitted_shift", 0.0)  # of relative depth alone
    if shift > 0:
        chosen["shift"] = f"{shift:.3g}"
    settings = [f"{name}={value}" for name, value in chosen.items() if value]
    suggest(after_finetuning(depth[0], estimator, settings, tuned.weights, source_root), json=json)
    if json:
        result(tuned.card)
    return 1 if failures else 0


COMMAND = Command(finetune_depth, tell, hear=hear, formerly="finetune-vida")
