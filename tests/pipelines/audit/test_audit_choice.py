"""Intervals over clips, and the rule that chooses."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from pipelines.audit.bootstrap import Interval, interval
from pipelines.audit.choice import BY_ITSELF, choose


@dataclass(frozen=True)
class Row:
    name: str
    figures: dict
    doubt: str = ""
    wrong: list = field(default_factory=list)
    weak: list = field(default_factory=list)


def of(mean, low=None, high=None):
    return Interval(mean, low, high, 10)


def row(name, error, **more):
    figures = {"abs_rel": of(error, error, error), "code_flips": None, "tae": None}
    return Row(name, {**figures, "flicker": of(0.01), **more.pop("figures", {})}, **more)


def by(table):
    """Differences from a table of (figure, b): those of b to whatever is best."""
    return lambda figure, a, b: table.get((figure, b))


CLEAR, NONE, FEW = of(0.05, 0.02, 0.08), of(0.01, -0.01, 0.03), of(0.05)


def test_the_smallest_error_is_taken_where_the_clips_tell_it_apart():
    rows = [row("a", 0.1), row("b", 0.15), row("c", 0.2)]
    chosen = choose(rows, by({("abs_rel", "b"): CLEAR, ("abs_rel", "c"): of(0.1, 0.05, 0.2)}))
    assert (chosen.best, chosen.withheld) == (("a",), "")
    assert chosen.reason == (
        "Its AbsRel is the smallest, 0.100 (0.100 to 0.100); that of b is larger by 0.050 (0.020 "
        "to 0.080), clip by clip."
    )


def test_where_errors_are_not_told_apart_the_steadier_is_taken():
    rows = [row("a", 0.1, figures={"flicker": of(0.03)}), row("b", 0.11), row("c", 0.3)]
    table = {("abs_rel", "b"): NONE, ("abs_rel", "c"): CLEAR, ("flicker", "a"): CLEAR}
    chosen = choose(rows, by(table))
    assert chosen.best == ("b",)
    assert (
        "No difference in AbsRel that the clips carry between a and b; b has the least flicker"
        in (chosen.reason)
    )
    chosen = choose(rows, by(table | {("flicker", "a"): NONE}))
    assert chosen.best == ("b", "a")
    assert "nor in flicker; speed and licence decide" in chosen.reason


@pytest.mark.parametrize(
    ("known", "word"),
    [
        (["flicker"], "flicker"),
        (["tae", "flicker"], "TAE"),
        (["code_flips", "tae", "flicker"], "code flips"),
    ],
)
def test_steadiness_is_of_codes_then_of_poses_then_of_pixels(known, word):
    figures = {name: of(0.1) for name in known}
    rows = [row("a", 0.1, figures=figures), row("b", 0.1, figures=figures)]
    chosen = choose(rows, by({("abs_rel", "b"): NONE, (known[0], "b"): CLEAR}))
    assert chosen.best == ("a",)
    assert f"a has the least {word}, " in chosen.reason


def test_nothing_is_recommended_without_a_reason():
    a, b = row("a", 0.1), row("b", 0.2)
    apart = by({("abs_rel", "b"): CLEAR})
    demo = row("demo", 0.05, doubt="a demo's weights")
    weak = row("w", 0.01, weak=["worse than the best plane"])
    wrong = row("m", 0.01, wrong=["mirrored"])
    assert choose([a], apart).withheld == "one estimator alone leaves nothing to choose"
    assert choose([a, b], by({("abs_rel", "b"): FEW})).withheld.startswith("fewer than 5 episodes")
    chosen = choose([demo, a], apart)
    assert chosen.best == ()
    assert chosen.words() == (
        "No recommendation: a has nothing to be compared with (demo has a demo's weights)."
    )
    chosen = choose([demo, a, b], apart)
    assert (chosen.best, dict(chosen.excluded)) == (("a",), {"demo": "a demo's weights"})
    chosen = choose([weak, wrong, a], apart)
    assert chosen.best == ("a",)
    assert chosen.words() == "Recommended: a. It is the only one that can be taken."
    assert "mirrored" in chosen.excluded["m"]
    few = Row("a", {"abs_rel": of(0.1)})  # the only one that can be taken, on some clips
    assert choose([weak, wrong, few], apart).withheld.startswith("fewer than 5 episodes")
    assert "none of the estimators can be taken" in choose([weak, wrong], apart).withheld
    assert "demo's" in choose([demo, wrong], apart).withheld


def test_the_rule_without_truth_has_its_own_figures():
    rows = [Row(n, {"mirror": of(0.1, 0.1, 0.1), "neighbours": of(0.2)}) for n in "ab"]
    chosen = choose(rows, by({("mirror", "b"): NONE, ("neighbours", "b"): CLEAR}), BY_ITSELF)
    assert chosen.best == ("a",)
    assert "disagreement with its mirror image" in chosen.reason
    assert chosen.rule == BY_ITSELF.text


def test_an_interval_holds_the_mean_as_often_as_it_says():
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        values = {str(n): [float(v)] for n, v in enumerate(rng.normal(1, 0.5, 30))}
        estimate = interval(values)
        held += estimate.low <= 1 <= estimate.high
    assert 0.89 < held / 200 <= 0.99


def test_clips_of_an_episode_are_drawn_together():
    """Ten copies of each clip are no more evidence than one."""
    values = np.random.default_rng(0).normal(1, 0.5, 12).tolist()
    once = interval({str(n): [v] for n, v in enumerate(values)})
    often = interval({str(n): [v] * 10 for n, v in enumerate(values)})
    assert (often.clips, once.clips) == (120, 12)
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_draws_in_parts_give_the_same_interval(monkeypatch):
    values = {str(n): [v] for n, v in enumerate(np.random.default_rng(1).normal(size=37))}
    whole = interval(values)
    for at_once in (1, 37 * 7, 10_001):
        monkeypatch.setattr("pipelines.audit.bootstrap.AT_ONCE", at_once)
        assert interval(values) == whole


def test_few_episodes_carry_no_interval():
    assert interval({}) is None
    assert interval({"a": []}) is None
    few = interval({str(n): [1.0, 2.0] for n in range(4)})
    assert (few.mean, few.low, few.high, few.clips, few.holds_zero) == (1.5, None, None, 8, True)
    assert str(few) == "1.500"
