"""Results of an evaluation, and comparison of two: the numbers, and the HTML reports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

from depthtok.errors import ConfigError
from depthtok.intervals import Paired, paired
from depthtok.pages.report import Report
from pipelines.evaluate.protocol import choice
from pipelines.evaluate.trials import DEFAULTS, Evaluation, TrialOutcome, by_task, summary
from pipelines.evaluate.words import DEPTH_BAR, in_words, usual_limit, video_of
from pipelines.sim.pictures import Video

SAME = (
    *("suite", "seed", "max_steps", "replan_steps", "size", "versions"),
    *("settle_steps", *DEFAULTS),
)
"""Card entries that must be equal for the trials of two evaluations to be the same."""


PROTOCOL = ("suite", "settle_steps", "replan_steps", *DEFAULTS, "different_states")
"""What moves success rates, and is told with a comparison."""


def results(evaluation: Evaluation) -> dict[str, Any]:
    """Success rates with intervals, for the suite and for every task."""
    tasks = evaluation.card["tasks"]
    rows = {number: summary(trials) for number, trials in by_task(evaluation.outcomes).items()}
    varied = evaluation.card.get("variations")  # a task of a suite may have fewer than are asked
    planned = sum(map(len, varied.values())) if varied else len(tasks) * evaluation.card["trials"]
    figures = {
        "suite": evaluation.card["suite"],
        "complete": len(evaluation.outcomes) == planned,
        **summary(evaluation.outcomes),
        "tasks": [{"task": n, "name": tasks[str(n)], **row} for n, row in rows.items()],
    }
    groups = sorted({outcome.group for outcome in evaluation.outcomes}, key=_by_numbers)
    if varied:
        figures["groups"] = [
            {"group": group, **summary(o for o in evaluation.outcomes if o.group == group)}
            for group in groups
        ]
    return figures


def _by_numbers(text: str) -> list[tuple[int, str]]:
    """Sorts `orbit 0-15 deg` before `orbit 15-30 deg`."""
    return [(int(piece or 0), word) for word, piece in re.findall(r"(\D+)(\d*)", text)]


def page(evaluation: Evaluation) -> Report:
    """The report of one evaluation: rates, settings, versions, and some of its trials."""
    figures, card = results(evaluation), evaluation.card
    extra = sorted({*figures["tasks"][0]} - {*COLUMNS}) if figures["tasks"] else []
    report = Report(f"{measured(card)}: {share(figures)}", subtitle=str(card["policy"]))
    report.related(_run_of(str(card["policy"])))
    report.numbers(_headline(figures))
    if not figures["complete"]:
        report.text("Some trials are missing: run the same command again.", title="Incomplete")
    report.table(
        "Success by task, with 95 % Wilson intervals",
        [
            "task",
            "instruction",
            "successes",
            "trials",
            "rate",
            "from",
            "to",
            "steps",
            *_words(extra),
        ],
        [[row.get(name) for name in (*COLUMNS, *extra)] for row in figures["tasks"]],
    )
    if "groups" in figures:
        report.table(
            "Success by size of the variation, all tasks together",
            ["variation", "successes", "trials", "rate", "from", "to", "steps"],
            [[row[name] for name in ("group", *COLUMNS[2:])] for row in figures["groups"]],
        )
    facts = {**in_words(card, SHOWN), **card["versions"], **card.get("software", {})}
    report.facts("Settings and versions", facts, folded=True)
    if "says" in card:
        report.text("A policy behind a server draws its own noise: the seed does not affect it.")
    films = [video_of(path, card["tasks"]) for path in evaluation.videos()]
    if films:
        panels = "camera, ground-truth depth"
        panels += ", its codes, codes predicted by the policy" if extra else ""
        shown = _that_fit(films)
        report.pictures(
            f"Videos of trials: {panels}; one frame per plan", shown, columns=2, bars=[DEPTH_BAR]
        )
        if len(shown) < len(films):
            folder = evaluation.videos()[0].parent
            report.text(f"{len(films) - len(shown)} more videos are in `{folder}`.")
    return report


def _run_of(policy: str) -> list[Path]:
    """The directory of the run that a policy is of, as its card names it: RUN/checkpoints/STEP, or
    RUN; nothing for one behind a server."""
    path = Path(policy)
    folder = path.parents[1] if path.parent.name == "checkpoints" else path
    return [folder] if folder.is_dir() else []


def _that_fit(films: Sequence[Video]) -> list[Video]:
    """The first videos that a page has room for."""
    ends = accumulate(len(film.data) for film in films)
    return [film for film, end in zip(films, ends, strict=True) if end <= VIDEO_BYTES]


def _words(names: Iterable[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


VIDEO_BYTES = 1_200_000  # of all videos of a page
SHOWN = (
    *("policy", "says", "meaning", "accepted", "step", "weights"),
    *("precision", "sampler", "codebook"),
    *("seed", "settle_steps", "replan_steps", "max_steps", "size"),
    *("chosen_by", "action_noise", "views", "starts", "different_states"),
)
COLUMNS = ("task", "name", "successes", "trials", "rate", "low", "high", "steps")
"""The figures of a task that are always there."""


def _headline(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of all trials together, under names for people."""
    headline = {
        "successes": figures["successes"],
        "trials": figures["trials"],
        "success rate": figures["rate"],
        "95 % interval": f"{figures['low']:.2f} to {figures['high']:.2f}",
        "steps of a success (mean)": figures["steps"],
        "complete": figures["complete"],
        "code agreement with ground truth": figures.get("code_agreement"),
        "disparity error of its codes": figures.get("disparity_error"),
    }
    return {name: value for name, value in headline.items() if value is not None}


