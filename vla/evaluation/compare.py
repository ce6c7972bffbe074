"""Two training runs side by side, on the held-out episodes that both were validated on.

The test is paired by episode, because episodes are independent and samples of one episode are not.
It compares these two sets of weights only. Variation between seeds takes several training runs
(`depthtok ablate`).
"""

# E episodes

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from depthtok.config import flat
from depthtok.errors import ConfigError, SourceError
from depthtok.intervals import Estimate
from depthtok.pages.plots import Line
from depthtok.pages.report import Report, plain
from vla.training import checkpoint
from vla.training.runlog import VALIDATIONS
from vla.training.soundness import read_log

FIGURES = {  # name: label, and whether higher is better
    "action_mse": ("action error (MSE, normalised)", False),
    "action_within_0.1": ("actions within 0.1", True),
    "action_mse_shuffled": ("action error, other instruction", False),
    "depth": ("depth loss", False),
    "depth_top1": ("code accuracy", True),
    "depth_error": ("decoded depth error", False),
}
OF_CODES = ("depth", "depth_top1", "depth_error")
"""Not comparable across codebooks and targets: each has a truth of its own, and a codebook that
decodes to nearly one image has the least decoded error."""
CERTAIN = 0.05
EXACT = 14  # up to this many episodes, all sign combinations are enumerated
DRAWS = 100_000
BLOCK = 1_000  # of them at a time
Figures = Mapping[str, float]


@dataclass(frozen=True)
class ValidatedRun:
    """A training run, and its figures by step and held-out episode."""

    run: Path
    settings: Mapping[str, object]
    state: checkpoint.TrainingState
    steps: Mapping[int, Mapping[str, Figures]]

    @classmethod
    def open(cls, run: Path) -> ValidatedRun:
        """The run in a directory. Raises `SourceError` if it was never validated on held-out
        episodes."""
        lines = read_log(run, VALIDATIONS)
        if not lines:
            raise SourceError(
                f"{run} has no figures of held-out episodes ({VALIDATIONS})",
                remedy="train it with --held-out above 0 and run.validate_every, with this version "
                "or a later one",
            )
        path = checkpoint.find(run)
        settings = flat(checkpoint.read_config(path).to_json())
        steps = {line["step"]: line["episodes"] for line in lines}
        return cls(run, settings, checkpoint.read_state(path), steps)

    def values(self, step: int, figure: str) -> Float64[np.ndarray, " E"]:
        """A figure of every episode, sorted by key; NaN where an episode does not have it."""
        episodes = self.steps[step]
        return np.array([episodes[key].get(figure, np.nan) for key in sorted(episodes)])


@dataclass(frozen=True)
class Difference:
    """One figure of both runs, with episodes weighted equally, and the verdict."""

    figure: str
    a: float
    b: float
    change: Estimate  # B - A, paired by episode
    p_value: float

    @classmethod
    def of(
        cls, figure: str, a: Float64[np.ndarray, " E"], b: Float64[np.ndarray, " E"]
    ) -> Difference:
        """The difference over the episodes that have the figure in both runs (at least one)."""
        both = np.isfinite(a) & np.isfinite(b)
        a, b = a[both], b[both]
        return cls(
            figure,
            float(a.mean()),
            float(b.mean()),
            Estimate.of((b - a).tolist()),
            sign_flip(b - a),
        )

    @property
    def verdict(self) -> str:
        """Which is better, if a difference is shown."""
        if self.p_value >= CERTAIN:
            return "no difference shown"
        return "B is better" if (self.b > self.a) == FIGURES[self.figure][1] else "A is better"

    def to_json(self) -> dict[str, Any]:
        """Plain values; the interval is None for a single episode."""
        mean, half, count = self.change.mean, self.change.half, self.change.count
        means = {"a": self.a, "b": self.b, "difference": mean}
        interval = {"low": mean - half, "high": mean + half}
        test = {"p_value": self.p_value, "episodes": count, "verdict": self.verdict}
        return plain({**means, **interval, **test})


