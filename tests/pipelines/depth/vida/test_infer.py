"""The whole video algorithm against reference outputs, and as a stream."""

import gc
import re

import numpy as np
import pytest
import torch

from depthtok.data import DepthKind
from depthtok.errors import ConfigError
from pipelines.depth.vida.config import CONFIGS, RunConfig
from pipelines.depth.vida.infer import estimate
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.runner import Groups, Runner
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip, tiny_network

CPU = torch.device("cpu")
CASES = [
    "rel_n1_96x96_s70",
    "rel_n23_96x96_s70",
    "rel_n26_96x96_s70",
    "rel_n48_96x96_s70",
    "rel_n40_64x128_s70",
    "rel_n40_120x90_s70",
    "metric_n48_96x96_s70",
]


def depth_of(network, clips, input_size=28, **settings):
    """Depth of every clip, whole."""
    run = RunConfig(input_size=input_size, **settings)
    clips = list(clips)
    parts = [[] for _ in clips]
    runner = Runner(network, run, CPU)
    for block in estimate(runner, clips):
        assert not block.error
        parts[block.clip].append(block.depth.values)
    return [np.concatenate(values) for values in parts]


@pytest.mark.parametrize("case", CASES)
def test_depth_equals_the_reference(golden, vits, vits_weights, case):
    frames, height, width, input_size = map(int, re.findall(r"\d+", case))
    network = vits
    if case.startswith("metric"):
        network = VideoDepth(CONFIGS["metric-vits"])
        network.load_state_dict(vits_weights)
    (depth,) = depth_of(
        network, [MemoryClip(recipe.clip(frames, height, width, seed=1))], input_size
    )
    reference = golden("infer_vits.npz")
    step = -(-height // reference[case].shape[1])
    bound = 1e-4 if case.startswith("rel") and frames > 25 else 1e-5
    assert np.abs(depth[:, ::step, ::step] - reference[case]).max() < bound
    exact = depth.astype(np.float64)
    statistics = [getattr(exact, name)((1, 2)) for name in ("mean", "std", "min", "max")]
    assert np.abs(np.stack(statistics, -1) - reference[f"{case}_stats"]).max() < bound


def made_clips():
    """Clips of several lengths, of one window and of two."""
    return [MemoryClip(recipe.clip(n, 16, 20, seed=n)) for n in (1, 26, 5, 23)]


@pytest.mark.parametrize("metric", [False, True])
def test_company_does_not_change_a_byte(metric):
    network = tiny_network(metric=metric)
    alone = [depth_of(network, [clip])[0] for clip in made_clips()]
    for settings in ({"windows": 1}, {"windows": 3}, {"windows": 8, "readers": 2}):
        together = depth_of(network, made_clips(), **settings)
        reverse = depth_of(network, reversed(made_clips()), **settings)[::-1]
        for one, other, third in zip(alone, together, reverse, strict=True):
            assert one.tobytes() == other.tobytes() == third.tobytes()


def test_filled_groups_give_the_same_depth(monkeypatch):
    """The way of working on a GPU, on the CPU."""
    network, clips = tiny_network(), made_clips()
    expected = depth_of(network, clips)
    filled = Groups(encode=11, decode=16, filled=True)
    monkeypatch.setattr(Groups, "of", classmethod(lambda *_, **__: filled))
    for windows in (1, 3):
        for one, other in zip(expected, depth_of(network, clips, windows=windows), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)


def test_each_frame_is_read_and_encoded_once():
    clip, encoded = MemoryClip(recipe.clip(50, 16, 20, seed=1)), []
    network = tiny_network()
    network.pretrained.register_forward_hook(lambda _, images, __: encoded.append(len(images[0])))
    depth_of(network, [clip])
    assert [frame for read in clip.reads for frame in range(*read)] == list(range(50))
    assert sum(encoded) == 50


def tensor_bytes():
    """Memory of all tensors that are alive in this process."""
    gc.collect()
    objects = (item for item in gc.get_objects() if type(item) is torch.Tensor)
    tensors = (item for item in objects if not item.is_mkldnn)  # packed weights, made once
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def test_blocks_stream_and_caches_do_not_grow():
    """What is held between windows is the same after 3 windows and after 15."""
    clip = MemoryClip(recipe.clip(8, 14, 14, seed=1)[np.arange(350) % 8])
    runner = Runner(tiny_network(), RunConfig(input_size=14), CPU)
    held, frames = [], 0
    for number, block in enumerate(estimate(runner, [clip])):
        frames += len(block.depth)
        assert clip.reads[-1][1] <= frames + 22  # nothing is read before its turn
        if number in (3, 14):
            held.append(tensor_bytes())
    assert frames == 350
    assert held[0] == held[1]
    assert len(runner._carried.level1) == 0  # nothing is carried past the end


def test_a_broken_clip_ends_with_its_reason_and_the_others_go_on():
    frames = recipe.clip(60, 16, 20, seed=1)
    clips = [MemoryClip(frames[:27]), MemoryClip(frames, broken=40), MemoryClip(frames[:4])]
    expected = depth_of(tiny_network(), [clips[0], clips[2]])
    for settings in ({}, {"windows": 4, "readers": 2}):
        runner = Runner(tiny_network(), RunConfig(input_size=28, **settings), CPU)
        blocks = list(estimate(runner, clips))
        assert [block.clip for block in blocks] == sorted(block.clip for block in blocks)
        errors = [block for block in blocks if block.error]
        assert [(block.clip, block.error) for block in errors] == [(1, "frame 40 is broken")]
        assert [block.clip for block in blocks].index(2) > blocks.index(errors[0])
        for number, depth in zip((0, 2), expected, strict=True):
            parts = [block.depth.values for block in blocks if block.clip == number]
            np.testing.assert_array_equal(np.concatenate(parts), depth)


def test_what_a_broken_clip_left_does_not_reach_the_clips_of_the_next_call(monkeypatch):
    """A worker makes part after part, and in each of them clips are numbered from 0."""
    frames, good = recipe.clip(60, 16, 20, seed=9), MemoryClip(recipe.clip(30, 16, 20, seed=3))
    (expected,) = depth_of(tiny_network(), [good])
    filled = Groups(encode=8, decode=2, filled=True)  # as on a GPU
    for of in (Groups.of, lambda *_, **__: filled):
        monkeypatch.setattr(Groups, "of", staticmethod(of))
        runner = Runner(tiny_network(), RunConfig(input_size=28), CPU)
        *_, broken = estimate(runner, [MemoryClip(frames, broken=40)])
        assert broken.error == "frame 40 is broken"
        depth = np.concatenate([block.depth.values for block in estimate(runner, [good])])
        np.testing.assert_allclose(depth, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (np.zeros((0, 30, 40, 3), np.uint8), "no frames"),
        (np.zeros((3, 30, 40, 4), np.uint8), "expected uint8"),
        (np.zeros((3, 30, 40, 3), np.float32), "expected uint8"),
        (np.zeros((3, 2, 400, 3), np.uint8), "elongated"),
    ],
)
def test_frames_of_the_wrong_kind_are_a_recorded_failure(frames, reason):
    good = MemoryClip(recipe.clip(3, 30, 40, seed=1))
    runner = Runner(tiny_network(), RunConfig(input_size=28), CPU)
    first, second = estimate(runner, [MemoryClip(frames), good])
    assert reason in first.error
    assert len(second.depth) == 3


