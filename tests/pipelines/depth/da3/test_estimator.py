"""Clips to depth: sizes, units, the sky, and that a clip's bytes depend on nothing else."""

import re
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from depthtok.data import DepthKind
from pipelines.depth.da3.config import VITS, tiny
from pipelines.depth.da3.estimator import DA3Network, spec_of
from pipelines.depth.da3.network import DA3
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.depth.single_frames.estimator import FrameEstimator
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.head import resize
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip

CPU = torch.device("cpu")


def small(**changes):
    network = DA3(replace(tiny(), **changes)).eval()
    schema = {key: list(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(recipe.state_dict(schema, seed=4))
    return network


def estimator(network=None, run=None, **frame):
    run = run or RunConfig(input_size=28, frame=FrameConfig(**frame))
    return FrameEstimator(DA3Network(network or small(), run, CPU), run.frame.steady)


def depths(made, *clips):
    """The depth of each clip as one array; errors as texts."""
    blocks = [[] for _ in clips]
    for block in made.estimate(clips):
        blocks[block.clip].append(block)
    return [
        run[-1].error or np.concatenate([block.depth.values for block in run]) for run in blocks
    ]


def clip(frames=5, height=32, width=48, seed=1):
    return MemoryClip(recipe.clip(frames, height, width, seed))


@pytest.mark.parametrize("case", ["h96_w96_r70_t0", "h64_w128_r98_t3", "h256_w256_r70_t5"])
def test_frames_to_depth_is_the_reference(golden, network_of, case):
    """Of all steps but the last resize, to the frame, which upstream does not make."""
    height, width, size, step = map(int, re.findall(r"\d+", case))
    network, expected = network_of("mono-vits"), golden("da3_infer_mono-vits.npz")
    da3 = DA3Network(network, RunConfig(input_size=size), CPU)
    frame = recipe.clip(step + 1, height, width, seed=1)[step:]
    inputs = da3.prepare(frame)
    depth, sky = (values.numpy() for values in da3._run(inputs))
    assert np.abs(np.log(depth[0]) - np.log(expected[f"{case}_depth"])).max() < 1e-5
    assert np.abs(sky[0] - expected[f"{case}_sky"]).max() < 1e-5
    (whole,) = depths(FrameEstimator(da3), MemoryClip(frame))
    resized = resize(torch.from_numpy(expected[f"{case}_depth"])[None, None], (height, width))
    assert np.abs(np.log(whole[0]) - np.log(resized[0, 0].numpy())).max() < 1e-5


def test_bytes_depend_on_the_clip_alone():
    clips = [clip(7), clip(3, 48, 32, seed=2), clip(6, seed=3)]
    together = depths(estimator(), *clips)
    for number, alone in enumerate(clips):
        assert np.array_equal(depths(estimator(), alone)[0], together[number])
    again = depths(estimator(), *reversed(clips))
    assert all(np.array_equal(a, b) for a, b in zip(reversed(again), together, strict=True))
    readers = estimator()
    readers.network.readers = 3
    assert all(map(np.array_equal, depths(readers, *clips), together))


def test_depth_of_a_frame_is_that_of_the_frame_alone():
    in_clip = depths(estimator(), clip(5))[0]
    single = depths(estimator(), MemoryClip(clip(5).frames[4:]))[0]
    np.testing.assert_allclose(np.log(single[0]), np.log(in_clip[4]), atol=1e-5)


def test_a_broken_clip_ends_with_its_reason_and_the_others_go_on():
    broken = MemoryClip(clip(6).frames, broken=4)
    fine = clip(2, seed=5)
    empty = MemoryClip(clip(1).frames[:0])
    first, second, third = depths(estimator(), broken, empty, fine)
    assert "frame 4 is broken" in first
    assert second == "the clip has no frames"
    assert third.shape == (2, 32, 48)


def test_depth_that_is_not_finite_is_an_error():
    network = small()
    with torch.no_grad():
        network.head.scratch.output_conv2[2].bias.fill_(1000.0)
    assert "not finite" in depths(estimator(network), clip(2))[0]


def test_out_of_memory_halves_the_group_when_what_was_begun_is_gone():
    """What the failed call holds would take the memory that the smaller one needs."""
    (expected,) = depths(estimator(), clip(2))
    made, begun, held = estimator(), [], []

    class Short(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            held.append([reference() is not None for reference in begun])
            features = images + 1
            begun.append(weakref.ref(features))
            if len(images) > 1:
                raise torch.OutOfMemoryError
            return self.network(images)

    made.network._place()
    made.network._network = Short(made.network._network)
    (depth,) = depths(made, clip(2))
    np.testing.assert_allclose(depth, expected, rtol=1e-5)
    assert made.degraded
    assert held == [[], [False], [False, False]]


def test_memory_does_not_grow_with_a_clip():
    """Frames are read by chunks, none before the depth of the last one is handed out."""
    long = clip(40)
    for count, _ in enumerate(estimator().estimate([long]), start=1):
        assert max(stop for _, stop in long.reads) <= 2 * count
    assert count == 20


def test_the_metric_network_needs_a_focal_length():
    network = small(metric=True)
    (refused,) = depths(estimator(network), clip(2))
    assert "focal length of camera 'front' is not known" in refused
    (relative,) = depths(estimator(), clip(2))
    (metres,) = depths(estimator(network, focal_px=60.0), clip(2))
    # 32 x 48 px become 14 x 28: f of the input is the mean of 60 * 28 / 48 and 60 * 14 / 32.
    focal = (60 * 28 / 48 + 60 * 14 / 32) / 2
    np.testing.assert_allclose(metres, relative * focal / 300, rtol=1e-6)
    with_focal = clip(2)
    with_focal.intrinsics = np.float32([[60, 0, 24], [0, 60, 16], [0, 0, 1]])
    np.testing.assert_array_equal(depths(estimator(network), with_focal)[0], metres)


@pytest.mark.parametrize(
    ("focal", "reason"),
    [
        (np.nan, "is not known"),
        (np.inf, "is not known"),
        (-60.0, "is not known"),
        (1.25, "a focal length of 1.25 and 1.25 px is that of no camera with frames of 48 x 32 px"),
        (60e3, "is that of no camera"),
    ],
)
def test_a_focal_length_that_is_none_in_pixels_is_refused(focal, reason):
    """In shares of the width, in micrometres: the metres would be off by that factor."""
    network, frames = small(metric=True), clip(2)
    frames.intrinsics = np.float32([[focal, 0, 24], [0, focal, 16], [0, 0, 1]])
    assert reason in depths(estimator(network), frames)[0]
    if focal > 0 and np.isfinite(focal):
        (stated,) = depths(estimator(network, focal_px=focal), clip(2))
        assert stated.startswith("focal_px: ")
        assert reason in stated


def test_sky_is_invalid_where_that_is_asked_and_nothing_else_changes():
    network, frames = small(), clip(3)
    with torch.no_grad():  # some of it is sky
        network.head.scratch.sky_output_conv2[2].bias.fill_(0.3)
    plain = list(estimator(network).estimate([frames]))
    masked = list(estimator(network, sky=True).estimate([frames]))
    sky = ~np.concatenate([block.depth.valid for block in masked])
    assert 0 < sky.mean() < 1
    assert np.concatenate([block.depth.valid for block in plain]).all()
    values = np.concatenate([block.depth.values for block in plain])
    assert np.array_equal(
        np.concatenate([block.depth.values for block in masked]), np.where(sky, 0, values)
    )
    inputs = DA3Network(network, RunConfig(input_size=28), CPU).prepare(frames.frames)
    with torch.inference_mode():
        expected = resize(network(inputs)[1][:, None], (32, 48))[:, 0].numpy() >= 0.3
    assert (sky == expected).mean() > 0.999


def test_the_spec_records_what_changes_bytes():
    network = small()
    plain = spec_of(network, RunConfig(), CPU)
    assert (plain.kind, plain.shift, plain.input_size) == (DepthKind.RELATIVE_DEPTH, 0.0, 112)
    run = RunConfig(frame=FrameConfig(shift=0.5, sky=True, steady="clip"))
    settings = dict(spec_of(network, run, CPU).settings)
    assert settings == {
        "algorithm": "1",
        "device": "cpu",
        "shift": "0.5",
        "sky": "True",
        "steady": "clip",
    }
    metric = spec_of(small(metric=True), RunConfig(frame=FrameConfig(focal_px=60.0)), CPU)
    assert (metric.kind, metric.shift) == (DepthKind.METRES, None)
    assert dict(metric.settings)["focal_px"] == "60.0"
    (block,) = estimator(network, shift=0.5).estimate([clip(1)])
    assert block.depth.shift == 0.5


def test_out_of_memory_makes_groups_smaller_and_says_so():
    small = estimator()
    (expected,) = depths(estimator(), clip(4))
    network = small.network._network

    def forward(x):
        if len(x) > 1:
            raise torch.OutOfMemoryError
        return DA3.forward(network, x)

    small.network._network = SimpleNamespace(
        to=lambda device: SimpleNamespace(eval=lambda: forward)
    )
    small.network._placed, small.network._network = True, forward
    (depth,) = depths(small, clip(4))
    assert small.degraded
    np.testing.assert_allclose(np.log(depth), np.log(expected), atol=1e-5)


def test_the_reference_configuration_is_for_tests_only():
    from pipelines.config import ESTIMATORS

    assert VITS.name not in ESTIMATORS
