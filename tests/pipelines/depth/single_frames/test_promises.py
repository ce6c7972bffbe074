"""Classes of other packages that do not do what they promise: each fault has its name, and ends the
clip or the job that it is of."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch

from depthtok.data import DepthBlock, DepthClip, DepthKind, EstimatorSpec
from depthtok.errors import ConfigError, CorruptRecord
from pipelines.depth import outside
from pipelines.depth.vida.config import RunConfig
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip

CPU = torch.device("cpu")


class Frames:
    """Depth of frames; the third call raises, or the answer is spoiled by `spoil`."""

    kind, licence = "disparity", "MIT"

    def __init__(self, weights, device):
        self.calls = 0

    def depth(self, frames):
        self.calls += 1
        return self.spoil(frames[..., 0].astype(np.float32) + 1)

    def spoil(self, values):
        return values


class Raising(Frames):
    def spoil(self, values):
        if self.calls == 3:
            raise RuntimeError("boom\nand more")
        return values


class NoMemory(Frames):
    def spoil(self, values):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")


class Ragged(Frames):
    def spoil(self, values):
        return [[1, 2], [3]]


class Text(Frames):
    def spoil(self, values):
        return values.astype(str)


class Complex(Frames):
    def spoil(self, values):
        return values * 1j


class Tensors(Frames):
    def spoil(self, values):
        return torch.from_numpy(values).to(torch.bfloat16).requires_grad_()


class Flipped(Frames):
    """Smaller than the frames, and a view of an array in another order."""

    def spoil(self, values):
        return values[:, ::-2, ::-2]


class ReadOnly(Frames):
    def spoil(self, values):
        return np.broadcast_to(values[:, :1, :1], (len(values), 3, 4))


class Negative(Frames):
    def spoil(self, values):
        return np.where(values > values.mean(), values, -values)


class NoFunction:
    depth = 3

    def __init__(self, weights, device):
        pass


class NotMade(Frames):
    def __init__(self):
        pass


class Video:
    """One block a clip: red as metres. `spoil` makes other blocks of them."""

    licence, device, degraded = "MIT", "cpu", False
    spec = EstimatorSpec("a name of its own", DepthKind.METRES, "")

    def __init__(self, weights, device):
        pass

    def estimate(self, clips):
        yield from self.spoil([self.block(*one) for one in enumerate(clips)])

    def block(self, number, clip, stop=None, kind=DepthKind.METRES):
        values = clip.read(0, len(clip))[:stop, ..., 0].astype(np.float32) + 1
        return DepthBlock(number, DepthClip.of(values, kind))

    def spoil(self, blocks):
        return blocks


class Small(Video):
    def spoil(self, blocks):
        for block in blocks:
            values = block.depth.values[:, ::2, ::2]
            yield DepthBlock(block.clip, DepthClip.of(values, DepthKind.METRES))


class SmallByFrames(Video):
    """A block a frame; those of clips of two frames are too small."""

    def spoil(self, blocks):
        for block in blocks:
            step = 2 if len(block.depth) == 2 else 1
            for frame in block.depth.values[:, None, ::step, ::step]:
                yield DepthBlock(block.clip, DepthClip.of(frame, DepthKind.METRES))


class Twice(Video):
    def spoil(self, blocks):
        yield from (block for block in blocks for _ in range(2))


class Backwards(Video):
    def spoil(self, blocks):
        return reversed(blocks)


class OtherKind(Video):
    def block(self, number, clip):
        return super().block(number, clip, kind=DepthKind.DISPARITY)


class Arrays(Video):
    def spoil(self, blocks):
        return (block.depth.values for block in blocks)


class TooFew(Video):
    def spoil(self, blocks):
        return [*blocks[:-1], DepthBlock(len(blocks) - 1, cut(blocks[-1].depth))]


class TooMany(Video):
    def spoil(self, blocks):
        (first, *others) = blocks
        return [DepthBlock(0, more(first.depth)), *others]


class Stops(Video):
    def spoil(self, blocks):
        return blocks[:1]


class RaisesOnTheSecond(Video):
    """It works ahead: before the first block is handed out, the second clip ends it."""

    def estimate(self, clips):
        blocks = []
        for number, clip in enumerate(clips):
            if len(clip) == 3:
                raise ValueError("three frames are too many for me")
            blocks.append(self.block(number, clip))
        return iter(blocks)


class Negatives(Video):
    def spoil(self, blocks):
        for block in blocks:
            values = block.depth.values - np.float32(100)
            valid = np.ones(values.shape, bool)
            yield DepthBlock(block.clip, DepthClip(values, valid, DepthKind.METRES))


class OtherClassKind(Video):
    kind = "disparity"


class Relative(Video):
    spec = EstimatorSpec("r", DepthKind.RELATIVE_DEPTH, "")


def cut(depth):
    return DepthClip.of(depth.values[:-1], depth.kind)


def more(depth):
    return DepthClip.of(np.concatenate((depth.values, depth.values[:1])), depth.kind)


def build(offered, weights=None):
    point = EntryPoint("theirs", f"{__name__}:{offered.__name__}", outside.GROUP)
    return outside.build(point, weights, RunConfig(), CPU)


def clips(*lengths):
    return [MemoryClip(recipe.clip(n, 8, 10, seed=n)) for n in lengths]


def answers(offered, *lengths):
    """The depth of each clip as one array; the reason of one that failed."""
    blocks = [[] for _ in lengths]
    for block in build(offered).estimate(clips(*lengths)):
        blocks[block.clip].append(block)
    return [
        run[-1].error or np.concatenate([block.depth.values for block in run]) for run in blocks
    ]


def test_a_clip_on_which_a_class_raises_is_the_one_that_fails():
    first, second, third = answers(Raising, 9, 2, 3)  # calls of eight frames: two, one, one
    assert second == "the estimator 'theirs' raised RuntimeError: boom"
    for values, clip in ((first, clips(9)[0]), (third, clips(3)[0])):
        np.testing.assert_array_equal(values, clip.frames[..., 0] + np.float32(1))


def test_a_lack_of_memory_is_no_clips_fault():
    with pytest.raises(RuntimeError, match="out of memory"):
        answers(NoMemory, 2)


@pytest.mark.parametrize(
    ("offered", "reason"),
    [(Ragged, "of no shape"), (Text, "gave <U"), (Complex, "gave complex64; expected float32")],
)
def test_answers_that_are_no_numbers_are_said(offered, reason):
    (answer,) = answers(offered, 2)
    assert reason in answer


def test_arrays_of_any_order_in_memory_are_taken():
    red = clips(2)[0].frames[..., 0] + np.float32(1)
    (values,) = answers(Flipped, 2)
    np.testing.assert_allclose(values[:, 0, 0], red[:, -1, -1], rtol=1e-6)
    np.testing.assert_allclose(values[:, -1, -1], red[:, 1, 1], rtol=1e-6)
    (values,) = answers(ReadOnly, 2)
    np.testing.assert_allclose(values, np.broadcast_to(red[:, :1, :1], values.shape), rtol=1e-6)


def test_tensors_are_taken_and_what_is_below_0_is_invalid():
    (values,) = answers(Tensors, 2)
    np.testing.assert_allclose(values, clips(2)[0].frames[..., 0] + 1.0, rtol=1 / 128)
    (block,) = build(Negative).estimate(clips(2))
    red = clips(2)[0].frames[..., 0] + 1.0
    np.testing.assert_array_equal(block.depth.valid, red > red.mean(dtype=np.float32))


@pytest.mark.parametrize(
    ("offered", "problem"),
    [
        (NoFunction, "neither `depth` nor `estimate`"),
        (NotMade, "cannot be made with \\(weights, device\\): TypeError"),
        (OtherClassKind, "says disparity, its spec is EstimatorSpec"),
        (Relative, "does not say how 1/z is made"),
    ],
)
def test_a_class_that_cannot_be_one_is_refused_before_anything_is_made(offered, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        build(offered)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("offered", "problem"),
    [
        (OtherKind, "says metres \\(shift 0\\), and gave disparity"),
        (Twice, "gave a block of clip 0, not of clip 1"),
        (Backwards, "gave a block of clip 1, not of clip 0"),
        (Arrays, "gave ndarray, no DepthBlock"),
    ],
)
def test_depth_of_another_kind_or_order_ends_the_job(offered, problem):
    with pytest.raises(ConfigError, match=problem):
        answers(offered, 2, 2)


def test_clips_that_are_not_whole_fail_with_their_frames_counted():
    fine, short = answers(TooFew, 2, 4)
    assert (len(fine), short) == (2, "the estimator 'theirs' gave 3 of 4 frames, and no reason")
    long, fine = answers(TooMany, 2, 4)
    assert (long, len(fine)) == ("the estimator 'theirs' gave 0 + 3 of 2 frames", 4)
    fine, *others = answers(Stops, 2, 4, 1)
    assert len(fine) == 2
    assert [text.partition("gave ")[2] for text in others] == [
        "0 of 4 frames, and no reason",
        "0 of 1 frames, and no reason",
    ]
    (small,) = answers(Small, 2)
    assert small == "the estimator 'theirs' gave depth of [4, 5] px for frames of [8, 10] px"


def test_what_still_comes_of_a_clip_that_failed_ends_nothing():
    fine, small, other = answers(SmallByFrames, 3, 2, 1)
    assert (len(fine), len(other)) == (3, 1)
    assert small == "the estimator 'theirs' gave depth of [4, 5] px for frames of [8, 10] px"


def test_the_clip_that_raises_is_found_though_the_class_works_ahead():
    first, second, third = answers(RaisesOnTheSecond, 2, 3, 4)
    assert (len(first), len(third)) == (2, 4)
    assert second == "the estimator 'theirs' raised ValueError: three frames are too many for me"


def test_a_clip_that_cannot_be_read_has_its_own_reason():
    broken = MemoryClip(recipe.clip(3, 8, 10, seed=1), broken=1)
    blocks = list(build(Video).estimate([broken, *clips(2)]))
    assert [block.error for block in blocks] == ["frame 1 is broken", ""]
    with pytest.raises(CorruptRecord):
        broken.read(0, 3)


def test_metres_that_are_not_above_0_are_invalid():
    (block,) = build(Negatives).estimate(clips(2))
    red = clips(2)[0].frames[..., 0] - 99.0
    np.testing.assert_array_equal(block.depth.valid, red > 0)
    assert 0 < block.depth.valid.mean() < 1


def test_the_record_has_the_name_that_was_asked_for_the_class_and_the_weights(tmp_path):
    (tmp_path / "w").write_bytes(b"weights")
    spec = build(Video, tmp_path / "w").spec
    assert (spec.name, spec.licence) == ("theirs", "MIT")
    assert dict(spec.settings)["class"] == f"{__name__}:Video"
    assert len(spec.weights) == 64
    assert build(Video).spec.weights == ""
