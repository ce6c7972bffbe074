"""How many seeds a difference takes, against scipy and simulations of the test."""

import numpy as np
import pytest

from pipelines.ablate.power import Cost, PowerPlan, RateSpread, power, seeds_for
from pipelines.ablate.student import beyond, limit_of, shift_for, spread_interval

PILOT = [[35 / 50, 37 / 50], [41 / 50, 29 / 50], [31 / 50, 37 / 50]]


def test_the_spread_of_a_pilot():
    spread = RateSpread.of(PILOT, 50)
    assert spread.rate == pytest.approx(0.70)
    assert 100 * spread.between**0.5 == pytest.approx(11, abs=0.5)
    assert 100 * spread.within**0.5 == pytest.approx(6.4, abs=0.1)
    assert 100 * spread.tau == pytest.approx(9, abs=0.5)
    assert spread.freedom == 3
    low, high = spread_interval(spread.between**0.5, 3)
    assert (round(100 * low), round(100 * high)) == (6, 41)
    assert "tau, is 9" in spread.words()


def test_seeds_are_the_fewest_by_scipy():
    """Of a t test paired by seed, whose differences have the variance of two trainings."""
    stats = pytest.importorskip("scipy.stats")

    def finds(seeds, difference, tau, trials, rate):
        shift = difference / np.sqrt(2 * (tau**2 + rate * (1 - rate) / trials) / seeds)
        limit = stats.t.ppf(0.975, seeds - 1)
        return stats.nct.sf(limit, seeds - 1, shift) + stats.nct.cdf(-limit, seeds - 1, shift)

    for difference in (0.03, 0.05, 0.08, 0.12, 0.4):
        for tau, trials in ((0.09, 50), (0.09, 200), (0.03, 50), (0.03, 200)):
            seeds = seeds_for(difference, tau, trials, 0.7)
            assert finds(seeds, difference, tau, trials, 0.7) >= 0.8
            assert seeds == 2 or finds(seeds - 1, difference, tau, trials, 0.7) < 0.8
    for seeds in (2, 3, 4, 16):
        expected = finds(seeds, 0.2, 0.09, 50, 0.5)
        assert power(seeds, 0.2, 0.09, 50, 0.5) == pytest.approx(expected, abs=1e-3)


def test_hours_are_of_all_arms():
    assert Cost(630, 8.4).hours(32, 50, 2) == pytest.approx(2 * 32 * (630 + 50 * 8.4) / 3600)


@pytest.mark.parametrize(("seeds", "effect"), [(3, 0.2), (4, 0.15), (12, 0.08)])
def test_power_is_what_a_simulation_finds(seeds, effect):
    """By the paired test that is made afterwards. Of two samples it would be 0.80 at 3 seeds."""
    rng, trials, tau, rate = np.random.default_rng(0), 400, 0.06, 0.5
    rates = np.clip(rate - effect / 2 + rng.normal(0, tau, (2, 4000, seeds)), 0, 1)
    rates[0] = np.clip(rates[0] + effect, 0, 1)
    a, b = rng.binomial(trials, rates) / trials
    spread = np.maximum((a - b).std(1, ddof=1), 1e-9)
    t = np.abs((a - b).mean(1)) / (spread / np.sqrt(seeds))
    share = (t > limit_of(0.05, seeds - 1)).mean()
    assert power(seeds, effect, tau, trials, rate) == pytest.approx(share, abs=0.025)


def test_students_t_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 5, 31, 300):
        for limit in (0.1, 1.0, 2.5, 12.7):
            expected = 2 * stats.t.sf(limit, freedom)
            assert beyond(limit, freedom) == pytest.approx(expected, rel=1e-3, abs=1e-9)
            shifted = stats.nct.sf(limit, freedom, 1.5) + stats.nct.cdf(-limit, freedom, 1.5)
            assert beyond(limit, freedom, 1.5) == pytest.approx(shifted, rel=1e-3, abs=1e-9)
        assert limit_of(0.05, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-3)
        low, high = np.sqrt(freedom / stats.chi2.ppf([0.975, 0.025], freedom))
        assert spread_interval(1.0, freedom) == pytest.approx((low, high), rel=5e-3)


def test_the_shift_of_a_power():
    assert beyond(limit_of(0.05, 15), 15, shift_for(0.8, 15)) == pytest.approx(0.8, abs=1e-6)


def test_what_cannot_be_known_is_said():
    assert RateSpread.of([[0.5], [0.6]], 50) is None
    assert RateSpread.of([[0.5, 0.6]], 1) is None
    plan = PowerPlan(3, 1, 50, (0.05,), None, None)
    words = " ".join(plan.words())
    assert "No spread is known yet" in words
    assert "unknown" in words
    assert "can test no difference" in words
    assert {row[1] for row in plan.rows()} == {0.03, 0.09}
    assert seeds_for(0.001, 0.3, 10, 0.5) is None


@pytest.mark.parametrize("rates", [[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]])
def test_seeds_that_do_not_differ_tell_no_spread(rates):
    """All won or lost: no division by the spread of 0. Half won by each: no tau of 0 points."""
    assert RateSpread.of([rates, rates], 2) is None
    plan = PowerPlan(2, 2, 2, (0.05,), RateSpread.of([rates, rates], 2), None)
    assert "No spread is known yet" in plan.words()[1]
    assert {row[1] for row in plan.rows()} == {0.03, 0.09}


def test_a_study_is_told_what_it_finds():
    spread = RateSpread.of(PILOT, 50)
    words = PowerPlan(3, 32, 50, (0.08,), spread, Cost(630, 8.4)).words()
    assert words[-1] == "This study (32 seeds, 50 trials; tau 9) finds 9 points or more."
    assert any(line.split()[:5] == ["8", "9", "50", "33", "29"] for line in words)
