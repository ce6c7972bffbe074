"""Estimates that are wrong in a known way must be told from those that are right."""

import numpy as np
import pytest

from depthtok.data import DepthClip, DepthKind, EpisodeKey
from depthtok.errors import DepthKindError, SourceError
from pipelines.audit import Pair, audit, dilated, edges, fit_clip
from pipelines.findings import summarise

METRES, DISPARITY = DepthKind.METRES, DepthKind.DISPARITY


def scene(frames=40, side=32):
    """Metres: a tilted floor before a wall, and a box that slides; no symmetry."""
    rows, columns = np.mgrid[:side, :side].astype(np.float32) / side
    depth = np.repeat((2.5 - 1.2 * rows - 0.5 * columns)[None], frames, 0)
    for step in range(frames):
        left = 2 + step % 8
        depth[step, 4:12, left : left + 6] = 0.6
    return depth.astype(np.float32)


def pair(estimated, kind, truth=None, near=None, camera="front"):
    truth = scene() if truth is None else truth
    clips = DepthClip.of(estimated, kind), DepthClip.of(truth, METRES)

    def reader(clip):
        return lambda a, b: DepthClip(clip.values[a:b], clip.valid[a:b], clip.kind)

    key = EpisodeKey("made", "1", "train", 0, 1, 0)
    return Pair(key, camera, len(truth), *map(reader, clips), near)


def found(estimated, kind=DISPARITY, **more):
    (summary,) = summarise([audit(pair(estimated, kind, **more))])
    return summary


def test_scale_and_shift_do_not_matter_and_true_depth_has_no_error():
    for estimated, kind in ((7 / scene() + 3, DISPARITY), (scene(), METRES)):
        clip = audit(pair(estimated, kind))
        assert clip.abs_rel < 1e-5
        assert clip.r2 == pytest.approx(1, abs=1e-6)
        assert (clip.delta1, clip.flicker < 1e-5, clip.edges < 1e-5) == (1, True, True)
        assert 0 < clip.rows < clip.constant
        summary = found(estimated, kind)
        assert not summary.wrong
        assert not summary.notes


def test_the_fit_is_the_least_squares_one():
    rng = np.random.default_rng(0)
    truth = scene()
    estimated = (2 / truth + 1 + rng.normal(0, 0.1, truth.shape)).astype(np.float32)
    fit = fit_clip(pair(estimated, DISPARITY))
    x = np.stack([estimated.ravel(), np.ones(estimated.size)], 1).astype(float)
    expected = np.linalg.lstsq(x, (1 / truth).ravel(), rcond=None)[0]
    np.testing.assert_allclose((fit.scale, fit.shift), expected, rtol=1e-5)


@pytest.mark.parametrize("wrong", ["mirrored left to right", "flipped upside down", "rotated by"])
def test_turned_depth_is_flagged(wrong):
    turn = {
        "mirrored": np.s_[:, :, ::-1],
        "flipped": np.s_[:, ::-1],
        "rotated": np.s_[:, ::-1, ::-1],
    }
    summary = found(1 / scene()[turn[wrong.split()[0]]])
    assert [wrong in text for text in summary.wrong] == [True]


@pytest.mark.parametrize(("kind", "values"), [(DISPARITY, scene()), (METRES, 1 / scene())])
def test_disparity_taken_for_depth_and_the_reverse_are_flagged(kind, values):
    summary = found(values, kind)
    assert [text for text in summary.wrong if "near and far are swapped" in text]


def test_swapped_and_mirrored_at_once_are_both_said():
    told = " ".join(found(scene()[:, :, ::-1]).wrong)
    assert "swapped" in told
    assert "mirrored" in told


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        (100, "estimated depth is about 100 times the true one: centimetres"),
        (0.01, "true depth is about 100 times the estimated one: centimetres"),
        (1000, "millimetres"),
        (1.4, None),
    ],
)
def test_another_unit_is_flagged(factor, told):
    wrong = found(scene() * np.float32(factor), METRES).wrong
    assert (told in wrong[0]) if told else not wrong


def test_depth_that_knows_only_rows_is_noted():
    rows = (1 / scene()).mean(axis=(0, 2), keepdims=True)
    summary = found(np.broadcast_to(rows, scene().shape))
    assert [note for note in summary.notes if "mean depth of each row" in note]
    assert not summary.wrong


def test_flicker_counts_changes_where_the_truth_is_still():
    still = np.repeat(scene()[:1], 40, 0)
    calm = audit(pair(1 / still, DISPARITY, truth=still))
    wave = np.where(np.arange(40) % 2, 1.02, 0.98).astype(np.float32)[:, None, None]
    nervous = audit(pair(wave / still, DISPARITY, truth=still))
    assert calm.flicker == pytest.approx(0, abs=1e-6)
    assert 0.02 < nervous.flicker < 0.06


def test_errors_at_edges_and_near_the_gripper_are_of_those_pixels():
    truth = scene()
    spoiled = truth.copy()
    marks = np.zeros(truth.shape, bool)
    marks[:, 20:28, 20:28] = True
    spoiled[marks] *= 1.1
    near = lambda a, b: marks[a:b]  # noqa: E731
    clip = audit(pair(1 / spoiled, DISPARITY, near=near))
    assert clip.gripper > 5 * clip.abs_rel
    assert audit(pair(1 / truth, DISPARITY)).gripper is None
    found_edges = edges(truth[:1], np.ones((1, 32, 32), bool))[0]
    assert found_edges[4, 5]
    assert not found_edges[25].any()


def test_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    estimated = (1 / scene() + rng.normal(0, 0.1, scene().shape)).astype(np.float32)
    first = audit(pair(estimated, DISPARITY))
    monkeypatch.setattr("pipelines.audit.BLOCK", 7)
    other = audit(pair(estimated, DISPARITY))
    for name in ("abs_rel", "rmse_m", "flicker", "edges", "rows"):
        assert getattr(first, name) == pytest.approx(getattr(other, name), rel=1e-5)


def test_invalid_pixels_count_nowhere_and_sizes_may_differ():
    truth = scene()
    truth[:, :5] = 0
    estimated = 1 / scene()
    estimated[:, :5] = 1e4
    assert audit(pair(estimated, DISPARITY, truth=truth)).abs_rel < 1e-5
    small = 1 / scene()[:, ::2, ::2]
    assert audit(pair(small, DISPARITY, truth=truth)).abs_rel < 0.1
    with pytest.raises(SourceError, match="no pixel"):
        audit(pair(estimated, DISPARITY, truth=np.zeros_like(truth)))
    one = pair(estimated, DISPARITY)
    with pytest.raises(DepthKindError):
        audit(Pair(one.key, one.camera, one.frames, one.estimated, one.estimated))


def test_a_constant_estimate_is_a_constant():
    clip = audit(pair(np.ones_like(scene()), DISPARITY))
    assert clip.abs_rel == pytest.approx(clip.constant, rel=1e-5)
    assert clip.r2 == 0


def test_dilated_reaches_so_far():
    marks = np.zeros((1, 9, 9), bool)
    marks[0, 4, 4] = True
    assert dilated(marks, 2).sum() == 13
