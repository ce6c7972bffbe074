"""Depth Anything 3 on a GPU: the reference outputs, and bytes that depend on the clip alone."""

import numpy as np
import pytest
import torch

from pipelines.depth.da3.estimator import DA3Network
from pipelines.depth.single_frames.estimator import FrameEstimator
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.halved import halved
from tests.pipelines.depth.da3.test_estimator import clip, depths, small
from tests.pipelines.depth.da3.test_half import BOUNDS
from tests.pipelines.depth.da3.test_network import CASES, images, off
from vqvae.model.search import exact_float32

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
CUDA = torch.device("cuda")
PRECISIONS = [None, "float16", "bfloat16"]


def forward(network, case, count):
    with torch.inference_mode(), exact_float32(CUDA):
        return network.to(CUDA)(images(case, count).to(CUDA))[0].cpu().numpy()


@pytest.mark.parametrize(("name", "case", "count"), CASES)
def test_float32_is_the_reference(golden, network_of, name, case, count):
    depth = forward(network_of(name, shrink="shrink" in case), case, count)
    expected = golden(f"da3_forward_{name}.npz")[f"{case}_depth"]
    assert off(np.log(depth), np.log(expected)) < 2e-5


@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize(
    ("name", "case"),
    [("mono-vits", "70x70"), ("mono-vits", "98x56"), ("small", "s1_98x56"), ("base", "s1_42x56")],
)
def test_half_precision_stays_within_the_bounds(golden, network_of, name, case, dtype):
    depth = forward(halved(network_of(name).to(CUDA), dtype), case, 1)
    expected = golden(f"da3_forward_{name}.npz")[f"{case}_depth"]
    difference = np.abs(np.log(depth.reshape(expected.shape)) - np.log(expected))
    largest, mean = BOUNDS[dtype]
    assert difference.max() < largest
    assert difference.mean() < mean


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bytes_depend_on_the_clip_alone(precision):
    clips = [clip(7), clip(3, 48, 32, seed=2), clip(40, seed=3)]

    def estimator():
        return FrameEstimator(DA3Network(small(), RunConfig(precision=precision), CUDA))

    together = depths(estimator(), *clips)
    assert all(map(np.array_equal, depths(estimator(), *clips[::-1])[::-1], together))
    for number, alone in enumerate(clips):
        assert np.array_equal(depths(estimator(), alone)[0], together[number])
