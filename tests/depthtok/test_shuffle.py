"""Orders without tables are true permutations, and look random."""

import numpy as np
import pytest

from depthtok.shuffle import Permutation


@pytest.mark.parametrize("n", [*range(1, 70), 1000, 4096, 4097, 65_537])
def test_bijective(n):
    assert (np.sort(Permutation(n, 3)(np.arange(n))) == np.arange(n)).all()


def test_single_positions_agree_with_many():
    order = Permutation(1001, 5)
    assert [order[i] for i in range(1001)] == order(np.arange(1001)).tolist()
    assert len(order) == 1001


def test_seeds_give_their_own_orders():
    positions = np.arange(500)
    a, b, c = (Permutation(500, seed)(positions) for seed in (1, (1, 0), (1, 1)))
    assert (a == Permutation(500, 1)(positions)).all()
    assert (b == c).mean() < 0.05
    assert (a == c).mean() < 0.05


def test_neighbours_are_scattered():
    """Distances of neighbours, and where the first tenth goes, are those of a random order."""
    n = 20_000
    values = Permutation(n, 0)(np.arange(n))
    assert np.abs(np.diff(values)).mean() == pytest.approx(n / 3, rel=0.03)
    assert (values[: n // 10] < n // 2).mean() == pytest.approx(0.5, abs=0.04)
    assert abs(np.corrcoef(np.arange(n), values)[0, 1]) < 0.03


def test_billions_need_no_memory():
    order = Permutation(7_000_000_000, 11)
    values = order(np.arange(6_999_999_000, 7_000_000_000))
    assert len(np.unique(values)) == 1000
    assert values.min() >= 0
    assert values.max() < 7_000_000_000


def test_the_order_never_changes():
    """Runs are resumed across versions: the order is a format."""
    assert Permutation(1000, (0, 1))(np.arange(6)).tolist() == EXPECTED


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="0 things"):
        Permutation(0, 1)
    with pytest.raises(IndexError):
        Permutation(5, 1)[5]


EXPECTED = [957, 819, 590, 328, 566, 784]
