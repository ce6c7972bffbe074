"""Arms in the closed loop: rates, differences with intervals of both levels, and what they do not
show; as text, as JSON, and as forest plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from depthtok.intervals import Estimate
from depthtok.pages.plots import ForestRow
from depthtok.pages.report import Report, plain
from pipelines.ablate.contrast import ROW, Contrast, contrasts
from pipelines.ablate.foretelling import Foretelling, foretellings
from pipelines.ablate.power import Cost, RateSpread
from pipelines.ablate.seed_result import SeedResult
from pipelines.evaluate.trials import DEFAULTS
from pipelines.evaluate.words import WORDS, in_words

POINTS = "difference of success rates, points (right of 0: the first is better)"


@dataclass(frozen=True)
class ClosedLoop:
    """The results of a study's arms that were played; `pairs` are compared, the first one first of
    all."""

    arms: Mapping[str, Sequence[SeedResult]]
    pairs: Sequence[tuple[str, str]]

    @property
    def compared(self) -> list[Contrast]:
        """The differences."""
        won = {arm: {r.seed: r.won for r in results} for arm, results in self.arms.items()}
        return contrasts(won, self.pairs)

    @property
    def foretold(self) -> list[Foretelling]:
        """Whether the error of predicted codes foretells failure, where it is known."""
        return foretellings(self.arms)

    @property
    def spread(self) -> RateSpread | None:
        """How rates differ between the seeds of an arm."""
        return spread(self.arms)

    def told(self) -> list[str]:
        """What the figures are, and what they do not show."""
        compared = self.compared
        lines = [
            "Success rates in the closed loop. Differences: 95 % intervals that contain both "
            "levels, trainings (seeds) and trials; p: paired t test over seeds.",
            *(contrast.limits() for contrast in compared),
        ]
        if len(compared) > 1:
            lines.append(
                f"The primary difference is {compared[0].a} - {compared[0].b}; the others are not "
                "corrected for their number."
            )
        lines += self._of_stores()
        if differing := self._differing():
            lines.append(
                "The files of the seeds do not agree in what was played, or by what: "
                f"{', '.join(differing)}. What they differ in may be a part of the differences."
            )
        if self.spread:
            lines.append(self.spread.words())
        lines += self._of_depth()
        return [*lines, *(one.told() for one in self.foretold)]

    def _of_depth(self) -> list[str]:
        """How well each arm predicts depth in its trials: where codes are no better than a
        control's, success says nothing of correct depth."""
        lines = []
        for arm, results in self.arms.items():
            right = [100 * x for r in results if (x := r.mean_of("code_agreement")) is not None]
            errors = [x for r in results if (x := r.mean_of("disparity_error")) is not None]
            if right and errors:
                lines.append(
                    f"{arm}, depth in its trials: {Estimate.of(right)} % of the predicted codes "
                    f"are right, and decoded they are off by {Estimate.of(errors)} of the range."
                )
        return lines

    def _of_stores(self) -> list[str]:
        """What is to be said of the stores that were learnt from: one line, or none."""
        digests = {arm: {result.data for result in results} for arm, results in self.arms.items()}
        mixed = [arm for arm, found in digests.items() if len(found) > 1]
        if mixed:
            return [
                f"The seeds of {', '.join(mixed)} did not all learn from the same stores, or not "
                "with the same codebook: one was made anew between them, and what they differ in "
                "may be a part of the differences."
            ]
        groups: dict[str, list[str]] = {}
        for arm, found in digests.items():
            for data in found:
                groups.setdefault(data, []).append(arm)
        if len(groups) < 2:
            return []
        arms = "; ".join(", ".join(group) for group in groups.values())
        return [
            f"These arms did not learn from the same stores: {arms}. Where the study does not ask "
            "for that (an arm without depth reads no codes), a store was made anew between them."
        ]

    def _differing(self) -> list[str]:
        """In which words of the protocol, and of the software, the results differ; the protocol of
        a study is one, but its files may come from several machines."""
        played = [result for results in self.arms.values() for result in results if result.trials]
        facts = [{**DEFAULTS, **r.protocol, "version of depthtok": r.version} for r in played]
        names = sorted({name for one in facts for name in one})
        return [
            WORDS.get(name, name)
            for name in names
            if any(one.get(name) != facts[0].get(name) for one in facts)
        ]

    def rows(self) -> list[list[object]]:
        """By arm: seeds, trials a seed, mean rate in % with its interval over seeds, all rates."""
        rows: list[list[object]] = []
        for arm, results in self.arms.items():
            rates = [100 * rate for result in results if (rate := result.rate) is not None]
            if rates:
                trials = sorted({len(result.trials) for result in results})
                by_seed = ", ".join(f"{rate:.0f}" for rate in rates)
                counts = " or ".join(map(str, trials))
                rows.append([arm, len(rates), counts, str(Estimate.of(rates)), by_seed])
        return rows

    def words(self) -> list[str]:
        """Both tables as text, and the notes."""
        tables: list[list[Sequence[object]]] = [
            [["", "seeds", "trials", "success, %", "by seed"], *self.rows()],
            [list(ROW), *(contrast.row() for contrast in self.compared)],
        ]
        lines = []
        for table in tables:
            cells = [[str(cell) for cell in row] for row in table]
            widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
            lines += [
                "  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip()
                for row in cells
            ]
            lines.append("")
        return [*lines, *self.told()]

    def report(self, page: Report) -> Report:
        """Adds forest plots of arms and differences, the tables, and the protocol."""
        compared = self.compared
        page.text(*self.told(), title="What was seen in the closed loop, and what was not testable")
        title = "Differences of success rates, with 95 % intervals over trainings and trials"
        page.forest(title, forest_rows(compared), POINTS)
        for contrast in compared:
            if contrast.seeds > 1:
                a, b = ({r.seed for r in self.arms[arm]} for arm in (contrast.a, contrast.b))
                seeds: list[ForestRow] = [
                    (f"seed {seed}", 100 * value, None, None)
                    for seed, value in zip(sorted(a & b), contrast.by_seed, strict=True)
                ]
                title = f"{contrast.a} - {contrast.b}, seed by seed"
                page.forest(title, [*seeds, *forest_rows([contrast])], POINTS)
        for one in self.foretold:
            title = f"{one.arm}: success by the error of predicted codes in {one.when}"
            page.forest(title, one.rows(), "% of trials won (95 % over trainings)")
        page.table("Differences, in points", ROW, [contrast.row() for contrast in compared])
        page.table("Success rates, %", ["arm", "seeds", "trials", "mean", "by seed"], self.rows())
        page.table("What it cost, CPU-hours", ["arm", "trainings", "trials"], self._costs())
        first = next(result for results in self.arms.values() for result in results)
        return page.facts("The protocol", in_words(first.protocol, first.protocol))

    def _costs(self) -> list[list[object]]:
        """By arm; None where a training was resumed, so that its cost is not known."""
        rows: list[list[object]] = []
        for arm, results in self.arms.items():
            row: list[object] = [arm]
            for part in ("training", "evaluation"):
                seconds = [result.cpu_s.get(part) for result in results]
                measured = [value for value in seconds if value is not None]
                row.append(sum(measured) / 3600 if len(measured) == len(seconds) else None)
            rows.append(row)
        return rows

    def to_json(self) -> dict[str, object]:
        """Rates by arm and seed, and differences."""
        arms = {
            arm: {str(result.seed): result.rate for result in results}
            for arm, results in self.arms.items()
        }
        compared = [contrast.to_json() for contrast in self.compared]
        foretold = [one.to_json() for one in self.foretold]
        notes = {"foretold": foretold, "told": self.told()}
        return plain({"arms": arms, "differences": compared, **notes})


