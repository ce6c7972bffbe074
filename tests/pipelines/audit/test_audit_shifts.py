"""Depth that is shifted, by pixels or by a constant of disparity, is named with its amount."""

import numpy as np
import pytest

from depthtok.data import DepthKind
from pipelines.audit.audit import audit
from pipelines.audit.findings import summarise
from pipelines.audit.offset import offset_of
from tests.pipelines.audit.test_audit import pair

METRES, DISPARITY = DepthKind.METRES, DepthKind.DISPARITY


def table(frames=8, height=48, width=64):
    """Metres: a tilted table with boxes of several sizes on it."""
    rows = np.mgrid[:height, :width][0] / height
    depth = np.repeat((2.0 - 0.8 * rows)[None], frames, 0)
    rng = np.random.default_rng(5)
    for box in range(6):
        top, left = rng.integers(4, height - 16), rng.integers(4, width - 16)
        high, wide = rng.integers(4, 11, 2)
        depth[:, top : top + high, left : left + wide] = 0.7 + 0.1 * box
    return depth.astype(np.float32)


@pytest.mark.parametrize(
    ("right", "down", "words"),
    [
        (5, 0, "5 px right"),
        (-4, 3, "4 px left and 3 px down"),
        (0, -3, "3 px up"),
    ],
)
def test_the_shift_of_a_picture_is_found_in_pixels(right, down, words):
    wide = table(height=80, width=96)
    truth = wide[:, 16:-16, 16:-16]
    seen = wide[:, 16 - down : 64 - down, 16 - right : 80 - right]
    clip = audit(pair(3 / seen + 1, DISPARITY, truth=truth))
    assert (clip.offset.right, clip.offset.down) == (right, down)
    assert clip.offset.correlation > 0.8
    (text,) = summarise([clip])[0].wrong
    assert text.startswith(f"in 1 of 1 clips the estimate is shifted by {words} against the truth")


def test_what_is_not_shifted_is_not_named():
    truth = table()
    rng = np.random.default_rng(0)
    noisy = truth * np.exp(rng.normal(0, 0.05, truth.shape))
    turned = truth[:, :, ::-1]
    for seen in (truth, noisy.astype(np.float32), np.roll(truth, 1, axis=2), turned):
        wrong = summarise([audit(pair(1 / seen, DISPARITY, truth=truth))])[0].wrong
        assert not [text for text in wrong if "shifted" in text]


def test_holes_in_the_truth_are_no_steps():
    truth = table()
    truth[:, 10:20, 30:50] = 0
    clip = audit(pair(1 / table(), DISPARITY, truth=truth))
    assert (clip.offset.right, clip.offset.down) == (0, 0)
    assert not clip.offset.clear
    flat, valid = np.ones((2, 16, 16)), np.ones((2, 16, 16), bool)
    assert offset_of(flat, flat, valid) is None
    assert offset_of(truth, truth, np.zeros(truth.shape, bool)) is None


def test_a_shift_at_the_end_of_the_reach_is_none():
    wide = table(height=80, width=128)
    truth, seen = wide[:, 16:-16, 32:-32], wide[:, 16:-16, 32 + 8 : 96 + 8]
    offset = audit(pair(1 / seen, DISPARITY, truth=truth)).offset
    assert (offset.right, offset.at_the_end, offset.clear) == (-8, True, False)


@pytest.mark.parametrize("share", [0.3, -0.2])
def test_a_constant_in_metric_disparity_is_named_with_its_share(share):
    """1/z of the estimate is c + 1/z: relative depth that was read as metres."""
    truth = table()
    mean = float((1 / truth).mean())
    seen = 1 / (1 / truth - share * mean)
    notes = summarise([audit(pair(seen, METRES, truth=truth))])[0].notes
    (note,) = (text for text in notes if "shifted" in text)
    assert f"a factor of it and {share:+.0%} of its mean" in note
    assert not [
        t
        for t in summarise([audit(pair(1 / seen, DISPARITY, truth=truth))])[0].notes
        if "shifted" in t
    ]
    assert not summarise([audit(pair(truth, METRES, truth=truth))])[0].notes
