import re

import numpy as np
import pytest

from pipelines.depth.da3.preprocess import input_focal, network_sizes, preprocess
from tests.pipelines.depth.vida import recipe


def test_sizes_are_those_of_the_reference(golden):
    rows = golden("da3_sizes.json")
    assert len(rows) == 90
    for height, width, size, *expected in rows:
        assert list(network_sizes(height, width, size)[1]) == expected, (height, width, size)


def test_the_input_is_that_of_the_reference(golden):
    expected = golden("da3_preprocess.npz")
    names = [name for name in expected.files if re.fullmatch(r"h\d+_w\d+_r\d+_t\d+", name)]
    assert len(names) == 7
    for name in names:
        height, width, size, step = map(int, re.findall(r"\d+", name))
        frames = recipe.clip(step + 1, height, width, seed=1)[step:]
        pixels = preprocess(frames, size)[0].numpy()
        *shape, stride = expected[f"{name}_net"].tolist()
        assert list(pixels.shape[1:]) == shape
        assert np.abs(pixels[:, ::stride, ::stride] - expected[name]).max() <= 1e-6
        stats = expected[f"{name}_stats"]
        np.testing.assert_allclose(pixels.mean((1, 2), dtype=float), stats[:, 0], atol=1e-5)


def test_the_focal_length_follows_the_image():
    assert input_focal((100.0, 100.0), (256, 256), (504, 504)) == pytest.approx(196.875)
    assert input_focal((600.0, 610.0), (480, 640), (378, 504)) == pytest.approx(
        (600 * 504 / 640 + 610 * 378 / 480) / 2
    )
