"""Variants over seeds in one table: means with 95 % intervals, and differences seed by seed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthtok.config import digest
from depthtok.intervals import Estimate
from depthtok.pages.report import Report
from vla.evaluation import compare
from vla.training import checkpoint
from vla.training.runlog import METRICS, VALIDATIONS
from vla.training.soundness import read_log

FIGURES = {  # each taken from the last line that has it; its label
    "val_action_mse": "action error",
    "val_action_within_0.1": "actions within 0.1",
    "val_action_mse_shuffled": "action error, other instruction",
    "val_depth": "depth loss",
    "val_depth_top1": "code accuracy",
    "val_depth_error": "decoded depth error",
    "samples_per_s": "samples/s",
}
OF_CODES = tuple(f"val_{name}" for name in compare.OF_CODES)


@dataclass(frozen=True)
class AblationTable:
    """Figures by variant and seed; the first variant is the baseline for the others."""

    values: Mapping[str, Sequence[Mapping[str, float]]]
    targets: Collection[str] = ()  # what the depth experts predict
    units: Collection[str] = ()  # of the actions' errors: a digest for each kind
    held_out: Collection[str] = ()  # digests of the episodes that validated
    codebooks: Collection[str | None] = ()  # fingerprints of theirs; None: not known

    @property
    def one_truth(self) -> bool:
        """Whether all depth figures are of one target and, as far as is known, one codebook."""
        return len(self.targets) < 2 and len({*self.codebooks} - {None}) < 2

    def figures(self) -> list[str]:
        """The figures that at least one run has and that can be compared."""
        present = {name for runs in self.values.values() for run in runs for name in run}
        foreign = set() if self.one_truth else set(OF_CODES)
        if len(self.units) > 1:
            foreign |= {name for name in FIGURES if name.startswith("val_action")}
        return [name for name in FIGURES if name in present - foreign]

    def told(self) -> list[str]:
        """Notes on how the figures were computed."""
        lines = [
            "Means over the seeds on held-out episodes, ± half a 95 % interval (Student's t). "
            "Few seeds and short runs show little: check the intervals."
        ]
        if len(self.held_out) > 1:
            lines.append(
                "The variants were judged by different held-out episodes, so that their figures "
                "and differences are not of the same data."
            )
        if len(self.units) > 1:
            lines.append(
                "Action errors differ in unit (normalisation, gripper or model.chunk): left out."
            )
        if not self.one_truth:
            several = len(self.targets) > 1
            of = ", ".join(sorted(self.targets)) if several else "different codebooks"
            lines.append(
                f"Depth loss, code accuracy and decoded depth error of {of} are each against "
                "another truth: left out."
            )
        elif None in self.codebooks:
            lines.append(
                "Which codebooks the codes are of was not recorded for all runs: depth figures "
                "compare those of one only."
            )
        return lines

    def estimate(self, variant: str, figure: str) -> Estimate | None:
        """Mean and interval over the seeds; None if the variant does not have this figure."""
        values = [run[figure] for run in self.values[variant] if figure in run]
        return Estimate.of(values) if values else None

    def difference(self, variant: str, figure: str) -> Estimate | None:
        """Difference from the first variant, paired by seed: both used the same samples, noise and
        times."""
        base = next(iter(self.values.values()))
        pairs = zip(self.values[variant], base, strict=True)
        values = [a[figure] - b[figure] for a, b in pairs if figure in a and figure in b]
        return Estimate.of(values) if values else None

    def rows(self) -> Iterator[list[str | None]]:
        """Text cells: one row per variant, one column per figure."""
        for variant in self.values:
            cells = [self.estimate(variant, figure) for figure in self.figures()]
            yield [variant, *(None if cell is None else str(cell) for cell in cells)]

    def words(self) -> list[str]:
        """The table as text."""
        rows = [["", *(FIGURES[name] for name in self.figures())]]
        rows += [[cell or "-" for cell in row] for row in self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
        return [*lines, *self.told()]

    def report(self, title: str) -> Report:
        """The table, the differences, and every run."""
        names, base = self.figures(), next(iter(self.values))
        counts = sorted({len(runs) for runs in self.values.values()})
        page = Report("An ablation", title)
        page.numbers({"variants": len(self.values), "seeds": counts[-1]})
        page.text(*self.told())
        columns = ["variant", *(FIGURES[name] for name in names)]
        page.table("Held-out figures at the last validation", columns, self.rows())
        differences = []
        for variant in list(self.values)[1:]:
            cells = [self.difference(variant, name) for name in names]
            differences.append([variant, *(None if c is None else str(c) for c in cells)])
        if differences:
            page.table(f"Differences from {base}, seed by seed", columns, differences)
        return page

    def to_json(self) -> dict:
        """The figures of every run, the means, and the differences."""
        summary: dict[str, dict[str, object]] = {}
        for variant, runs in self.values.items():
            figures: dict[str, dict[str, list[float | None]]] = {}
            for name in self.figures():
                for kind, estimate in (
                    ("mean", self.estimate(variant, name)),
                    ("difference", self.difference(variant, name)),
                ):
                    if estimate is not None:
                        half = None if math.isnan(estimate.half) else estimate.half
                        figures.setdefault(name, {})[kind] = [estimate.mean, half]
            summary[variant] = {"runs": [dict(run) for run in runs], **figures}
        return summary


@dataclass(frozen=True)
class RunFigures:
    """What a table takes of one run. Small, and kept where the run itself is not."""

    values: Mapping[str, float]
    target: str  # what its depth expert predicts; "": nothing
    unit: str  # of its action errors: a digest
    held_out: str  # digest of the episodes that validated; "": none
    codebook: str | None = None  # fingerprint of that of its targets; None: not known, of old files

    @classmethod
    def of(cls, run: Path) -> RunFigures:
        """The latest figures of a run, and what they can be compared with."""
        newest = checkpoint.find(run)
        config, state = checkpoint.read_config(newest), checkpoint.read_state(newest)
        depth = config.model.depth
        validations = read_log(run, VALIDATIONS)[-1:]
        return cls(
            _figures(run),
            depth.target if depth.supervised else "",
            digest([state.to_json()["norms"], config.model.chunk]),
            digest(sorted(validations[0]["episodes"])) if validations else "",
            state.codebook,
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunFigures:
        """The inverse of `dataclasses.asdict`. Raises `TypeError` or `LookupError`."""
        values = {str(name): float(value) for name, value in content["values"].items()}
        target, unit, held_out = (str(content[name]) for name in ("target", "unit", "held_out"))
        codebook = content.get("codebook")
        return cls(values, target, unit, held_out, None if codebook is None else str(codebook))


def table(runs: Mapping[str, Sequence[RunFigures]]) -> AblationTable:
    """The table of runs by variant; every variant lists its seeds in the same order."""
    every = [run for several in runs.values() for run in several]
    return AblationTable(
        {name: [run.values for run in several] for name, several in runs.items()},
        {run.target for run in every} - {""},
        {run.unit for run in every},
        {run.held_out for run in every} - {""},
        {run.codebook for run in every if run.target},
    )


def _figures(run: Path) -> dict[str, float]:
    """The latest value of every figure in a run's log."""
    lines = read_log(run, METRICS)
    return {name: line[name] for line in lines for name in FIGURES if name in line}
