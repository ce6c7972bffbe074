"""How many seeds a difference takes, against the table of another program, and scipy."""

import numpy as np
import pytest

from pipelines.ablate.power import Cost, PowerPlan, RateSpread, power, seeds_for
from pipelines.ablate.student import beyond, limit_of, shift_for, spread_interval

PILOT = [[35 / 50, 37 / 50], [41 / 50, 29 / 50], [31 / 50, 37 / 50]]
SEEDS = {  # difference in points: tau 9 with 50, 100, 200 trials; tau 3
    3: (216, 180, 161, 90, 54, 35),
    5: (79, 66, 59, 34, 20, 14),
    8: (32, 27, 24, 14, 9, 6),
    12: (15, 13, 12, 7, 5, 4),
}
HOURS = {3: (126, 147, 207), 5: (46, 54, 76), 8: (19, 22, 31), 12: (9, 11, 15)}  # tau 9, two arms


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


def test_the_table_is_reproduced():
    spread, cost = RateSpread.of(PILOT, 50), Cost(10.5 * 60, 0.14 * 60)
    for points, seeds in SEEDS.items():
        cases = [(tau, n) for tau in (spread.tau, 0.03) for n in (50, 100, 200)]
        got = tuple(seeds_for(points / 100, tau, n, spread.rate) for tau, n in cases)
        assert got == seeds, points
        hours = [cost.hours(s, n, 2) for s, (_, n) in zip(seeds[:3], cases[:3], strict=True)]
        assert tuple(map(round, hours)) == HOURS[points]


def test_power_is_what_a_simulation_finds():
    rng, seeds, trials, tau, rate = np.random.default_rng(0), 12, 40, 0.06, 0.5
    rates = np.clip(rate + rng.normal(0, tau, (2, 2000, seeds)), 0, 1)
    rates[0] = np.clip(rates[0] + 0.1, 0, 1)
    a, b = rng.binomial(trials, rates) / trials
    error = np.sqrt((a.var(1, ddof=1) + b.var(1, ddof=1)) / seeds)
    t = np.abs(a.mean(1) - b.mean(1)) / error
    share = (t > limit_of(0.05, 2 * (seeds - 1))).mean()
    assert power(seeds, 0.1, tau, trials, 0.55) == pytest.approx(share, abs=0.025)


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
    assert words[-1] == "This study (32 seeds, 50 trials; tau 9) finds 8 points or more."
    assert any(line.split()[:5] == ["8", "9", "50", "32", "28"] for line in words)
