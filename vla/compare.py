"""Two trainings side by side, over the held-out episodes that judged both.

The test is paired by episode, the unit that is independent: the samples of one episode are not.
It tells these two sets of weights apart. What another seed would have given it cannot know: that
takes several trainings (`depthtok ablate`).
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
from depthtok.files import read_json_lines
from depthtok.intervals import Estimate
from depthtok.report.plots import Line
from depthtok.report.report import Report, plain
from vla import checkpoint
from vla.runlog import JUDGED

FIGURES = {  # name: what it is, and whether more of it is better
    "action_mse": ("action error (MSE, normalised)", False),
    "action_within_0.1": ("actions within 0.1", True),
    "action_mse_shuffled": ("action error, other instruction", False),
    "depth": ("depth loss", False),
    "depth_top1": ("codes right", True),
    "depth_error": ("decoded depth error", False),
}
OF_CODES = ("depth", "depth_top1")  # mean nothing across codebooks and targets
CERTAIN = 0.05
EXACT = 14  # episodes up to which all signs are tried
DRAWS = 100_000
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Judged:
    """A training, and its figures by step and held-out episode."""

    run: Path
    settings: Mapping[str, object]
    state: checkpoint.State
    steps: Mapping[int, Mapping[str, Figures]]

    @classmethod
    def open(cls, run: Path) -> Judged:
        """Raises `SourceError` where no held-out episodes judged the run."""
        lines = read_json_lines(run / JUDGED) if (run / JUDGED).is_file() else []
        if not lines:
            raise SourceError(
                f"{run} keeps no figures of held-out episodes ({JUDGED})",
                remedy="train it with --held-out above 0 and --validate-every, with this version "
                "or a later one",
            )
        place = checkpoint.find(run)
        settings = flat(checkpoint.read_config(place).to_json())
        found = {line["step"]: line["episodes"] for line in lines}
        return cls(run, settings, checkpoint.read_state(place), found)

    def values(self, step: int, figure: str) -> Float64[np.ndarray, " E"]:
        """A figure of every episode in their order; NaN where one has none."""
        episodes = self.steps[step]
        return np.array([episodes[key].get(figure, np.nan) for key in sorted(episodes)])


@dataclass(frozen=True)
class Difference:
    """One figure of both, over episodes that count alike, and what it says."""

    figure: str
    a: float
    b: float
    change: Estimate  # B less A, episode by episode
    p_value: float

    @classmethod
    def of(
        cls, figure: str, a: Float64[np.ndarray, " E"], b: Float64[np.ndarray, " E"]
    ) -> Difference:
        """Over the episodes that have the figure in both, of which there must be some."""
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
        """Which is better, if that is shown."""
        if self.p_value >= CERTAIN:
            return "no difference shown"
        return "B is better" if (self.b > self.a) == FIGURES[self.figure][1] else "A is better"

    def to_json(self) -> dict[str, Any]:
        """Plain values; the interval is None for a single episode."""
        half = self.change.half
        return plain({
            "a": self.a, "b": self.b, "difference": self.change.mean,
            "low": self.change.mean - half, "high": self.change.mean + half,
            "p_value": self.p_value, "episodes": self.change.count, "verdict": self.verdict,
        })  # fmt: skip


def sign_flip(differences: Float64[np.ndarray, " E"]) -> float:
    """Two-sided paired permutation test: how often random signs give a sum at least this far from
    0. Exact for few pairs, else from `DRAWS` fixed draws. n pairs cannot give less than 2 / 2^n."""
    count = len(differences)
    if count <= EXACT:
        signs = np.array(list(product((-1, 1), repeat=count)))
    else:
        draws = np.random.default_rng(0).integers(0, 2, (DRAWS, count), np.int8) * 2 - 1
        signs = np.concatenate([np.ones((1, count), np.int8), draws])  # what was seen is one
    sums, seen = np.abs(signs @ differences), abs(differences.sum())
    return float(np.mean(sums >= seen * (1 - 1e-9)))


@dataclass(frozen=True)
class Comparison:
    """Two trainings judged on the same samples of the same episodes."""

    a: Judged
    b: Judged
    steps: Sequence[int]  # at which both were judged

    @classmethod
    def of(cls, a: Judged, b: Judged) -> Comparison:
        """Raises `ConfigError` where the two were not judged alike."""
        steps = sorted(a.steps.keys() & b.steps.keys())
        if not steps:
            raise ConfigError(
                f"{a.run} and {b.run} were never judged at the same step",
                remedy="train both with the same --validate-every",
            )
        _require_alike(a, b, steps[-1])
        return cls(a, b, steps)

    @property
    def last(self) -> int:
        """The step that is judged."""
        return self.steps[-1]

    @property
    def one_target(self) -> bool:
        """Whether what their depth experts predict is the same, where both predict something."""
        predicted = {
            (run.state.codebook, run.settings["model.depth.target"])
            for run in (self.a, self.b)
            if run.state.codebook
        }
        return len(predicted) < 2

    def figures(self) -> list[str]:
        """What both have, in one unit."""
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

    def curve(self, run: Judged, figure: str) -> Line:
        """A figure over the common steps."""
        return list(self.steps), [float(np.nanmean(run.values(s, figure))) for s in self.steps]

    def settings(self) -> list[tuple[str, object, object]]:
        """What the two were told differently."""
        a, b = self.a.settings, self.b.settings
        return [(n, a.get(n), b.get(n)) for n in sorted({*a, *b}) if a.get(n) != b.get(n)]

    def told(self) -> list[str]:
        """What the figures are of, and how far they reach."""
        episodes = self.a.steps[self.last]
        count, samples = len(episodes), sum(each["samples"] for each in episodes.values())
        exact = "exact " if count <= EXACT else ""
        lines = [
            f"After {self.last} updates, on {count} held-out episodes ({samples} samples), each "
            "episode counting alike.",
            f"p: {exact}sign-flip test over episodes; {count} of them cannot give less than "
            f"{2 / 2**count:.2g}. The figures are tested one by one, without correction.",
            "One training each: what another seed would give is not tested (depthtok ablate).",
        ]
        foreign = (
            "Their depth experts predict different things, or codes of different codebooks: losses "
            "and hits are left out."
        )
        return lines if self.one_target else [*lines, foreign]

    def words(self) -> list[str]:
        """The comparison as text."""
        rows = [[f"  {name}", *cells] for name, *cells in self._rows()]
        rows = [["  ", "A", "B", "B less A", "p", ""], *rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        table = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
        changes = "; ".join(f"{name} {a} and {b}" for name, a, b in self.settings())
        return [
            f"A {self.a.run}", f"B {self.b.run}", f"settings that differ: {changes or 'none'}",
            *map(str.rstrip, table), *self.told(),
        ]  # fmt: skip

    def _rows(self) -> Iterator[list[str]]:
        for each in self.differences():
            yield [
                FIGURES[each.figure][0], f"{each.a:.4g}", f"{each.b:.4g}", str(each.change),
                f"{each.p_value:.2g}", each.verdict,
            ]  # fmt: skip

    def report(self) -> Report:
        """Both, with curves."""
        page = Report("Two trainings", f"A {self.a.run}, B {self.b.run}").text(*self.told())
        page.table(
            "At the last common judgement; B less A with half its 95 % interval (Student's t)",
            ["figure", "A", "B", "B less A", "p", ""], self._rows(),
        )  # fmt: skip
        for name in self.figures():
            lines = {"A": self.curve(self.a, name), "B": self.curve(self.b, name)}
            title = FIGURES[name][0]
            page.curves(title[0].upper() + title[1:], lines, "step", "")
        return page.table("Settings that differ", ["setting", "A", "B"], self.settings())

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return plain({
            "a": self.a.run, "b": self.b.run, "step": self.last, "steps": self.steps,
            "figures": {each.figure: each.to_json() for each in self.differences()},
            "settings": {name: [a, b] for name, a, b in self.settings()},
            "episodes": {
                key: {"a": figures, "b": self.b.steps[self.last][key]}
                for key, figures in self.a.steps[self.last].items()
            },
        })  # fmt: skip


def _require_alike(a: Judged, b: Judged, step: int) -> None:
    """The same samples, the same units, the same horizon."""
    counts = [{key: each["samples"] for key, each in run.steps[step].items()} for run in (a, b)]
    if counts[0].keys() != counts[1].keys():
        only = sorted(counts[0].keys() ^ counts[1].keys())
        raise ConfigError(
            f"{a.run} and {b.run} were judged on different held-out episodes ({only[0]} is in one "
            f"of them only; {len(only)} differ)",
            remedy="train both on the same data with the same --held-out",
        )
    if counts[0] != counts[1]:
        raise ConfigError(
            f"{a.run} and {b.run} were judged on different samples of their episodes",
            remedy="train both with the same --batch and --micro-batch, on as many processes",
        )
    if a.state.to_json()["norms"] != b.state.to_json()["norms"]:
        raise ConfigError(
            f"{a.run} and {b.run} normalise actions differently: their errors are in other units",
            remedy="train both on the same data",
        )
    chunks = [run.settings["model.chunk"] for run in (a, b)]
    if chunks[0] != chunks[1]:
        raise ConfigError(
            f"{a.run} predicts {chunks[0]} actions, {b.run} {chunks[1]}: their errors are of "
            "other horizons",
            remedy="train both with the same model.chunk, or compare their evaluations",
        )