@pytest.mark.parametrize("shape", [(31, 29), (1, 1), (7, 10)])
@pytest.mark.parametrize("value", [0, 255])
def test_black_white_and_odd_frames_give_finite_depth(shape, value):
    frames = np.full((27, *shape, 3), value, np.uint8)
    (depth,) = depth_of(tiny_network(), [MemoryClip(frames)])
    assert depth.shape == (27, *shape)
    assert np.isfinite(depth).all()


def test_depth_that_is_not_finite_is_a_recorded_failure():
    network = tiny_network()
    clip = MemoryClip(recipe.clip(30, 30, 40, seed=1))
    with torch.no_grad():
        network.head.scratch.output_conv2[2].bias.fill_(torch.nan)
    runner = Runner(network, RunConfig(input_size=28), CPU)
    first, second = estimate(runner, [clip, clip])
    assert "not finite" in first.error
    assert (first.clip, second.clip) == (0, 1)


def test_out_of_memory_halves_the_batch_and_goes_on(caplog):
    network = tiny_network()
    expected = depth_of(network, made_clips())
    runner = Runner(network, RunConfig(input_size=28, windows=8), CPU)
    run, sizes = runner._attempt, []

    def short_of_memory(jobs, groups):
        sizes.append((runner.windows, groups.encode))
        if groups.encode > 4 or runner.windows > 2:
            raise torch.OutOfMemoryError
        return run(jobs, groups)

    runner._attempt = short_of_memory
    blocks = list(estimate(runner, made_clips()))
    assert runner.windows <= 2
    assert runner.halvings == 1
    assert "out of memory" in caplog.text
    for number, depth in enumerate(expected):
        parts = [block.depth.values for block in blocks if block.clip == number]
        np.testing.assert_allclose(np.concatenate(parts), depth, rtol=0, atol=1e-4)


def test_half_precision_is_refused_on_a_cpu():
    with pytest.raises(ConfigError, match="for GPUs"):
        Runner(tiny_network(), RunConfig(precision="bfloat16"), CPU)


def test_depth_has_the_kind_of_the_network():
    clip = MemoryClip(recipe.clip(2, 30, 40, seed=1))
    for metric, kind in ((False, DepthKind.DISPARITY), (True, DepthKind.METRES)):
        runner = Runner(tiny_network(metric=metric), RunConfig(input_size=28), CPU)
        (block,) = estimate(runner, [clip])
        assert block.depth.kind is kind
        assert block.depth.values.dtype == np.float32
