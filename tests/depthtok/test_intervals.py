"""Intervals and tests against published figures."""

import pytest

from depthtok.intervals import Paired, paired, wilson


@pytest.mark.parametrize(
    ("won", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 50, 0.1910, 0.4375), (0, 0, 0.0, 1.0)],
)
def test_wilson(won, trials, low, high):
    interval = wilson(won, trials)
    assert interval == pytest.approx((low, high), abs=5e-4)


def test_pairs_are_counted_over_common_trials():
    a = {"1": True, "2": True, "3": False, "4": False, "5": True}
    b = {"1": True, "2": False, "3": True, "4": False, "6": True}
    assert paired(a, b) == Paired(both=1, only_a=1, only_b=1, neither=1)


def test_mcnemar_is_a_binomial_of_the_discordant_pairs():
    assert Paired(40, 0, 6, 4).p_value() == pytest.approx(2 / 2**6)
    assert Paired(40, 5, 5, 0).p_value() == 1.0
    assert Paired(10, 0, 0, 0).p_value() == 1.0


def test_the_interval_of_a_difference():
    """Agresti and Min: Wald after half a trial is added to each count."""
    low, high = Paired(both=20, only_a=2, only_b=12, neither=16).interval()
    n, a, b = 52, 2.5, 12.5
    half = 1.959964 * (a + b - (b - a) ** 2 / n) ** 0.5 / n
    assert (low, high) == pytest.approx(((b - a) / n - half, (b - a) / n + half), abs=1e-6)
    assert 0 < low < 0.2 < high


def test_nothing_tried_says_nothing():
    assert Paired(0, 0, 0, 0).difference == 0.0
