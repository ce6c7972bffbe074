from __future__ import annotations

import numpy as np
import pytest

from depthtok.data import QUANTILES
from depthtok.errors import ConfigError, SourceError
from depthtok.normalisation import HIGH, LOW, Normalisation


def ramp(frames: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(1, 5, (frames, 16, 16)).astype(np.float32)


def quantiles(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(q) for q in np.quantile(values, QUANTILES))


def test_the_clip_rule_maps_its_quantiles_to_zero_and_one():
    rule = Normalisation()
    values_at = quantiles(ramp())
    lo, hi = rule.range_of(values_at)
    assert (lo, hi) == (values_at[QUANTILES.index(0.005)], values_at[QUANTILES.index(0.995)])
    ends = rule.apply(np.array([[[lo, hi]]], np.float32), (lo, hi))
    np.testing.assert_allclose(ends.ravel(), [0, 1], atol=1e-6)


def test_apply_is_float32_and_clipped():
    out = Normalisation().apply(np.array([[[-100.0, 100.0]]], np.float32), (1.0, 2.0))
    assert out.dtype == np.float32
    assert out.ravel().tolist() == [LOW, HIGH]


def test_undo_returns_disparity():
    rule, values = Normalisation(), ramp()
    bounds = rule.range_of(quantiles(values))
    back = rule.undo(rule.apply(values, bounds), bounds)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, values, rtol=1e-5)


def test_an_affine_change_of_disparity_changes_nothing():
    """ViDA's disparity is known up to scale and shift."""
    rule, values = Normalisation(), ramp()
    other = values * 7 + 3
    first = rule.apply(values, rule.range_of(quantiles(values)))
    second = rule.apply(other, rule.range_of(quantiles(other)))
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_per_frame_gives_each_frame_its_own_range():
    rule, values = Normalisation("per_frame"), ramp()
    values[1] *= 10
    valid = np.ones(values.shape, bool)
    valid[2, 0, 0] = False
    values[2, 0, 0] = 0
    bounds = rule.range_of(quantiles(values))
    out = rule.apply(values, bounds, valid)
    assert [out[t][valid[t]].min() for t in range(3)] == [0, 0, 0]
    np.testing.assert_allclose([out[t][valid[t]].max() for t in range(3)], 1, rtol=1e-6)
    with pytest.raises(ConfigError, match="cannot be undone"):
        rule.undo(out, bounds)
    back = rule.undo(out, bounds, like=values, valid=valid)
    np.testing.assert_allclose(back[valid], values[valid], rtol=1e-5)


def test_fixed_rules_have_one_range():
    rule = Normalisation("metric", lo=0.25, hi=5.0)
    assert rule.range_of(()) == (0.25, 5.0)
    assert Normalisation.from_json(rule.to_json()) == rule
    with pytest.raises(ConfigError, match="needs its range"):
        Normalisation("dataset")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((), "quantiles"),
        ((1.0,) * len(QUANTILES), "constant"),
        ((0.0,) * len(QUANTILES), "constant"),
        ((1e6,) * 5 + (1e6 + 0.5,) * 6, "constant"),
        ((float("nan"),) * len(QUANTILES), "finite"),
        ((0.0,) * 8 + (float("inf"),) * 3, "finite"),
    ],
)
def test_a_clip_without_a_range_is_an_error(values, words):
    with pytest.raises(SourceError, match=words):
        Normalisation().range_of(values)


def test_unknown_names_and_quantiles_are_refused():
    with pytest.raises(ConfigError, match="clip_quantile"):
        Normalisation("clip_quantiles")
    with pytest.raises(ConfigError, match="not kept"):
        Normalisation(low_quantile=0.003)
