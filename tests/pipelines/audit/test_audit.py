"""Estimates that are wrong in a known way must be told from those that are right."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from depthtok.data import DepthClip, DepthKind, EpisodeKey
from depthtok.errors import DepthKindError, SourceError
from depthtok.orientation import Orientation
from pipelines.audit.audit import Pair, audit, fit_clip
from pipelines.audit.findings import summarise
from pipelines.audit.height import Rays
from pipelines.audit.regions import dilated, edges
from pipelines.audit.scale import interval

METRES, DISPARITY = DepthKind.METRES, DepthKind.DISPARITY


def scene(frames=40, side=32):
    """Metres: a tilted floor before a wall, and a box that slides; no symmetry."""
    rows, columns = np.mgrid[:side, :side].astype(np.float32) / side
    depth = np.repeat((2.5 - 1.2 * rows - 0.5 * columns)[None], frames, 0)
    for step in range(frames):
        column = 2 + step % 8
        depth[step, 4:12, column : column + 6] = 0.6
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
        assert 0 < clip.plane < clip.constant
        summary = found(estimated, kind)
        assert not summary.wrong
        assert not summary.weak
        assert [text[:21] for text in summary.notes] == (
            ["scale is not testable"] if kind is DISPARITY else []
        )


def test_the_fit_is_the_least_squares_one():
    rng = np.random.default_rng(0)
    truth = scene()
    estimated = (2 / truth + 1 + rng.normal(0, 0.1, truth.shape)).astype(np.float32)
    fit, _ = fit_clip(pair(estimated, DISPARITY))
    x = np.stack([estimated.ravel(), np.ones(estimated.size)], 1).astype(float)
    expected = np.linalg.lstsq(x, (1 / truth).ravel(), rcond=None)[0]
    np.testing.assert_allclose((fit.scale, fit.shift), expected, rtol=1e-5)


def test_relative_depth_is_fitted_in_depth():
    """A shift of depth is no shift of disparity: fitted there, it would leave an error."""
    clip = audit(pair(3 * scene() + 2, DepthKind.RELATIVE_DEPTH))
    assert clip.fit.in_depth
    np.testing.assert_allclose((clip.fit.scale, clip.fit.shift), (1 / 3, -2 / 3), rtol=1e-5)
    assert clip.abs_rel < 1e-5
    assert clip.r2 == pytest.approx(1, abs=1e-6)
    assert clip.turned["upright"] == pytest.approx(1)
    summary = found(3 * scene() + 2, DepthKind.RELATIVE_DEPTH)
    assert not summary.wrong
    assert "the estimate is relative depth" in summary.notes[0]
    assert found(9 - scene(), DepthKind.RELATIVE_DEPTH).wrong[0].startswith("near and far are swap")


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


def test_what_fits_in_no_orientation_has_none_that_is_wrong():
    """A faint likeness of the mirrored scene, of which the eye would see nothing."""
    noise = np.random.default_rng(0).normal(size=scene().shape)
    mirrored = 1 / scene()[:, :, ::-1]
    summary = found((mirrored + 8 * mirrored.std() * noise).astype(np.float32))
    assert not [text for text in summary.wrong if "mirrored" in text]
    (note,) = [text for text in summary.notes if "orientation is not testable" in text]
    assert "correlation 0.1" in note


def test_swapped_and_mirrored_at_once_are_both_said():
    message = " ".join(found(scene()[:, :, ::-1]).wrong)
    assert "swapped" in message
    assert "mirrored" in message


MIXED_UP = [
    # stored units in a metre, taken for units in a metre, and how that is said
    (10000, 1000, "0.1 mm read as mm in the estimate, or mm read as 0.1 mm in the truth"),
    (1000, 10000, "mm read as 0.1 mm in the estimate, or 0.1 mm read as mm in the truth"),
    (5000, 1000, "m/5000 read as mm"),
    (1000, 5000, "mm read as m/5000"),
    (10000, 5000, "0.1 mm read as m/5000"),
    (100, 1, "cm read as m"),
    (1, 100, "m read as cm"),
    (1000, 1, "mm read as m"),
    (1024, 1, "m/1024 read as m in"),
    (1024, 1000, "m/1024 read as mm"),
    (1000, 1024, "mm read as m/1024"),
    (100, 1000, "cm read as mm"),
]


@pytest.mark.parametrize(("stored", "taken", "told"), MIXED_UP)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_unit_taken_for_another_is_named_with_its_factor(stored, taken, told, noise):
    rng = np.random.default_rng(2)
    truth, factor = scene(), stored / taken
    estimated = truth * factor * np.exp(rng.normal(0, noise, truth.shape))
    summary = found(estimated.astype(np.float32), METRES)
    assert summary.scale.factor == pytest.approx(factor, rel=0.01)
    (text,) = summary.wrong
    assert text.startswith(f"in 1 of 1 clip estimated depth is {summary.scale.factor:#.4g} times (")
    assert told in text
    assert audit(pair(estimated, METRES)).abs_rel < 0.1  # the alignment hides it


@pytest.mark.parametrize(
    ("factor", "wrong"),
    [
        (1.0, False),
        (1.01, False),
        (1.1, False),
        (0.9, False),
        (1.2, False),
        (0.82, False),
        (1.3, True),
        (0.75, True),
        (1.7, True),
        (37.0, True),
    ],
)
def test_any_other_scale_is_named_beyond_what_networks_are_off_by(factor, wrong):
    summary = found((scene() * factor).astype(np.float32), METRES)
    assert len(summary.wrong) == wrong
    assert not wrong or "which no unit known here explains" in summary.wrong[0]
    assert not summary.notes


def test_a_scale_that_differs_over_the_image_is_not_certain():
    """Half of the image is right, half of it is three times too far: no single factor is wrong."""
    estimated = scene()
    estimated[:, :, 16:] *= 3
    scale = audit(pair(estimated, METRES)).scale
    assert scale.low < 1.001
    assert scale.high > 2.9
    assert not scale.wrong


def test_the_clips_that_are_wrong_are_named_one_by_one():
    """Six in 0.1 mm and one in mm, all read as 0.1 mm: the median of the camera is right."""
    clips = [audit(pair(scene(), METRES)) for _ in range(6)]
    odd = audit(replace(pair(scene() / 10, METRES), key=replace(clips[0].key, index=6)))
    (summary,) = summarise([*clips, odd])
    assert summary.scale.factor == pytest.approx(1)
    (text,) = summary.wrong
    assert text.startswith(
        "in 1 of 7 clips estimated depth is 0.1000 times (0.1000 to 0.1000) the true one"
    )
    assert "mm read as 0.1 mm in the estimate" in text
    assert str(odd.key) in text
    two = summarise([*clips, odd, audit(pair(scene() * 2, METRES))])[0].wrong
    assert [t.split(" the true")[0].split("depth is ")[1] for t in two] == [
        "0.1000 times (0.1000 to 0.1000)",
        "2.000 times (2.000 to 2.000)",
    ]


def test_the_interval_of_tens_of_thousands_of_clips_is_that_of_a_normal_distribution():
    low, high = interval(50_000)
    expected = 25_000 - 1.96 * 50_000**0.5 / 2  # the normal distribution's
    assert (abs(low - expected) < 2, low + high) == (True, 49_999)


@pytest.mark.parametrize(
    ("count", "ranks"), [(1, (0, 0)), (5, (0, 4)), (6, (0, 5)), (9, (1, 7)), (16, (3, 12))]
)
def test_the_interval_of_a_median_is_of_order_statistics(count, ranks):
    assert interval(count) == ranks
    if count > 5:
        drawn = np.sort(np.random.default_rng(0).normal(size=(20000, count)), axis=1)
        covered = ((drawn[:, ranks[0]] < 0) & (drawn[:, ranks[1]] > 0)).mean()
        assert covered > 0.95
        inner = ((drawn[:, ranks[0] + 1] < 0) & (drawn[:, ranks[1] - 1] > 0)).mean()
        assert inner < 0.95


def test_where_the_estimate_has_no_scale_that_is_said_and_the_truth_is_held_against_the_scene():
    """0.1 mm read as mm in the truth: no error shows it, and nothing pretends to have looked."""
    truth = scene() * 10
    summary = found(1 / scene(), DISPARITY, truth=truth)
    assert not summary.wrong
    assert summary.scale is None
    (note,) = summary.notes
    assert note.startswith("scale is not testable: the estimate is disparity")
    assert "the median true depth is 16.2 m; the intrinsics are not known" in note
    matrix = np.float32([[64, 0, 32], [0, 64, 16], [0, 0, 1]])
    rays = Rays.of(matrix, (32, 64), (32, 32), Orientation.IDENTITY)
    (note,) = summarise([audit(replace(pair(1 / scene(), DISPARITY, truth=truth), rays=rays))])[
        0
    ].notes
    assert "the image is 16.2 m wide and 8.1 m high, by the camera's intrinsics" in note
    assert "`--camera-height front=METRES` tests it" in note


def tilted(orientation, height_m=0.7, pitch=0.6, stored=(24, 48), published=(96, 96)):
    """Depth of a table seen from above at an angle, with a box on it, in the published view."""
    matrix = np.float32([[100, 0, 40], [0, 110, 56], [0, 0, 1]])
    rays = Rays.of(matrix, published, stored, Orientation.IDENTITY)
    down = rays.v[:, None] * np.cos(pitch) + np.sin(pitch) + 0 * rays.u
    depth = (height_m / down).astype(np.float32)
    depth[4:12, 30:44] *= 0.8
    depth += np.random.default_rng(1).normal(0, 0.001, depth.shape).astype(np.float32)
    if orientation in ("mirror", "rotate180"):
        depth = depth[:, ::-1]
    if orientation in ("flip", "rotate180"):
        depth = depth[::-1]
    return depth, Rays.of(matrix, published, stored, orientation)


@pytest.mark.parametrize("orientation", ["identity", "mirror", "flip", "rotate180"])
@pytest.mark.parametrize(
    ("factor", "told"), [(1, None), (10, "0.1 mm read as mm"), (0.2, "m/5000")]
)
def test_a_cameras_height_tests_the_truth_where_the_estimate_has_no_scale(
    orientation, factor, told
):
    depth, rays = tilted(Orientation(orientation))
    truth = np.repeat(depth[None], 9, 0) * np.float32(factor)
    one = replace(pair(1 / truth, DISPARITY, truth=truth), rays=rays, height_m=0.7)
    clip = audit(one)
    assert clip.height.factor == pytest.approx(factor, rel=0.01)
    (summary,) = summarise([clip])
    assert "what the camera's height says, over 1 clips" in summary.notes[0]
    assert [told in text for text in summary.wrong] == ([True] if told else [])
    assert summary.wrong_unit == summary.wrong
    assert summary.height.factor == pytest.approx(factor, rel=0.01)
    assert not told or "true depth is" in summary.wrong[0]


def test_an_image_without_a_plane_tests_nothing():
    depth, rays = tilted(Orientation.IDENTITY)
    rough = np.random.default_rng(3).uniform(0.3, 3, (9, *depth.shape)).astype(np.float32)
    one = replace(pair(1 / rough, DISPARITY, truth=rough), rays=rays, height_m=0.7)
    assert audit(one).height is None


@pytest.mark.parametrize(("factor", "wrong"), [(1, False), (10, False), (100, True), (0.01, True)])
@pytest.mark.parametrize("kind", [DISPARITY, METRES])
def test_true_depth_that_no_robot_sees_is_named_whatever_the_estimate(factor, wrong, kind):
    truth = scene() * np.float32(factor)
    messages = found(truth if kind is METRES else 1 / truth, kind, truth=truth).wrong
    assert len(messages) == wrong
    if wrong:
        assert "not within the 0.05 to 20 m of a robot's camera" in messages[0]
        assert "depth_unit" in messages[0]


def test_swapped_depth_has_no_scale_to_test():
    summary = found(1 / scene(), METRES)
    assert [text.split(":")[0] for text in summary.wrong] == ["near and far are swapped"]
    assert summary.notes[0].startswith("scale was not tested")


def test_the_plane_is_the_least_squares_one_over_valid_pixels():
    truth = scene()
    truth[:, 20:, :9] = 0
    plane = fit_clip(pair(1 / scene(), DISPARITY, truth=truth))[1].plane
    frame, row, column = np.nonzero(truth)
    terms = np.stack([np.ones(len(row)), row, column], 1).astype(float)
    y = 1 / truth[frame, row, column].astype(float)
    weights = np.linalg.lstsq(terms, y, rcond=None)[0]
    rows, columns = np.mgrid[:32, :32]
    expected = weights[0] + weights[1] * rows + weights[2] * columns
    np.testing.assert_allclose(plane, np.clip(expected, y.min(), y.max()), rtol=1e-5)


def test_depth_that_knows_only_rows_is_worse_than_a_plane():
    truth = (scene() + 2 * np.mgrid[:32, :32][1] / 32).astype(np.float32)  # far on the right
    rows = (1 / truth).mean(axis=(0, 2), keepdims=True)
    summary = found(np.broadcast_to(rows, truth.shape), truth=truth)
    assert [note for note in summary.notes if "no better than the mean depth of each row" in note]
    assert ["worse than the best plane" in text for text in summary.weak] == [True]
    assert not summary.wrong


def test_depth_that_knows_a_plane_is_as_good_as_that():
    plane = fit_clip(pair(1 / scene(), DISPARITY))[1].plane
    summary = found(np.broadcast_to(plane, scene().shape).astype(np.float32))
    assert not [text for text in summary.weak if "plane" in text]
    assert [note for note in summary.notes if "no better than the best plane" in note]


def test_noise_is_worse_than_both():
    noise = np.random.default_rng(0).random(scene().shape, np.float32)
    assert len(found(noise).weak) == 2


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
    monkeypatch.setattr("pipelines.audit.audit.BLOCK", 7)
    other = audit(pair(estimated, DISPARITY))
    for name in ("abs_rel", "rmse_m", "flicker", "edges", "rows"):
        assert getattr(first, name) == pytest.approx(getattr(other, name), rel=1e-5)


def test_what_a_clip_leaves_in_memory_does_not_grow_with_its_image():
    sizes = [
        len(pickle.dumps(audit(pair(1 / truth, DISPARITY, truth=truth))))
        for truth in (scene(8, 32), scene(8, 96))
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


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
