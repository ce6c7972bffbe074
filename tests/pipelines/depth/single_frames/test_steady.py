"""Temporal alignment, against jitter of scale and shift that is known."""

import numpy as np
import pytest

from depthtok.data import DepthBlock, DepthClip, DepthKind
from pipelines.depth.single_frames.fits import fit_all, fit_to, flicker_of
from pipelines.depth.single_frames.steady import Steadiness, aligned, steadied

FRAMES, SIDE = 60, 40


def scene(frames=FRAMES):
    """Disparity of a wall and a floor that stand still, and a box that moves in front of them."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    disparity = np.repeat((0.4 + 0.5 * rows + 0.2 * np.sin(6 * columns))[None], frames, 0)
    for step in range(frames):
        left = step % (SIDE - 12)
        disparity[step, 10:24, left : left + 12] = 1.6
    return disparity


def jitter(frames=FRAMES, seed=0):
    generator = np.random.default_rng(seed)
    return np.stack(
        [generator.uniform(0.7, 1.4, frames), generator.uniform(0.0, 0.3, frames)], axis=1
    )


def jittered(disparity, fits):
    return disparity * fits[:, :1, None] + fits[:, 1:, None]


def run(clip, mode, chunk=4):
    """A clip through the alignment in chunks; its frames, and the figures."""
    steadiness = Steadiness(mode)
    starts = range(0, len(clip), chunk)

    def blocks():
        for start in starts:
            some = np.s_[start : start + chunk]
            part = DepthClip(clip.values[some], clip.valid[some], clip.kind, shift=clip.shift)
            yield DepthBlock(0, part), start + chunk >= len(clip)

    depth = [block.depth for block in steadied(blocks(), steadiness)]
    return np.concatenate([part.values for part in depth]), steadiness


def test_known_jitter_is_taken_out_of_a_whole_clip():
    truth, fits = scene(), jitter()
    clip = DepthClip.of(jittered(truth, fits), DepthKind.DISPARITY)
    values, steadiness = run(clip, "clip")
    scale, shift = np.polyfit(truth.ravel(), values.ravel(), 1)  # one for all frames
    assert np.abs(values - (scale * truth + shift)).max() < 0.005 * np.ptp(values)
    assert scale == pytest.approx(np.median(fits[:, 0]), rel=0.1)
    figures = steadiness.take()
    assert (figures["clips"], figures["pairs"], figures["mode"]) == (1, FRAMES - 1, "clip")
    assert figures["flicker_before"] > 0.1
    assert figures["flicker_after"] < 0.003
    assert steadiness.take()["pairs"] == 0


def test_known_jitter_becomes_a_slow_mean_where_only_the_past_is_known():
    truth, fits = scene(), jitter()
    clip = DepthClip.of(jittered(truth, fits), DepthKind.DISPARITY)
    values, steadiness = run(clip, "causal")
    scale, shift = 1.0, 0.0
    for step in range(FRAMES):
        if step:  # what brings this frame to the last one is known: their jitters' quotient
            ratio = fits[step - 1, 0] / fits[step, 0]
            offset = fits[step - 1, 1] - ratio * fits[step, 1]
            scale, shift = (scale * ratio) ** 0.98, (scale * offset + shift) * 0.98
        expected = scale * clip.values[step] + shift
        assert np.abs(values[step] - expected).max() < 0.01 * np.ptp(expected), step
    figures = steadiness.take()
    assert figures["flicker_before"] > 0.1
    assert figures["flicker_after"] < 0.1 * figures["flicker_before"]


@pytest.mark.parametrize("mode", ["causal", "clip"])
def test_what_does_not_flicker_stays(mode):
    clip = DepthClip.of(scene(), DepthKind.DISPARITY)
    values, _ = run(clip, mode)
    assert np.abs(values - clip.values).max() < 1e-4


def test_off_changes_nothing():
    clip = DepthClip.of(jittered(scene(), jitter()), DepthKind.DISPARITY)
    values, steadiness = run(clip, "off")
    assert np.array_equal(values, clip.values)
    assert steadiness.pairs == 0


@pytest.mark.parametrize("mode", ["causal", "clip"])
def test_noise_does_not_shrink_a_long_clip(mode):
    """Least squares of each frame on noisy ones before would: by 1 / (1 + noise) each time."""
    generator = np.random.default_rng(1)
    noise = generator.normal(0, 0.03, (400, SIDE, SIDE))
    clip = DepthClip.of(scene(400) + noise, DepthKind.DISPARITY)
    values, _ = run(clip, mode)
    assert values[-1].std() == pytest.approx(clip.values[-1].std(), rel=0.03)


@pytest.mark.parametrize("kind", [DepthKind.METRES, DepthKind.RELATIVE_DEPTH])
@pytest.mark.parametrize("mode", ["causal", "clip"])
def test_distances_are_aligned_in_disparity_and_stay_distances(kind, mode):
    shift = 0.2 if kind is DepthKind.RELATIVE_DEPTH else 0.0
    disparity = jittered(scene(), jitter() * (1, 0.2))
    clip = DepthClip.of(1 / disparity - shift, kind, shift=shift)
    assert clip.valid.all()
    values, steadiness = run(clip, mode)
    of_disparity, _ = run(DepthClip.of(disparity, DepthKind.DISPARITY), mode)
    np.testing.assert_allclose(1 / (values + shift), of_disparity, rtol=1e-3)
    assert steadiness.after < 0.1 * steadiness.before


def test_chunks_do_not_reach_the_bytes():
    clip = DepthClip.of(jittered(scene(), jitter()), DepthKind.DISPARITY)
    for mode in ("causal", "clip"):
        expected = run(clip, mode, chunk=1)[0]
        assert all(np.array_equal(run(clip, mode, chunk)[0], expected) for chunk in (7, 60))


def test_invalid_pixels_stay_invalid_and_teach_nothing():
    truth, fits = scene(), jitter()
    values = jittered(truth, fits)
    valid = np.ones(values.shape, bool)
    valid[:, :8] = False
    values[:, :8] = 50.0
    clip = DepthClip.of(values, DepthKind.DISPARITY, valid)
    for mode in ("causal", "clip"):
        steady, steadiness = run(clip, mode)
        assert (steady[:, :8] == 0).all()
        assert steadiness.after < 0.1 * steadiness.before
    nothing = DepthClip.of(values, DepthKind.METRES, np.zeros_like(valid))
    assert (run(nothing, "clip")[0] == 0).all()
    assert (run(nothing, "causal")[0] == 0).all()


def test_a_clip_that_fails_says_so_and_the_next_begins_anew():
    clip = DepthClip.of(scene(4), DepthKind.DISPARITY)
    blocks = [
        (DepthBlock(0, clip), False),
        (DepthBlock(0, error="broken"), True),
        (DepthBlock(1, clip), True),
    ]
    for mode in ("causal", "clip"):
        out = list(steadied(iter(blocks), Steadiness(mode)))
        assert [block.error for block in out if block.error] == ["broken"]
        last = [block for block in out if block.clip == 1]
        assert np.abs(last[0].depth.values - clip.values).max() < 1e-6


def test_the_fit_is_the_inverse_of_what_was_done_despite_outliers():
    generator = np.random.default_rng(0)
    reference = generator.uniform(0.2, 2.0, 500)
    frame = (reference - 0.3) / 2.5
    frame[:200] = generator.uniform(0, 3, 200)  # 40 % of it moved
    np.testing.assert_allclose(fit_to(frame, reference), (2.5, 0.3), atol=1e-4)
    assert fit_to(np.full(500, 1.0), reference).tolist() == [1, 0]
    assert fit_to(frame[:8], reference[:8]).tolist() == [1, 0]
    fits = fit_all(np.stack([reference * 100, reference * 100 + 7, reference * 50]))
    np.testing.assert_allclose(fits, [(1, 0), (1, -7), (2, 0)], atol=1e-3)


def test_flicker_is_a_share_of_the_range():
    frame = np.linspace(0, 1, 101)
    assert flicker_of(frame, frame + 0.09) == pytest.approx(0.1)
    assert flicker_of(frame[:4], frame[:4]) == 0


def test_distances_stay_within_twice_what_the_frame_had():
    clip = DepthClip.of(np.float32([[[1.0, 4.0]]]), DepthKind.METRES)
    behind = aligned(clip, np.array([(1.0, -10.0)]))
    assert behind.values.tolist() == [[[8.0, 8.0]]]
    near = aligned(clip, np.array([(1.0, 10.0)]))
    assert near.values.tolist() == [[[0.5, 0.5]]]
