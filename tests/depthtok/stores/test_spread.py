"""Columns that are constant, rest, or have a spike: noted, and normalised so that none is lost."""

from types import SimpleNamespace

import numpy as np
import pytest

from depthtok.stores.spread import Spread, ends
from depthtok.stores.statistics import of_columns
from vla.data.normalise import Scale


def columns(*values):
    table = np.stack(values, axis=1).astype(np.float32)
    return of_columns(lambda: iter([table]))


NOISE = np.random.default_rng(0).normal(size=4000)
RESTING = np.where(np.arange(4000) == 7, 0.5, 0.0)
SPIKE = np.where(np.arange(4000) == 9, -300.0, NOISE)
STATS = columns(NOISE, RESTING, SPIKE, np.full(4000, 0.3) + 1e-9 * NOISE)


def test_notes():
    notes = [Spread.of(STATS, n).note for n in range(4)]
    assert notes[:2] == ["", "rests: q01 = q99"]
    assert notes[2].startswith("min: range is 6")
    assert notes[3] == "constant"


@pytest.mark.parametrize(("mode", "turn"), [("q99", 1.0), ("bounds", 1.0)])
def test_a_rare_turn_is_kept_by_both_normalisations(mode, turn):
    scale = Scale.of(STATS, mode)
    assert scale.apply(np.array([0, 0.5, 0, 0.3]))[1] == turn
    assert scale.apply(np.array([0, 0.0, 0, 0.3]))[1] == -1
    assert scale.undo(scale.apply(np.array([0, 0.5, 0, 0.3])))[1] == pytest.approx(0.5)


def test_other_columns_keep_their_quantiles():
    scale = Scale.of(STATS, "q99")
    assert (scale.low[0], scale.high[0]) == (STATS.q01[0], STATS.q99[0])
    assert (scale.low[2], scale.high[2]) == (STATS.q01[2], STATS.q99[2])
    assert Scale.of(STATS, "bounds").low[2] == -300


def test_rounding_is_no_motion():
    """A constant in float32 must not become noise from -1 to 1."""
    wobble = np.float32(0.3) + np.array([0, 1, 2]) * np.spacing(np.float32(0.3))
    stats = columns(wobble)
    assert stats.min[0] < stats.max[0]
    assert Spread.of(stats, 0).constant
    for mode in ("bounds", "q99"):
        scale = Scale.of(stats, mode)
        assert scale.apply(wobble[:, None]).ravel().tolist() == [0, 0, 0]
        assert scale.undo(np.zeros(1)) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("spread", "end"),
    [
        ((-1.0, 1.0, -0.9, 0.9), None),
        ((-1.0, 9.0, -0.5, 0.5), None),  # just ten times
        ((-1.0, 9.1, -0.5, 0.5), "max"),
        ((-20.0, 3.0, -0.5, 0.5), "min"),
        ((0.0, 1.0, 0.0, 0.0), None),  # rests
    ],
)
def test_the_end_that_is_far_beyond(spread, end):
    assert Spread(*spread).spike == end


def test_an_unknown_normalisation():
    with pytest.raises(KeyError):
        ends(SimpleNamespace(min=[0.0], max=[1.0], q01=[0.1], q99=[0.9]), 0, "z")
