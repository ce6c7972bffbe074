"""The codes of LeRobot's depth videos: known metres, and the two codes that are no depth."""

import numpy as np
import pytest

from depthtok.errors import SourceError
from depthtok.frames.depth_codes import LAST, DepthCodes

LINEAR = DepthCodes(0.0, 4.095, 0.0, False)  # a code is a millimetre
STEPPED = DepthCodes(0.01, 10.0, 3.5, True)


def test_linear_codes_are_metres():
    assert LINEAR.table[[1, 1000, LAST - 1]] == pytest.approx([0.001, 1.0, 4.094])


def test_logarithmic_codes_grow_by_one_factor():
    """From one code to the next, depth plus shift grows by ((10 + 3.5) / (0.01 + 3.5))^(1/4095)."""
    shifted = STEPPED.table[1:LAST].astype(np.float64) + 3.5
    factor = (13.5 / 3.51) ** (1 / LAST)
    np.testing.assert_allclose(shifted, 3.51 * factor ** np.arange(1, LAST), rtol=1e-6)


@pytest.mark.parametrize("codes", [LINEAR, STEPPED])
def test_the_first_and_the_last_code_are_no_depth(codes):
    assert codes.table[0] == codes.table[LAST] == 0
    assert np.count_nonzero(codes.table) == LAST - 1
    beyond = np.float32([0.0, codes.depth_max, 100.0])
    assert codes.codes(beyond).tolist() == [0, LAST, LAST]


@pytest.mark.parametrize("codes", [LINEAR, STEPPED])
def test_metres_come_back(codes):
    numbers = np.arange(1, LAST)
    assert np.array_equal(codes.codes(codes.table[numbers]), numbers)
    assert DepthCodes.from_json(codes.to_json()) == codes


@pytest.mark.parametrize("limits", [(1.0, 1.0, 0.0), (-1.0, 1.0, 3.5), (0.0, 1.0, 0.0)])
def test_limits_that_cannot_be_decoded_are_refused(limits):
    with pytest.raises(SourceError, match="cannot be decoded"):
        DepthCodes(*limits, True)