def measured(card: Mapping[str, Any]) -> str:
    """`libero_goal, tasks 0-3, 8`, and the step limit if it is not the usual one."""
    numbers = sorted(int(number) for number in card["tasks"])
    runs = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    pieces = [[number for _, number in run] for _, run in runs]
    tasks = ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in pieces)
    usual, steps = usual_limit(card), card["max_steps"]
    as_usual = usual is None or steps in (0, usual)
    limit = "" if as_usual else f", at most {steps} steps instead of {usual}"
    return f"{card['suite']}, task{'s' if len(numbers) > 1 else ''} {tasks}{limit}"


def share(figures: Mapping[str, Any]) -> str:
    """Successes in words: `31 of 50 (62 %, 95 % interval 48 to 74 %)`."""
    rate = 100 * (figures["rate"] or 0)
    low, high = 100 * figures["low"], 100 * figures["high"]
    return (
        f"{figures['successes']} of {figures['trials']} ({rate:.0f} %, "
        f"95 % interval {low:.0f} to {high:.0f} %)"
    )


def compared(a: Evaluation, b: Evaluation) -> dict[str, Any]:
    """Two evaluations compared over the trials in both. Raises `ConfigError` if the trials are not
    the same."""
    for name in SAME:
        one, other = (e.card.get(name, DEFAULTS.get(name)) for e in (a, b))
        if one != other:
            raise ConfigError(
                f"{name} differs: {one} in {a.path}, {other} in {b.path}",
                remedy="evaluate both with the same settings and versions",
            )
    pairs = paired(_won(a.outcomes), _won(b.outcomes))
    if not pairs.trials:
        raise ConfigError(f"{a.path} and {b.path} have no trial in common", remedy="run more")
    by_a, by_b = by_task(a.outcomes), by_task(b.outcomes)
    tasks = {
        task: _counts(paired(_won(by_a[task]), _won(by_b[task]))) for task in by_a if task in by_b
    }
    protocol = {name: a.card.get(name, DEFAULTS.get(name)) for name in PROTOCOL}
    chosen = {"a": choice(a.card), "b": choice(b.card)}
    about = {"a": str(a.path), "b": str(b.path), "protocol": protocol, "checkpoints": chosen}
    return {**about, **_counts(pairs), "tasks": tasks}


def _won(outcomes: Sequence[TrialOutcome]) -> dict[str, bool]:
    return {outcome.name: outcome.success for outcome in outcomes}


def _counts(pairs: Paired) -> dict[str, Any]:
    low, high = pairs.interval()
    return {
        "trials": pairs.trials,
        "successes_a": pairs.both + pairs.only_a,
        "successes_b": pairs.both + pairs.only_b,
        "only_a": pairs.only_a,
        "only_b": pairs.only_b,
        "difference": pairs.difference,
        "low": low,
        "high": high,
        "p_value": pairs.p_value(),
    }


def comparison_lines(comparison: Mapping[str, Any]) -> list[str]:
    """A comparison (see `compared`) as text."""
    a, b, n = comparison["successes_a"], comparison["successes_b"], comparison["trials"]
    low, high, p_value = (comparison[name] for name in ("low", "high", "p_value"))
    certain = p_value < 0.05
    excludes_zero = low > 0 or high < 0
    doubt = "" if certain == excludes_zero else "; the test decides: the interval is approximate"
    checkpoints = comparison.get("checkpoints", {"a": "", "b": ""})
    chosen = {name: f" ({words})" if words else "" for name, words in checkpoints.items()}
    return [
        f"A {comparison['a']}{chosen['a']}: {a} of {n}",
        f"B {comparison['b']}{chosen['b']}: {b} of {n}",
        f"B - A: {100 * comparison['difference']:+.0f} points (95 % interval "
        f"{100 * low:+.0f} to {100 * high:+.0f}); only A succeeded in "
        f"{comparison['only_a']}, only B in {comparison['only_b']}",
        f"exact McNemar test: p = {p_value:.3g}; "
        + ("they differ" if certain else "these trials show no difference")
        + doubt,
    ]


def comparison_page(comparison: Mapping[str, Any]) -> Report:
    """A comparison as a report: all trials together, and per task."""
    page = Report("Two evaluations", f"A {comparison['a']}, B {comparison['b']}")
    page.text(*comparison_lines(comparison))
    page.related([Path(comparison["a"]), Path(comparison["b"])])
    page.facts("The protocol of both", in_words(comparison["protocol"], PROTOCOL))
    counts = ("trials", "successes_a", "successes_b", "only_a", "only_b")
    columns = (*counts, "difference", "low", "high", "p_value")
    titles = ["trials", "A", "B", "only A", "only B", "B - A", "from", "to", "p (McNemar)"]
    tasks = {"all": comparison, **comparison["tasks"]}
    rows = [[str(task), *(row[name] for name in columns)] for task, row in tasks.items()]
    title = "Successes in the trials of both, with 95 % intervals of the difference"
    return page.table(title, ["task", *titles], rows)
