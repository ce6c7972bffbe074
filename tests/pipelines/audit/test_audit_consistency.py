"""Estimators whose disagreement with themselves is known."""

from pathlib import Path

import numpy as np
import pytest

from depthtok.data import Camera, DepthBlock, DepthClip, DepthKind, EpisodeKey, EstimatorSpec
from depthtok.errors import SourceError
from pipelines.audit.altered import ALTERATIONS, AS_IS, CROP, AlteredClip
from pipelines.audit.consistency import SelfConsistency, self_consistency
from pipelines.audit.consistency_table import FLAT, Ran, consistency_audit

SIDE = 40


class Film:
    """A clip of one grey picture per frame."""

    fps = 20.0

    def __init__(self, frames, index=0):
        self._frames = frames
        self.key = EpisodeKey("made", "1", "train", 0, 1, index)
        self.camera = Camera("front", *frames.shape[1:3])

    def __len__(self):
        return len(self._frames)

    def read(self, start, stop):
        return self._frames[start:stop]

    def true_depth(self, start, stop):
        raise AssertionError("nobody asks for it")


class Stub:
    """An estimator that is a function of the frames."""

    spec = EstimatorSpec("stub", DepthKind.DISPARITY, "w")
    device, degraded = "cpu", False

    def __init__(self, function, kind=DepthKind.DISPARITY, block=3):
        self.function, self.kind, self.block = function, kind, block

    def estimate(self, clips):
        for number, clip in enumerate(clips):
            for start in range(0, len(clip), self.block):
                frames = clip.read(start, min(start + self.block, len(clip)))
                grey = frames[..., 0].astype(np.float32)
                yield DepthBlock(number, DepthClip.of(self.function(grey), self.kind))