def forest_rows(compared: Sequence[Contrast]) -> list[ForestRow]:
    """Differences in points with their intervals, for a forest plot."""
    rows: list[ForestRow] = []
    for contrast in compared:
        low, high = contrast.interval
        known = contrast.limits_known
        rows.append(
            (
                f"{contrast.a} - {contrast.b}",
                100 * contrast.difference,
                100 * low if known else None,
                100 * high if known else None,
            )
        )
    return rows


def spread(arms: Mapping[str, Sequence[SeedResult]]) -> RateSpread | None:
    """The spread of rates between the seeds of an arm; of the results with the most usual number
    of trials, where they differ."""
    counts = [len(result.trials) for results in arms.values() for result in results]
    counts = [count for count in counts if count]
    if not counts:
        return None
    usual = max(sorted({*counts}), key=counts.count)
    rates = [
        [
            rate
            for result in results
            if len(result.trials) == usual and (rate := result.rate) is not None
        ]
        for results in arms.values()
    ]
    return RateSpread.of(rates, usual)


def cost(arms: Mapping[str, Sequence[SeedResult]]) -> Cost | None:
    """CPU seconds of a training and of a trial, as measured; None where none was."""
    every = [result for results in arms.values() for result in results]
    trainings = [s for result in every if (s := result.cpu_s.get("training")) is not None]
    trials = [
        s / len(result.trials)
        for result in every
        if result.trials and (s := result.cpu_s.get("evaluation")) is not None
    ]
    return Cost(fmean(trainings), fmean(trials)) if trainings and trials else None