def sign_flip(differences: Float64[np.ndarray, " E"]) -> float:
    """p-value of a two-sided paired permutation test: how often random signs give a sum at least
    this far from 0. Exact for few pairs, else from `DRAWS` fixed draws. At least 2 / 2^n for n
    pairs."""
    count = len(differences)
    observed = abs(differences.sum()) * (1 - 1e-9)
    if count <= EXACT:
        signs = np.array(list(product((-1, 1), repeat=count)))
        return float(np.mean(np.abs(signs @ differences) >= observed))
    rng, as_far = np.random.default_rng(0), 1  # the observed signs
    for _ in range(DRAWS // BLOCK):
        signs = rng.integers(0, 2, (BLOCK, count), np.int8) * 2 - 1
        as_far += int(np.count_nonzero(np.abs(signs @ differences) >= observed))
    return as_far / (DRAWS + 1)


@dataclass(frozen=True)
class TrainingComparison:
    """Two training runs validated on the same samples of the same episodes."""

    a: ValidatedRun
    b: ValidatedRun
    steps: Sequence[int]  # at which both were validated

    @classmethod
    def of(cls, a: ValidatedRun, b: ValidatedRun) -> TrainingComparison:
        """Raises `ConfigError` if the two were not validated in the same way."""
        steps = sorted(a.steps.keys() & b.steps.keys())
        if not steps:
            raise ConfigError(
                f"{a.run} and {b.run} were never validated at the same step",
                remedy="train both with the same run.validate_every",
            )
        _require_alike(a, b, steps[-1])
        return cls(a, b, steps)

    @property
    def last(self) -> int:
        """The step that is compared."""
        return self.steps[-1]

    @property
    def one_target(self) -> bool:
        """Whether their depth experts predict the same target, where both have one."""
        predicted = {
            (run.state.codebook, run.settings["model.depth.target"])
            for run in (self.a, self.b)
            if np.isfinite(run.values(self.last, "depth")).any()
        }
        return len(predicted) < 2

    def figures(self) -> list[str]:
        """The figures that both have, in the same unit."""
        return [
            name
            for name in FIGURES
            if (self.one_target or name not in OF_CODES)
            and all(np.isfinite(run.values(self.last, name)).any() for run in (self.a, self.b))
        ]

    def differences(self) -> list[Difference]:
        """Every figure at the last common step."""
        return [
            Difference.of(name, self.a.values(self.last, name), self.b.values(self.last, name))
            for name in self.figures()
        ]

    def curve(self, run: ValidatedRun, figure: str) -> Line:
        """A figure's mean over the episodes, at the common steps."""
        return list(self.steps), [float(np.nanmean(run.values(s, figure))) for s in self.steps]

    def settings(self) -> list[tuple[str, object, object]]:
        """The settings that differ, with both values."""
        a, b = self.a.settings, self.b.settings
        return [(n, a.get(n), b.get(n)) for n in sorted({*a, *b}) if a.get(n) != b.get(n)]

    def told(self) -> list[str]:
        """Notes on how the figures were computed and what they do not show."""
        episodes = self.a.steps[self.last]
        count, samples = len(episodes), sum(figures["samples"] for figures in episodes.values())
        exact = "exact " if count <= EXACT else ""
        phrase = f"{count} held-out episode{'s' if count != 1 else ''}"
        least = "always 1" if count == 1 else f"at least {2 / 2**count:.2g}"
        lines = [
            f"After {self.last} updates, on {phrase} ({samples} samples), each episode weighted "
            "equally.",
            f"p: {exact}sign-flip test over episodes; with {phrase} p is {least}. Each figure is "
            "tested separately, without correction for multiple comparisons.",
            "One training run each: variation between seeds is not tested (depthtok ablate).",
        ]
        foreign = (
            "Their depth experts predict different targets, or codes of different codebooks: depth "
            "loss, code accuracy and decoded depth error are left out."
        )
        return lines if self.one_target else [*lines, foreign]

    def words(self) -> list[str]:
        """The comparison as text."""
        rows = [[f"  {name}", *cells] for name, *cells in self._rows()]
        rows = [["  ", "A", "B", "B - A", "p", ""], *rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        table = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
        changes = "; ".join(f"{name} {a} and {b}" for name, a, b in self.settings())
        head = [f"A {self.a.run}", f"B {self.b.run}", f"settings that differ: {changes or 'none'}"]
        return [*head, *map(str.rstrip, table), *self.told()]

    def _rows(self) -> Iterator[list[str]]:
        for row in self.differences():
            means = f"{row.a:.4g}", f"{row.b:.4g}", str(row.change)
            yield [FIGURES[row.figure][0], *means, f"{row.p_value:.2g}", row.verdict]

    def report(self) -> Report:
        """A page with the comparison and the curves of both runs."""
        page = Report("Two training runs", f"A {self.a.run}, B {self.b.run}").text(*self.told())
        page.related([self.a.run, self.b.run])
        page.table(
            "At the last common validation; B - A, ± half its 95 % interval (Student's t)",
            ["figure", "A", "B", "B - A", "p", "verdict"],
            self._rows(),
        )
        for name in self.figures():
            lines = {"A": self.curve(self.a, name), "B": self.curve(self.b, name)}
            title = FIGURES[name][0]
            page.curves(title[0].upper() + title[1:], lines, "updates", title)
        if changes := self.settings():
            return page.table("Settings that differ", ["setting", "A", "B"], changes)
        return page.text("None.", title="Settings that differ")

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values."""
        runs = {"a": self.a.run, "b": self.b.run, "step": self.last, "steps": self.steps}
        values = {
            "figures": {row.figure: row.to_json() for row in self.differences()},
            "settings": {name: [a, b] for name, a, b in self.settings()},
            "episodes": {
                key: {"a": figures, "b": self.b.steps[self.last][key]}
                for key, figures in self.a.steps[self.last].items()
            },
        }
        return plain({**runs, **values})


def _require_alike(a: ValidatedRun, b: ValidatedRun, step: int) -> None:
    """Raises `ConfigError` unless samples, units and horizon are the same."""
    counts = [
        {key: figures["samples"] for key, figures in run.steps[step].items()} for run in (a, b)
    ]
    if counts[0].keys() != counts[1].keys():
        only = sorted(counts[0].keys() ^ counts[1].keys())
        raise ConfigError(
            f"{a.run} and {b.run} were validated on different held-out episodes ({only[0]} is in "
            f"only one of them; {len(only)} differ)",
            remedy="train both on the same data with the same --held-out",
        )
    if counts[0] != counts[1]:
        raise ConfigError(
            f"{a.run} and {b.run} were validated on different samples of the same episodes",
            remedy="train both with the same --batch, run.micro_batch and number of processes",
        )
    if a.state.to_json()["norms"] != b.state.to_json()["norms"]:
        raise ConfigError(
            f"{a.run} and {b.run} normalise actions differently: their errors have different units",
            remedy="train both on the same data with the same data.action_norm, data.proprio_norm "
            "and data.gripper, or compare their evaluations",
        )
    chunks = [run.settings["model.chunk"] for run in (a, b)]
    if chunks[0] != chunks[1]:
        raise ConfigError(
            f"{a.run} predicts {chunks[0]} actions, {b.run} {chunks[1]}: their errors "
            "cover different horizons",
            remedy="train both with the same model.chunk, or compare their evaluations",
        )
