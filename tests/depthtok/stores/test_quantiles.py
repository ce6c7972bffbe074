import numpy as np
import pytest

from depthtok.data import QUANTILES
from depthtok.stores.quantiles import QuantileCounter


@pytest.mark.parametrize("dtype", ["uint16", "float16"])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_exact_order_statistics_however_cut(dtype, count):
    values = (np.random.default_rng(count).random(count) * 60_000).astype(dtype)
    ranks = [round(q * (count - 1)) for q in QUANTILES]
    for pieces in (1, 3):
        counter = QuantileCounter(dtype)
        for piece in np.array_split(values, pieces):
            counter.add(piece)
        np.testing.assert_array_equal(counter.quantiles(), np.sort(values)[ranks])


def test_a_negative_zero_is_zero():
    counter = QuantileCounter("float16")
    counter.add(np.float16([-0.0, 1, 2, 3]))
    expected = [np.sort([0, 1, 2, 3])[round(3 * q)] for q in QUANTILES]
    np.testing.assert_array_equal(counter.quantiles(), expected)


def test_nothing_counted():
    assert QuantileCounter("uint16").quantiles() == ()
