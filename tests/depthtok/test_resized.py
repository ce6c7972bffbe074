"""Depth at another size: what is not known does not reach what is."""

import numpy as np

from depthtok.data import DepthClip, DepthKind
from depthtok.resized import at_size


def test_disparity_beside_what_is_not_known_is_not_known():
    values = np.full((1, 4, 8), 2.0, np.float32)
    values[:, :, 5:] = np.nan
    clip = at_size(DepthClip.of(values, DepthKind.DISPARITY), (2, 4))
    assert clip.valid[0, 0].tolist() == [True, True, False, False]
    np.testing.assert_allclose(clip.values[0, 0], [2, 2, 0, 0], rtol=1e-6)


def test_distances_are_those_of_the_nearest_pixel_and_the_shift_stays():
    values = np.array([[[1, 0, 3, 4], [1, 0, 3, 4]]], np.float32)
    clip = at_size(DepthClip.of(values, DepthKind.RELATIVE_DEPTH, shift=0.5), (2, 8))
    assert clip.values[0, 0].tolist() == [1, 1, 0, 0, 3, 3, 4, 4]
    assert clip.valid[0, 0].tolist() == [True, True, False, False, True, True, True, True]
    assert clip.shift == 0.5
