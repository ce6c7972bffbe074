"""What an evaluation says, and how two compare: the numbers, and the pages that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from depthtok.errors import ConfigError
from depthtok.intervals import Paired, paired
from depthtok.report.report import Report
from depthtok.sim.evaluation import Evaluation, Outcome, by_task, summary
from depthtok.sim.pictures import Film
from depthtok.sim.suites import MAX_STEPS

SAME = ("suite", "seed", "max_steps", "replan_steps", "size", "versions")
"""What two evaluations must share for their trials to be the same."""


def results(evaluation: Evaluation) -> dict[str, Any]:
    """Success rates with intervals, of the suite and of every task."""
    tasks = evaluation.card["tasks"]
    rows = {number: summary(each) for number, each in by_task(evaluation.outcomes).items()}
    return {
        "suite": evaluation.card["suite"],
        "complete": len(evaluation.outcomes) == len(tasks) * evaluation.card["trials"],
        **summary(evaluation.outcomes),
        "tasks": [{"task": n, "name": tasks[str(n)], **row} for n, row in rows.items()],
    }


def page(evaluation: Evaluation) -> Report:
    """One evaluation: rates, what it was made with, and some of its trials."""
    found, card = results(evaluation), evaluation.card
    extra = sorted({*found["tasks"][0]} - KNOWN) if found["tasks"] else []
    report = Report(f"{measured(card)}: {share(found)}", subtitle=str(card["policy"]))
    report.numbers({k: v for k, v in found.items() if k != "tasks"})
    if not found["complete"]:
        report.text("Not all trials are done: run the same command again.", title="Not complete")
    report.table(
        "Success by task, with 95 % Wilson intervals",
        ["task", "instruction", "successes", "trials", "rate", "from", "to", "steps", *extra],
        [
            [row["task"], row["name"], row["successes"], row["trials"], row["rate"], row["low"],
             row["high"], row["steps"], *(row.get(name) for name in extra)]
            for row in found["tasks"]
        ],
    )  # fmt: skip
    facts = {name: card[name] for name in SHOWN if name in card}
    report.facts("To do it again", {**facts, **card["versions"], **card.get("software", {})})
    if "says" in card:
        report.text("The noise of a policy behind a server is its own: the seed does not reach it.")
    films = [Film.read(path, path.stem) for path in evaluation.videos()]
    if films:
        told = "Camera, true depth"
        told += ", codes of the true depth, codes the policy predicts" if extra else ""
        report.pictures(f"Trials: {told}; a frame for every plan", films, columns=2)
    return report


SHOWN = (
    "policy", "says", "step", "weights", "codebook", "seed", "settle_steps", "replan_steps",
    "max_steps", "size",
)  # fmt: skip
KNOWN = {"task", "name", "trials", "successes", "rate", "low", "high", "steps"}


def measured(card: Mapping[str, Any]) -> str:
    """`libero_goal, tasks 0-3, 8`, and the number of steps where it is not the suite's own."""
    numbers = sorted(int(number) for number in card["tasks"])
    runs = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    pieces = [[number for _, number in run] for _, run in runs]
    tasks = ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in pieces)
    steps, usual = card["max_steps"], MAX_STEPS.get(card["suite"], card["max_steps"])
    limit = "" if steps == usual else f", {steps} steps where {usual} are usual"
    return f"{card['suite']}, task{'s' if len(numbers) > 1 else ''} {tasks}{limit}"


def share(found: Mapping[str, Any]) -> str:
    """`31 of 50 (62 %, 95 % interval 48 to 74 %)`."""
    rate = 100 * (found["rate"] or 0)
    low, high = 100 * found["low"], 100 * found["high"]
    return (
        f"{found['successes']} of {found['trials']} ({rate:.0f} %, "
        f"95 % interval {low:.0f} to {high:.0f} %)"
    )


def compared(a: Evaluation, b: Evaluation) -> dict[str, Any]:
    """Two evaluations trial by trial, over those that both did. Raises `ConfigError` where they
    are not the same trials."""
    for name in SAME:
        if a.card.get(name) != b.card.get(name):
            raise ConfigError(
                f"{name} differs: {a.card.get(name)} in {a.path}, {b.card.get(name)} in {b.path}",
                remedy="evaluate both with the same settings and versions",
            )
    pairs = paired(_won(a.outcomes), _won(b.outcomes))
    if not pairs.trials:
        raise ConfigError(f"{a.path} and {b.path} have no trial in common", remedy="run more")
    by_a, by_b = by_task(a.outcomes), by_task(b.outcomes)
    tasks = {
        task: _counts(paired(_won(by_a[task]), _won(by_b[task]))) for task in by_a if task in by_b
    }
    return {"a": str(a.path), "b": str(b.path), **_counts(pairs), "tasks": tasks}


def _won(outcomes: Sequence[Outcome]) -> dict[str, bool]:
    return {each.name: each.success for each in outcomes}


def _counts(pairs: Paired) -> dict[str, Any]:
    low, high = pairs.interval()
    return {
        "trials": pairs.trials, "successes_a": pairs.both + pairs.only_a,
        "successes_b": pairs.both + pairs.only_b, "only_a": pairs.only_a, "only_b": pairs.only_b,
        "difference": pairs.difference, "low": low, "high": high, "p_value": pairs.p_value(),
    }  # fmt: skip


def comparison_lines(found: Mapping[str, Any]) -> list[str]:
    """A comparison in words."""
    n = found["trials"]
    certain = found["p_value"] < 0.05
    excludes_zero = found["low"] > 0 or found["high"] < 0
    doubt = "" if certain == excludes_zero else "; the test decides: the interval is approximate"
    return [
        f"A {found['a']}: {found['successes_a']} of {n}",
        f"B {found['b']}: {found['successes_b']} of {n}",
        f"B less A: {100 * found['difference']:+.0f} points (95 % interval "
        f"{100 * found['low']:+.0f} to {100 * found['high']:+.0f}); only A succeeded in "
        f"{found['only_a']}, only B in {found['only_b']}",
        f"exact McNemar test: p = {found['p_value']:.3g}; "
        + ("they differ" if certain else "no difference is shown by these trials")
        + doubt,
    ]


def comparison_page(found: Mapping[str, Any]) -> Report:
    """A comparison as a page: all trials together, and task by task."""
    page = Report("Two evaluations", f"A {found['a']}, B {found['b']}")
    page.text(*comparison_lines(found))
    columns = {
        "trials": "trials", "successes_a": "A", "successes_b": "B", "only_a": "only A",
        "only_b": "only B", "difference": "B less A", "low": "from", "high": "to",
        "p_value": "p (McNemar)",
    }  # fmt: skip
    rows = [["all", *(found[name] for name in columns)]]
    rows += [[str(task), *(row[name] for name in columns)] for task, row in found["tasks"].items()]
    title = "Successes in the trials that both did, with 95 % intervals of the difference"
    return page.table(title, ["task", *columns.values()], rows)
