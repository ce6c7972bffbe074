"""Flips and agreement of codes, by a codec whose codes are known."""

from types import SimpleNamespace

import numpy as np
import pytest

from depthtok.data import QUANTILES, DepthClip, DepthKind
from depthtok.normalisation import Normalisation
from pipelines.audit.audit import Pair
from pipelines.audit.code_changes import code_changes, static_between
from tests.pipelines.audit.test_audit import pair
from vqvae.codec import Codec

GRID, SIDE = (4, 4), 16


class Tenths(Codec):
    """The code of a cell is its mean disparity in tenths of the clip's range."""

    def __init__(self):
        self.codebook = SimpleNamespace(normalisation=Normalisation(), grid=GRID)

    def encode(self, clip, bounds, **_):
        cells = clip.values.reshape(len(clip), 4, 4, 4, 4).mean((2, 4))
        low, high = bounds
        return np.clip((cells - low) / (high - low) * 10 + 0.3, 0, 255).astype(np.uint8)


def read(values, kind):
    clip = DepthClip.of(values, kind)
    quantiles = tuple(np.quantile(clip.values[clip.valid], QUANTILES).tolist())
    return lambda a, b: DepthClip(clip.values[a:b], clip.valid[a:b], kind, quantiles)


def compared(estimated, truth):
    like = pair(estimated, DepthKind.DISPARITY, truth=truth)
    readers = read(estimated, DepthKind.DISPARITY), read(truth, DepthKind.METRES)
    return code_changes(Pair(like.key, "front", len(truth), *readers), Tenths())


def steps(frames=6):
    """Disparity 1.05, 2.05, ... by cell, and a frame of each: all stand still."""
    cells = np.arange(16).reshape(GRID) + 1.05
    return np.repeat(np.kron(cells, np.ones((4, 4)))[None], frames, 0).astype(np.float32)


def test_true_depth_has_the_codes_of_true_depth_and_they_stand_still():
    figures = compared(3 * steps() + 2, 1 / steps())
    assert (figures.flips, figures.true_flips, figures.same) == (0, 0, 1)


def test_flips_are_shares_of_static_cells():
    """Two of sixteen cells change in two of five steps, and one of them is not static then."""
    estimated, truth = steps(), steps()
    estimated[3, :4, :8] += 9  # cells 0 and 1, in frame 3: there and back
    truth[3, :4, :2] += 0.5  # the true cell 0 moves there and back, by less than a tenth
    figures = compared(estimated, 1 / truth)
    static = 5 * 16 - 2
    assert figures.flips == pytest.approx(2 / static)
    assert figures.true_flips == 0
    assert figures.same == pytest.approx(1 - 2 / 96)


def test_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    estimated = (steps(9) * rng.uniform(0.8, 1.2, (9, SIDE, SIDE))).astype(np.float32)
    whole = compared(estimated, 1 / steps(9))
    monkeypatch.setattr("pipelines.audit.audit.BLOCK", 4)
    assert compared(estimated, 1 / steps(9)) == whole
    assert 0 < whole.flips < 1


def test_a_cell_is_static_where_enough_is_known_and_nothing_moves():
    truth = np.full((2, SIDE, SIDE), 2.0, np.float32)
    truth[:, 0:4, 0:4] = 0  # no measurement
    truth[1, 4, 4] = 2.1  # one pixel moves
    truth[0, 8:10, 8:12] = 0  # half of a cell is known
    truth[0, 8, 12:16] = 0
    static = static_between(DepthClip.of(truth, DepthKind.METRES), GRID)[0]
    expected = np.ones(GRID, bool)
    expected[0, 0] = expected[1, 1] = False
    np.testing.assert_array_equal(static, expected)


def test_without_a_static_cell_there_are_no_flips():
    truth = (1 / steps(3)) * np.array([1, 2, 4], np.float32)[:, None, None]
    figures = compared(steps(3), truth)
    assert (figures.flips, figures.true_flips) == (None, None)
