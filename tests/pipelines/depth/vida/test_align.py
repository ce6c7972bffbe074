import numpy as np
import pytest
import torch

from pipelines.depth.windows.align import Stitcher, fit
from pipelines.depth.windows.plan import plan


def test_fit_recovers_scale_and_shift():
    x = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)) + 20
    scale, shift = fit(x, 0.3 * x - 2)
    assert scale.item() == pytest.approx(0.3, abs=1e-5)
    assert shift.item() == pytest.approx(-2, abs=1e-4)


def test_a_constant_window_is_left_as_it_is():
    assert fit(torch.full((2, 4, 4), 0.7), torch.rand(2, 4, 4)).tolist() == [1, 0]


@pytest.mark.parametrize("frames", [1, 22, 25, 26, 33, 48, 70, 115])
def test_windows_of_one_truth_give_it_back(frames):
    """Each window sees the truth through its own scale and shift; the clip has the first's."""
    truth = torch.rand(frames, 5, 6, generator=torch.Generator().manual_seed(1)) + 1
    stitcher, parts = Stitcher(align=True), []
    for window in plan(frames, align=True):
        visible = truth[[window.frames[slot] for slot in window.needed]]
        scale, shift = (1.0, 0.0) if window.index == 0 else (0.5 + window.index, 3.0)
        parts.append(stitcher.add(window, (visible - shift) / scale))
        assert len(parts[-1]) == window.final[1] - window.final[0]
    torch.testing.assert_close(torch.cat(parts), truth, rtol=0, atol=1e-5)


def test_overlaps_are_blended_from_one_window_to_the_next():
    frames = 40
    first, second = plan(frames, align=False)
    stitcher = Stitcher(align=False)
    out = torch.cat(
        [
            stitcher.add(first, torch.zeros(len(first.needed), 1, 1)),
            stitcher.add(second, torch.ones(len(second.needed), 1, 1)),
        ]
    ).flatten()
    expected = np.concatenate((np.zeros(24), np.arange(8) / 7, np.ones(8)))
    np.testing.assert_allclose(out, expected, atol=1e-7)


def test_fitted_depth_is_not_negative():
    stitcher = Stitcher(align=True)
    for window in plan(30, align=True):
        depth = torch.linspace(0, 1, 4).view(1, 2, 2).repeat(len(window.needed), 1, 1)
        if window.index:
            depth[3:] = -50
        assert (stitcher.add(window, depth) >= 0).all()
