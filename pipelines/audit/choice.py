"""Which estimator to take, by a rule that fits in a few lines; withheld where figures carry none.

1. Only an estimator whose depth is neither WRONG nor WEAK, and whose weights are known to be ones
   that somebody would use, can be taken.
2. The smallest AbsRel over the clips wins, against every other whose difference, clip by clip, has
   a 95 % interval (bootstrap over episodes) without 0.
3. Among those that the clips do not tell apart, the steadier one wins by the same test: of code
   flips if there is a codebook, else of the temporal alignment error, else of flicker.
4. Where that does not tell them apart either, all of them are named, and speed and licence decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pipelines.audit.bootstrap import FEWEST, Interval


@dataclass(frozen=True)
class ChoiceRule:
    """What decides: a `figure` (smaller is better) called `name`, then the first of `steady` that
    all estimators have; `text` says all of it to people."""

    figure: str
    name: str
    steady: Mapping[str, str]
    text: str


_NEVER = (
    "Depth that is wrong or weak, and weights that are a demo's, random or of unknown origin, are "
    "never recommended."
)
BY_TRUTH = ChoiceRule(
    "abs_rel",
    "AbsRel",
    {"code_flips": "code flips", "tae": "TAE", "flicker": "flicker"},
    "The smallest AbsRel wins where the 95 % interval of the difference to the next, clip by clip, "
    "does not hold 0 (bootstrap over episodes). Among those that are not told apart so, the "
    "steadier wins by the same test (code flips with a codebook, else TAE with poses, else "
    f"flicker). {_NEVER}",
)
BY_ITSELF = ChoiceRule(
    "mirror",
    "disagreement with its mirror image",
    {"neighbours": "change between neighbouring frames"},
    "The smallest disagreement with the depth of mirrored frames (mirror) wins where the "
    "95 % interval of the difference to the next, clip by clip, does not hold 0 (bootstrap over "
    "episodes). Among those that are not told apart so, the one with the smallest change between "
    f"neighbouring frames wins by the same test. {_NEVER}",
)
Difference = Callable[[str, str, str], Interval | None]


@runtime_checkable
class Rankable(Protocol):
    """What the rule asks of an estimator."""

    @property
    def name(self) -> str: ...
    @property
    def doubt(self) -> str: ...
    @property
    def wrong(self) -> Sequence[str]: ...
    @property
    def weak(self) -> Sequence[str]: ...
    @property
    def figures(self) -> Mapping[str, Interval | None]: ...


@dataclass(frozen=True)
class Choice:
    """The estimators to take: one, several that the clips do not tell apart, or none, then
    `withheld` says why. `reason` is for people; `excluded` says who could not be taken, and why."""

    best: tuple[str, ...]
    reason: str
    withheld: str
    excluded: Mapping[str, str]
    rule: str

    def words(self) -> str:
        """The recommendation in a sentence or two."""
        if self.withheld:
            return f"No recommendation: {self.withheld}."
        return f"Recommended: {' or '.join(self.best)}. {self.reason}"


def choose(rows: Sequence[Rankable], difference: Difference, rule: ChoiceRule = BY_TRUTH) -> Choice:
    """The choice among rows in the order of the rule's figure. `difference(figure, a, b)` is that
    of b minus that of a, clip by clip."""
    excluded = {row.name: text for row in rows if (text := _excluded(row))}
    able = [row for row in rows if row.name not in excluded]
    differences = [difference(rule.figure, able[0].name, row.name) for row in able[1:]]
    if why := _withheld(rows, able, differences, rule):
        return Choice((), "", why, excluded, rule.text)
    best = able[0]
    pairs = [(row, d) for row, d in zip(able[1:], differences, strict=True) if d is not None]
    tied = [best, *(row for row, d in pairs if d.holds_zero)]
    if len(tied) == 1:
        return Choice((best.name,), _of_smallest(best, pairs, rule), "", excluded, rule.text)
    names, reason = _steadiest(tied, difference, rule)
    return Choice(names, reason, "", excluded, rule.text)


def _excluded(row: Rankable) -> str:
    """Why an estimator cannot be taken; "" where it can."""
    if row.doubt:
        return row.doubt
    if row.wrong:
        return f"depth that is wrong ({row.wrong[0]})"
    return f"depth that is weak ({row.weak[0]})" if row.weak else ""


def _withheld(
    rows: Sequence[Rankable],
    able: Sequence[Rankable],
    differences: Sequence[Interval | None],
    rule: ChoiceRule,
) -> str:
    """Why nothing can be recommended; "" where something can."""
    if len(rows) < 2:
        return "one estimator alone leaves nothing to choose"
    if not able:
        reasons = "; ".join(f"{row.name} has {_excluded(row)}" for row in rows)
        return f"none of the estimators can be taken ({reasons})"
    if sum(not row.doubt for row in rows) == 1:
        doubts = "; ".join(f"{row.name} has {row.doubt}" for row in rows if row.doubt)
        return f"{able[0].name} has nothing to be compared with ({doubts})"
    figure = able[0].figures[rule.figure]
    if any(values is None or values.low is None for values in (figure, *differences)):
        return f"fewer than {FEWEST} episodes carry no interval"
    return ""


def _of_smallest(
    best: Rankable, others: Sequence[tuple[Rankable, Interval]], rule: ChoiceRule
) -> str:
    if not others:
        return "It is the only one that can be taken."
    near, least = min(others, key=lambda pair: pair[1].mean)
    return (
        f"Its {rule.name} is the smallest, {best.figures[rule.figure]}; that of {near.name} is "
        f"larger by {least}, clip by clip."
    )


def _steadiest(
    tied: Sequence[Rankable], difference: Difference, rule: ChoiceRule
) -> tuple[tuple[str, ...], str]:
    """Whom to take among estimators that the clips do not tell apart, and why."""
    same = f"No difference in {rule.name} that the clips carry between "
    same += " and ".join(row.name for row in tied)
    measured = [f for f in rule.steady if all(row.figures[f] is not None for row in tied)]
    if not measured:
        return tuple(row.name for row in tied), f"{same}; speed and licence decide."
    figure, name = measured[0], rule.steady[measured[0]]
    values = [(value.mean, row) for row in tied if (value := row.figures[figure]) is not None]
    calm = min(values, key=lambda pair: pair[0])[1]
    others = [row for row in tied if row is not calm]
    apart = [(row.name, difference(figure, calm.name, row.name)) for row in others]
    still = tuple(row for row, d in apart if d is None or d.holds_zero)
    if still:
        return (calm.name, *still), f"{same}, nor in {name}; speed and licence decide."
    return (calm.name,), f"{same}; {calm.name} has the least {name}, {calm.figures[figure]}."
