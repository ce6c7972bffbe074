"""Differences of arms over seeds and trials: intervals that hold what they say."""

import math

import numpy as np
import pytest

from pipelines.ablate.contrast import Contrast, contrasts
from pipelines.ablate.student import limit_of
from pipelines.ablate.study_page import forest_rows


def drawn(rng, seeds, trials, effect, tau, spread):
    """Successes of two arms: seeds and trials of random difficulty, and an effect."""
    hard = rng.normal(0, spread, trials)
    easy = rng.normal(0, spread, trials)  # the arms do not find the same trials hard
    a = 0.5 + effect + rng.normal(0, tau, (seeds, 1)) + hard
    b = 0.5 + rng.normal(0, tau, (seeds, 1)) + easy
    return rng.random((seeds, trials)) < a, rng.random((seeds, trials)) < b


def test_by_hand():
    a = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], bool)
    b = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]], bool)
    contrast = Contrast.of("a", "b", a, b)
    assert contrast.difference == pytest.approx(9 / 12 - 4 / 12)
    assert contrast.by_seed == (0.5, 0.25, 0.5)
    assert contrast.p_signs == 0.25  # 2 of 8 sign patterns
    scipy = pytest.importorskip("scipy.stats")
    expected = scipy.ttest_1samp([0.5, 0.25, 0.5], 0).pvalue
    assert contrast.p_value == pytest.approx(expected, rel=1e-3)


def test_where_trials_are_alike_it_is_the_paired_t_interval():
    """Trial means that vary less than their noise: MS_seed alone remains."""
    a = np.array([[1, 1, 0, 0], [1, 0, 1, 1], [1, 1, 1, 1]], bool)
    b = np.array([[0, 0, 1, 1], [1, 1, 0, 1], [0, 0, 1, 0]], bool)
    contrast = Contrast.of("a", "b", a, b)
    by_seed = np.array(contrast.by_seed)
    table = a.astype(float) - b
    rest = table - by_seed[:, None] - table.mean(0) + table.mean()
    if 3 * table.mean(0).var(ddof=1) <= (rest**2).sum() / 6:
        expected = limit_of(0.05, 2) * by_seed.std(ddof=1) / math.sqrt(3)
        assert contrast.half == pytest.approx(expected)
    else:
        pytest.fail("the table is to have alike trials")


def coverage(half_of, seeds=8, trials=12, spread=0.25, runs=400):
    rng, held = np.random.default_rng(1), 0
    for _ in range(runs):
        contrast = Contrast.of("a", "b", *drawn(rng, seeds, trials, 0.1, 0.08, spread))
        held += abs(contrast.difference - 0.1) <= half_of(contrast)
    return held / runs


def test_the_interval_holds_both_levels():
    """New seeds and new trials: 95 % of the intervals hold the effect. One over seeds alone, on the
    same data, does not."""

    def over_seeds(contrast):
        deviation = np.std(contrast.by_seed, ddof=1)
        return limit_of(0.05, contrast.seeds - 1) * deviation / math.sqrt(contrast.seeds)

    assert 0.92 <= coverage(lambda contrast: contrast.half) <= 0.985
    assert coverage(over_seeds) < 0.85


def test_the_test_holds_its_level_over_seeds():
    rng = np.random.default_rng(2)
    hits = [
        Contrast.of("a", "b", *drawn(rng, 6, 20, 0.0, 0.08, 0.0)).p_value < 0.05 for _ in range(400)
    ]
    assert 0.02 <= np.mean(hits) <= 0.085


def test_what_was_not_testable_is_found_with_that_power():
    """A difference of the size that is told is found in about 80 % of new experiments."""
    rng = np.random.default_rng(3)
    testable = np.mean(
        [Contrast.of("a", "b", *drawn(rng, 16, 50, 0, 0.06, 0)).testable[0] for _ in range(60)]
    )
    hits = [
        Contrast.of("a", "b", *drawn(rng, 16, 50, testable, 0.06, 0)).p_value < 0.05
        for _ in range(300)
    ]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.08)


def test_limits_are_said():
    rng = np.random.default_rng(5)
    contrast = Contrast.of("true", "shuffled", *drawn(rng, 4, 20, 0, 0.05, 0))
    points = math.ceil(100 * contrast.testable[0])
    assert f"differences under {points} points were not testable with 4 seeds" in contrast.limits()
    assert contrast.verdict == "no difference shown"
    one = Contrast.of("a", "b", np.ones((1, 5), bool), np.zeros((1, 5), bool))
    assert one.verdict == "one seed: nothing can be said"
    assert "no test was made" in one.limits()
    assert (one.to_json()["low"], one.to_json()["p_value"]) == (None, None)
    sure = Contrast.of("a", "b", np.ones((12, 30), bool), rng.random((12, 30)) < 0.3)
    assert sure.verdict == "a is better"
    assert sure.interval[0] > 0.5


def test_a_difference_on_these_trials_alone_is_told_as_one():
    """One trial of three decides, for every seed: sure for other seeds, not for other trials."""
    a, b = np.zeros((10, 3), bool), np.zeros((10, 3), bool)
    a[:, 0], b[0, 1] = True, True
    contrast = Contrast.of("a", "b", a, b)
    assert contrast.p_value < 0.001
    assert contrast.interval[0] < 0 < contrast.interval[1]
    assert contrast.verdict == "a is better on these trials; with other trials it may not be"


@pytest.mark.parametrize("seeds", [2, 3, 5, 6])
def test_seeds_that_all_differ_by_the_same_are_no_certainty(seeds):
    """One more of ten for every seed. The standard deviation of three times 0.1 is 1.7e-17, not 0:
    a t test by it has p = 0."""
    a, b = np.eye(seeds, 10, dtype=bool), np.zeros((seeds, 10), bool)
    contrast = Contrast.of("a", "b", a, b)
    assert contrast.by_seed == (0.1,) * seeds
    assert contrast.p_value == 2 / 2**seeds  # all signs alike
    assert contrast.row()[4:6] == ["unknown", "unknown"]
    assert (contrast.to_json()["low"], contrast.to_json()["high"]) == (None, None)
    assert forest_rows([contrast])[0][2:] == (None, None)
    assert (contrast.verdict == "no difference shown") == (seeds < 6)
    assert contrast.testable[0] > 0.1  # by the noise of the trials


@pytest.mark.parametrize("won", [True, False])
def test_arms_that_win_or_lose_everything_have_no_known_limits(won):
    all_alike = np.full((2, 2), won)
    contrast = Contrast.of("a", "b", all_alike, all_alike)
    assert (contrast.difference, contrast.p_value) == (0, 1)
    assert "what was testable is not known" in contrast.limits()
    assert "0 points" not in contrast.limits()
    assert [contrast.to_json()[name] for name in ("low", "high", "testable")] == [None] * 3


def test_only_what_both_have_is_compared():
    arms = {
        "a": {0: {"x": True, "y": True}, 1: {"x": True, "y": False}, 2: {"x": True}},
        "b": {0: {"x": False, "y": True, "z": True}, 1: {"x": False, "y": False}},
        "c": {7: {"x": True}},
    }
    (contrast,) = contrasts(arms, [("a", "b"), ("a", "c"), ("a", "none")])
    assert (contrast.seeds, contrast.trials) == (2, 2)
    assert contrast.by_seed == (0.5, 0.5)
