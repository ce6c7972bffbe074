"""What `inspect` says of what was trained, and of how it was evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depthtok.config import flat
from depthtok.format import human_number
from depthtok.stores import codebook
from pipelines.inspect.facts import Summary
from pipelines.train_vla import checks
from vla.training.checkpoint import TrainingState


def of_codebook(path: Path) -> Summary:
    book = codebook.Codebook.load(path)
    facts: dict[str, object] = {
        "codes": f"{book.vectors.shape[0]} of {book.vectors.shape[1]} dimensions",
        "grid": f"{book.grid[0]}x{book.grid[1]} for {book.size[0]}x{book.size[1]} px",
        "fingerprint": book.fingerprint[:16],
        "demo": "yes: it shows the pipeline, do not train policies on it" if book.demo else "no",
    }
    summary = Summary(f"Codebook in {path}", facts)
    if book.quality:
        summary.facts.update(_quality(book.quality))
    return summary


def _quality(quality: Mapping[str, Any]) -> dict[str, object]:
    """The figures of a quality report that decide."""
    from vqvae.quality.gate import shortfalls

    failures = shortfalls(quality)
    held = "held-out" if quality.get("held_out") else "training"
    facts: dict[str, object] = {
        "quality gate": f"missed: {'; '.join(failures)}" if failures else "passed",
        "measured on": f"{quality['frames']:,} frames of {quality['episodes']} {held} episodes",
    }
    for label, table, name in _FIGURES:
        if name in quality.get(table, {}):
            facts[label] = human_number(quality[table][name])
    return facts


_FIGURES = (
    ("L1, share of the range", "disparity", "l1"),
    ("edge F1", "disparity", "edge_f1"),
    ("AbsRel", "metres", "abs_rel"),
    ("depth within 5 %", "metres", "delta_1_05"),
    ("codes used", "codes", "used"),
    ("perplexity", "codes", "perplexity"),
    ("far static codes that flip", "flips", "far"),
)


def of_run(path: Path) -> Summary:
    from vla.config import Config
    from vla.training import checkpoint
    from vla.training.runlog import METRICS
    from vla.training.soundness import read_log, settings

    metrics = read_log(path, METRICS)
    steps = checkpoint.steps(path)
    summary = Summary(f"Training run in {path}")
    summary.facts["checkpoints"] = ", ".join(step.name for step in steps) or "none yet"
    if steps:
        state = checkpoint.read_state(steps[-1])
        summary.facts["data"] = ", ".join(
            f"{name} ({size:,} samples)" for name, _, _, size, *_ in state.data or ()
        )
        summary.facts["codebook"] = state.codebook[:16] or "none"
        summary.facts |= _meanings(state)
        summary.facts["instructions"] = _prompts((state.notes or {}).get("instructions"))
    if metrics:
        last = {name: value for line in metrics for name, value in line.items()}
        rows = [(name, human_number(value)) for name, value in last.items()]
        summary.tables["Newest figures"] = (("figure", "value"), rows)
    usual, used = flat(Config().to_json()), flat(settings(path).to_json())
    changed = [(name, value) for name, value in used.items() if value != usual.get(name)]
    summary.tables["Settings that are not the defaults"] = (("setting", "value"), changed)
    return summary


def _prompts(noted: Mapping[str, Any] | None) -> str:
    """What a run noted of its instructions before it began."""
    from vla.data.prompts import Prompts

    if noted is None:
        return "not known: an older depthtok did not look"
    return Prompts.from_json(noted).line()


def _meanings(state: TrainingState) -> dict[str, object]:
    """What the numbers of a run's data sets mean, and which episodes were held out."""
    facts: dict[str, object] = {}
    for name, meaning in state.meanings.items():
        for side in ("action", "proprio"):
            facts[f"{side} of {name}"] = ", ".join(map(str, getattr(meaning, side))) or "none"
        rate = "rate not known" if meaning.fps is None else f"{meaning.fps:g} Hz"
        facts[f"gripper of {name}"] = f"{meaning.gripper_in_words}; {rate}"
        ways = state.orientations.get(name, {}).items()
        shown = ", ".join(f"{camera} {way}" for camera, way in ways)
        facts[f"orientation of {name}"] = shown or "not known"
    facts = facts or {"meaning": "not known: made before runs kept what their numbers mean"}
    if held := checks.words((state.notes or {}).get("held_out")):
        facts["held out"] = held[0].removeprefix("held out: ")
    return facts


def of_evaluation(path: Path) -> Summary:
    from pipelines.evaluate import verdict
    from pipelines.evaluate.trials import Evaluation

    evaluation = Evaluation.open(path)
    results = verdict.results(evaluation)
    summary = Summary(f"Evaluation in {path}")
    summary.facts |= {
        "policy": evaluation.card["policy"],
        "tasks": verdict.measured(evaluation.card),
        "successes": verdict.share(results),
        "complete": "yes" if results["complete"] else "no: the same command goes on",
    }
    rows = [(row["task"], row["name"], row["successes"], row["trials"]) for row in results["tasks"]]
    summary.tables["By task"] = (("task", "instruction", "successes", "trials"), rows)
    return summary
