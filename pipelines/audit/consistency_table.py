"""Estimators held against themselves: a table, which to take, and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from depthtok.pages.report import Report
from pipelines.audit.bootstrap import Interval, interval
from pipelines.audit.choice import BY_ITSELF, Choice, choose
from pipelines.audit.consistency import FIGURES, ClipConsistency, SelfConsistency

FLAT = 0.98  # share of the variance that a plane explains: depth that has not looked at the image
CAVEAT = (
    "Consistency is no accuracy: it is what an estimator can be held against without true depth. "
    "Estimators that differ much are put into the right order by it; close ones are not. How well "
    "it foretold the order by true depth on simulated scenes is in docs/results.md."
)
EXPLAINED = (
    "Mirror, crop and scale: how far disparity of frames with left and right swapped, of the "
    "middle three quarters of both sides, and of frames 0.7 times as long, is from disparity of "
    "the frames as they are, once the change is undone: sqrt(1 - r^2), r being the correlation, "
    "over the pixels of a clip, of what is left after each one's best plane over the image. 0 is a "
    "perfect agreement up to scale and a plane, 1 is none. The mirror decides: it foretold the "
    "order by true depth best.",
    "Neighbours: the mean change of disparity from one frame to the next where the image does not "
    "change, as a share of the standard deviation of disparity in the clip.",
    "Plane: the share of the variance of disparity that one plane over the image explains. Depth "
    f"above {100 * FLAT:.0f} % has not looked at the image, and is worth nothing.",
    "In brackets are 95 % intervals, by bootstrap over the episodes.",
)


@dataclass(frozen=True)
class Ran:
    """An estimator that was run: its name, the licence of its weights, why it could not be taken
    ("" where it could), its clips, and the settings that it was asked for."""

    name: str
    licence: str
    doubt: str
    result: SelfConsistency
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ConsistencyFigures:
    """One row of the table. Figures are means over clips with intervals; see `ClipConsistency`."""

    name: str
    licence: str
    doubt: str
    figures: Mapping[str, Interval | None]
    weak: Sequence[str]
    frames_per_s: float
    clips: Sequence[ClipConsistency]
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """The name, with what it was asked for."""
        asked = ", ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.name} ({asked})" if asked else self.name

    @property
    def wrong(self) -> Sequence[str]:
        """Nothing: what is wrong shows only against the truth."""
        return ()


@dataclass(frozen=True)
class ConsistencyAudit:
    """Estimators held against themselves, the most consistent first."""

    estimators: Sequence[ConsistencyFigures]
    choice: Choice
    caveat: str
    page: Path

    @property
    def weak(self) -> bool:
        """Whether no estimator looks at the image."""
        return all(row.weak for row in self.estimators)


def consistency_audit(ran: Sequence[Ran], page: Path) -> ConsistencyAudit:
    """The table and the choice."""
    rows = sorted((_row(one) for one in ran), key=lambda row: _mean(row.figures["mirror"]))
    results = {one.name: one.result for one in ran}

    def difference(figure: str, a: str, b: str) -> Interval | None:
        values: dict[str, list[float]] = {}
        for first, second in zip(results[a].clips, results[b].clips, strict=True):
            one, other = getattr(first, figure), getattr(second, figure)
            if one is not None and other is not None:
                values.setdefault(str(first.key), []).append(other - one)
        return interval(values)

    return ConsistencyAudit(rows, choose(rows, difference, BY_ITSELF), CAVEAT, page)


def _mean(figure: Interval | None) -> float:
    return float("inf") if figure is None else figure.mean


def _row(one: Ran) -> ConsistencyFigures:
    figures = one.result.intervals()
    plane = _mean(figures["plane"])
    weak = [
        f"a plane explains {100 * plane:.1f} % of its disparity: it has not looked at the image"
    ]
    return ConsistencyFigures(
        one.name,
        one.licence,
        one.doubt,
        figures,
        weak if plane > FLAT else [],
        one.result.frames_per_s,
        one.result.clips,
        one.settings,
    )


def consistency_report(audit: ConsistencyAudit, source: Path) -> Report:
    """Everything that is known of the estimators."""
    page = Report(
        "Depth that agrees with itself",
        f"{len(audit.estimators)} estimator{'s' * (len(audit.estimators) > 1)} on {source}",
    )
    page.related([source])
    best = " or ".join(audit.choice.best) or "withheld"
    clips = len(audit.estimators[0].clips)
    page.numbers({"recommended": best, "estimators": len(audit.estimators), "clips": clips})
    page.text(audit.choice.words(), audit.choice.rule, audit.caveat, title="Recommendation")
    page.table(
        "Side by side",
        ["estimator", *FIGURES, "frames/s", "licence of the weights", "verdict"],
        [
            [
                row.called,
                *(figure.narrow if (figure := row.figures[name]) else "none" for name in FIGURES),
                row.frames_per_s,
                row.licence or "none stated",
                "; ".join([*row.weak, *([row.doubt] if row.doubt else [])]) or "no doubt",
            ]
            for row in audit.estimators
        ],
    )
    page.text(*EXPLAINED, title="What the columns are", folded=True)
    return page.table(
        "By clip",
        ["episode", "camera", "frames", "estimator", *FIGURES],
        [
            [
                str(clip.key),
                clip.camera,
                clip.frames,
                row.name,
                *(getattr(clip, n) for n in FIGURES),
            ]
            for row in audit.estimators
            for clip in row.clips
        ],
    )
