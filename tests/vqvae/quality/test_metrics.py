from __future__ import annotations

import numpy as np
import pytest

from vqvae.quality import metrics


def full(value, shape=(1, 8, 8)):
    return np.full(shape, value, np.float32)


def test_depth_errors_are_over_pixels():
    errors = metrics.DepthErrors()
    everywhere = np.ones((1, 8, 8), bool)
    errors.add(full(1.1), full(1.0), everywhere)
    errors.add(full(2.0), full(2.0), everywhere)
    figures = errors.report()
    assert figures["abs_rel"] == pytest.approx(0.05, rel=1e-5)
    assert figures["rmse_m"] == pytest.approx(np.sqrt(0.005), rel=1e-5)
    assert figures["delta_1_25"] == 1.0
    assert figures["delta_1_05"] == 0.5


def test_masked_pixels_take_no_part():
    errors = metrics.DepthErrors()
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 0, 0] = True
    predicted = full(9.0)
    predicted[0, 0, 0] = 1.0
    errors.add(predicted, full(1.0), mask)
    assert errors.report() == {
        "abs_rel": 0.0,
        "rmse_m": 0.0,
        "delta_1_25": 1.0,
        "delta_1_05": 1.0,
        "pixels": 1,
    }


def step_image(column: int, low=1.0, high=2.0):
    image = full(low, (1, 16, 16))
    image[:, :, column:] = high
    return image


def test_edges_are_found_with_a_tolerance_of_one_pixel():
    valid = np.ones((1, 16, 16), bool)
    true = metrics.edges_metres(step_image(8), valid)
    assert true.sum() == 16
    assert true[0, :, 7].all()
    for column, f1 in ((8, 1.0), (9, 1.0), (11, 0.0)):
        score = metrics.EdgeScore()
        score.add(metrics.edges_metres(step_image(column), valid), true)
        assert score.report()["edge_f1"] == f1, column


def test_an_edge_in_metres_is_a_ratio_and_needs_both_neighbours_valid():
    valid = np.ones((1, 16, 16), bool)
    assert not metrics.edges_metres(step_image(8, 1.0, 1.09), valid).any()
    assert metrics.edges_metres(step_image(8, 1.0, 1.11), valid).any()
    valid[:, :, 7] = False
    assert not metrics.edges_metres(step_image(8), valid).any()
    assert not metrics.edges_disparity(step_image(8, 0.5, 0.54), np.ones_like(valid)).any()


def test_perplexity_of_even_use_is_the_number_of_codes():
    use = metrics.CodeUse.of(256)
    use.add(np.arange(64, dtype=np.uint8).reshape(1, 8, 8))
    figures = use.report()
    assert figures["used"] == 64
    assert figures["perplexity"] == pytest.approx(64)
    assert figures["distinct_per_frame"] == 64


def test_flips_are_counted_where_depth_stood_still():
    values = np.ones((2, 64, 64), np.float32)
    values[1, :8, :8] += 0.1  # cell (0, 0) moved, so its two rings are not far
    codes = np.zeros((2, 8, 8), np.uint8)
    codes[1, 0, 0] = codes[1, 1, 1] = codes[1, 7, 7] = 5
    flips = metrics.Flips(0.002)
    flips.add(values, np.ones_like(values, bool), codes)
    figures = flips.report()
    assert figures["static"] == 2 / 63
    assert figures["far"] == 1 / 55


def test_a_pixel_that_loses_its_depth_has_moved():
    values = np.ones((2, 16, 16), np.float32)
    valid = np.ones(values.shape, bool)
    valid[1, 0, 0] = False
    flips = metrics.Flips(0.002)
    flips.add(values, valid, np.zeros((2, 2, 2), np.uint8))
    assert flips.report()["static_cells"] == 3


@pytest.mark.parametrize("depth", [0.2, 0.5, 1.0, 1.7, 3.0])
def test_a_change_of_exactly_the_threshold_is_a_change(depth):
    flips = metrics.Flips(0.002)
    values = np.full((2, 16, 16), depth, np.float32)
    values[1] += np.float32(0.002)
    flips.add(values, np.ones(values.shape, bool), np.zeros((2, 2, 2), np.uint8))
    assert flips.report()["static_cells"] == 0
