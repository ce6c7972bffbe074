import numpy as np
import pytest

from depthtok.stores import statistics
from depthtok.stores.statistics import ColumnStatistics, Statistics, mixture, of_columns


def columns(values: np.ndarray, pieces: int = 1) -> ColumnStatistics:
    return of_columns(lambda: iter(np.array_split(values, pieces)))


@pytest.mark.parametrize("rows", [1, 2, 101, 5000])
def test_equal_to_numpy(rows):
    rng = np.random.default_rng(rows)
    values = (rng.normal(size=(rows, 4)) * [1e-6, 1, 1e4, 0] + [0, 1e3, -5, 7]).astype(np.float32)
    statistics, exact = columns(values), values.astype(np.float64)
    assert statistics.count == rows
    np.testing.assert_allclose(statistics.mean, exact.mean(0), rtol=1e-12, atol=1e-18)
    np.testing.assert_allclose(statistics.std, exact.std(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(statistics.min, exact.min(0))
    np.testing.assert_array_equal(statistics.max, exact.max(0))
    for name, q in (("q01", 0.01), ("q99", 0.99)):
        np.testing.assert_allclose(
            getattr(statistics, name), np.quantile(exact, q, axis=0), rtol=1e-12
        )


@pytest.mark.parametrize("rows_together", [7, 1 << 16])
def test_cuts_do_not_reach_the_result(monkeypatch, rows_together):
    monkeypatch.setattr(statistics, "ROWS", rows_together)
    values = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    at_once = columns(values)
    assert all(columns(values, pieces) == at_once for pieces in (2, 7, 499, 700))


def test_no_rows():
    assert columns(np.empty((0, 3), np.float32)) == ColumnStatistics(0, (), (), (), (), (), ())


def test_json_and_mixture():
    rng = np.random.default_rng(0)
    one, two = (columns(rng.normal(m, 1, (1000, 2)).astype(np.float32)) for m in (0, 4))
    sets = [Statistics(c, c, 10, c.count) for c in (one, two)]
    assert Statistics.from_json(sets[0].to_json()) == sets[0]
    mixed = mixture([(sets[0], 3.0), (sets[1], 1.0)])
    np.testing.assert_allclose(mixed.action.mean, [1, 1], atol=0.1)
    np.testing.assert_allclose(mixed.action.std, [2, 2], atol=0.1)
    assert (mixed.episodes, mixed.steps) == (20, 2000)
    assert mixed.action.min == tuple(np.minimum(one.min, two.min))