def film(index=0, frames=5):
    """Smooth pictures, so that resizing loses little; frame by frame the same."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = np.sin(5 * columns + index) + np.cos(4 * rows * columns + 2 * index) + rows
    grey = np.rint(20 + 200 * (waves - waves.min()) / np.ptp(waves)).astype(np.uint8)
    return Film(np.repeat(np.repeat(grey[None, ..., None], 3, -1), frames, 0), index)


def of(function, clips=None, **more):
    return self_consistency(Stub(function, **more), clips or [film()], 5).clips[0]


def test_a_function_of_each_pixel_agrees_with_itself():
    for function, kind in (
        (lambda g: 2 * g + 5, DepthKind.DISPARITY),
        (lambda g: 1 / (g + 1), DepthKind.METRES),
    ):
        clip = of(function, kind=kind)
        assert (clip.mirror, clip.neighbours) == (pytest.approx(0, abs=2e-3), 0)
        assert clip.crop == pytest.approx(0, abs=2e-3)
        assert clip.scale < 0.05  # resizing alone
        assert 0.05 < clip.plane < FLAT


def test_what_left_and_right_do_to_it_is_what_the_mirror_measures():
    """A bow that turns over with the mirror is added: r of both, without their planes, by hand."""
    bow = np.linspace(-1, 1, SIDE, dtype=np.float32) ** 3

    def function(grey):
        wide = np.interp(np.linspace(0, 1, grey.shape[2]), np.linspace(0, 1, SIDE), bow)
        return grey + 90 * wide.astype(np.float32) + 100

    def relief(values):
        rows, columns = np.mgrid[:SIDE, :SIDE]
        terms = np.stack([np.ones(SIDE * SIDE), rows.ravel(), columns.ravel()], 1).astype(float)
        return values.ravel() - terms @ np.linalg.lstsq(terms, values.ravel(), rcond=None)[0]

    grey = film().read(0, 1)[0, ..., 0].astype(float)
    r = np.corrcoef(relief(grey + 90 * bow), relief(grey - 90 * bow))[0, 1]
    assert of(function).mirror == pytest.approx(np.sqrt(1 - r * r), rel=1e-3)


def test_an_answer_that_ignores_the_image_is_said_to_be_a_plane():
    def rows(grey):
        return np.broadcast_to(1 + np.linspace(0, 1, grey.shape[1])[:, None], grey.shape)

    clip = of(rows)
    assert clip.mirror == clip.crop == clip.scale == 1  # it has no relief to agree in
    assert clip.plane == pytest.approx(1, abs=1e-6)
    films = [film(i) for i in range(6)]
    flat = self_consistency(Stub(rows), films, 5)
    good = self_consistency(Stub(lambda g: g + 1), films, 5)
    audit = consistency_audit([Ran("flat", "", "", flat), Ran("good", "", "", good)], Path("page"))
    assert [row.name for row in audit.estimators] == ["good", "flat"]
    assert audit.choice.best == ("good",)
    assert "has not looked at the image" in audit.choice.excluded["flat"]
    assert not audit.weak
    constant = of(np.ones_like)
    assert (constant.mirror, constant.plane) == (1.0, 1.0)


def test_change_where_the_image_stands_still_is_a_share_of_the_spread():
    """Every second frame is 7 higher: neighbours differ by 7."""

    def function(grey):
        return grey + 7 * (np.arange(len(grey)) % 2)[:, None, None].astype(np.float32)

    clip = of(function, block=5)
    values = function(film().read(0, 5)[..., 0].astype(np.float32))
    assert clip.neighbours == pytest.approx(7 / values.std(), rel=1e-4)
    loud = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 1), np.uint8)
    still = np.repeat(loud, 3, -1)
    still[:, :10] = still[0, :10]
    assert of(lambda g: g + 1, [Film(still)]).neighbours < 0.002  # changes of up to 3 elsewhere
    still[:, :, :] = np.arange(4)[:, None, None, None] * 50
    assert of(lambda g: g + 1, [Film(still)]).neighbours is None
    assert of(lambda g: g + 1, [film(frames=1)]).neighbours is None


def test_the_noisier_the_worse_and_the_order_is_found():
    def noisy(size):
        def function(grey):
            seed = int(grey.sum()) % 2**32
            return grey + 50 + np.random.default_rng(seed).normal(0, size, grey.shape)

        return function

    films = [film(i) for i in range(8)]
    ran = [
        Ran(f"n{size}", "", "", self_consistency(Stub(noisy(size)), films, 3))
        for size in (40, 5, 20)
    ]
    audit = consistency_audit(ran, Path("page"))
    assert [row.name for row in audit.estimators] == ["n5", "n20", "n40"]
    assert audit.choice.best == ("n5",)
    demo = [Ran(one.name, "", "a demo's weights", one.result) for one in ran]
    assert "a demo's weights" in consistency_audit(demo, Path("page")).choice.withheld


def test_a_clip_that_fails_is_named():
    class Failing(Stub):
        def estimate(self, clips):
            yield DepthBlock(0, error="bytes changed")

    with pytest.raises(SourceError, match="front, as is: bytes changed"):
        self_consistency(Failing(None), [film()], 3)


def test_alterations_show_the_same_part_of_frames_and_depth():
    clip = film(frames=7)
    for how in ALTERATIONS:
        frames = AlteredClip(clip, how, 2, 3).read(0, 3)
        depth = how.depth(DepthClip.of(clip.read(2, 5)[..., 0], DepthKind.DISPARITY))
        if how.name != "scale":
            np.testing.assert_array_equal(frames[..., 0], depth.values)
    crop = AlteredClip(clip, ALTERATIONS[1], 0, 1).read(0, 1)
    assert crop.shape == (1, round(SIDE * CROP), round(SIDE * CROP), 3)
    assert AlteredClip(clip, ALTERATIONS[2], 0, 1).read(0, 1).shape == (1, 28, 28, 3)
    with pytest.raises(SourceError):
        AlteredClip(clip, ALTERATIONS[0], 0, 1).true_depth(0, 1)


def test_intrinsics_follow_the_altered_frames():
    """A point in front of the camera is at the pixel that the altered frame has of it. Smaller
    frames have fewer pixels of a focal length, cropped ones as many."""
    clip = film()
    clip.intrinsics = np.float32([[30, 0, 19], [0, 32, 21], [0, 0, 1]])
    by_name = {how.name: AlteredClip(clip, how, 1, 2).intrinsics for how in (AS_IS, *ALTERATIONS)}
    np.testing.assert_array_equal(by_name["as is"], clip.intrinsics)
    mirrored, cropped, smaller = (by_name[name] for name in ("mirror", "crop", "scale"))
    np.testing.assert_allclose(mirrored, [[30, 0, 20], [0, 32, 21], [0, 0, 1]])
    np.testing.assert_allclose(cropped, [[30, 0, 14], [0, 32, 16], [0, 0, 1]])
    # The centre of pixel 19 is 19.5 / 40 of the width from the left, as is that of 13.15 of 28.
    np.testing.assert_allclose(smaller, [[21, 0, 13.15], [0, 22.4, 14.55], [0, 0, 1]], rtol=1e-6)
    del clip.intrinsics
    assert AlteredClip(clip, AS_IS, 1, 2).intrinsics is None


def test_speed_is_of_all_frames_that_it_saw():
    result = self_consistency(Stub(lambda g: g + 1), [film(), film(1)], 4)
    assert result.frames == 2 * 4 * 4
    assert SelfConsistency([], 30, 2.0).frames_per_s == 15
