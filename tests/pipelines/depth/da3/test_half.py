"""Half precision of Depth Anything 3, rounded as a GPU rounds, against the float32 reference
outputs: in logarithms, as depth is an exponential."""

import numpy as np
import pytest
import torch

from depthtok.errors import ConfigError
from pipelines.depth.da3.estimator import DA3Network, depth_of_images, spec_of
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.halved import TOLERANCE, halved, require_close
from tests.pipelines.depth.da3.test_estimator import CPU, clip, depths, estimator, small
from tests.pipelines.depth.da3.test_network import images
from tests.pipelines.depth.vida.rounding import Rounding

HALF = torch.float16
BOUNDS = {HALF: (2e-3, 4e-4), torch.bfloat16: (1.5e-2, 3e-3)}  # of the logarithm: largest, mean


@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize(
    ("name", "case"),
    [("mono-vits", "70x70"), ("mono-vits", "98x56"), ("small", "s1_98x56"), ("base", "s1_42x56")],
)
def test_a_forward_pass_stays_within_the_bounds(golden, network_of, name, case, dtype):
    with torch.inference_mode(), Rounding():
        depth, _ = halved(network_of(name), dtype)(images(case, 1))
    assert depth.dtype is torch.float32
    expected = golden(f"da3_forward_{name}.npz")[f"{case}_depth"]
    off = np.abs(np.log(depth.numpy().reshape(expected.shape)) - np.log(expected))
    largest, mean = BOUNDS[dtype]
    assert off.max() < largest
    assert off.mean() < mean
    assert off.max() > 1e-5  # it was rounded indeed


@pytest.mark.parametrize("views", [False, True])
def test_products_of_the_encoder_are_half_its_stream_and_the_head_are_not(views):
    network, streams, products = small(views=views), set(), set()
    half = halved(network, HALF)
    for block in half.backbone["pretrained"].blocks:
        block.register_forward_hook(
            lambda _, inputs, out: streams.update((inputs[0].dtype, out.dtype))
        )
        block.attn.qkv.register_forward_hook(lambda _, __, out: products.add(out.dtype))
    with torch.inference_mode(), Rounding():
        half(torch.zeros(2, 3, 28, 42))
    assert (streams, products) == ({torch.float32}, {HALF})
    assert half.head is network.head
    assert next(network.backbone.parameters()).dtype is torch.float32


def halved_on_the_cpu(network):
    """An estimator as on a GPU, but for the device."""
    made = estimator(network)
    made.network._dtype = HALF
    return made


def test_a_run_in_half_precision_is_tried_first_and_is_close(monkeypatch):
    monkeypatch.setattr("pipelines.depth.da3.estimator.packed", lambda network: network)
    (whole,) = depths(estimator(), clip(3))
    with Rounding():
        (half,) = depths(halved_on_the_cpu(small()), clip(3))
    assert 1e-6 < np.abs(np.log(half) - np.log(whole)).max() < 5e-3
    monkeypatch.setitem(TOLERANCE, HALF, 1e-9)
    with Rounding(), pytest.raises(ConfigError, match=r"is off by (.|\n)*precision=float32"):
        depths(halved_on_the_cpu(small()), clip(3))


def test_company_does_not_change_a_byte_of_half_precision(monkeypatch):
    monkeypatch.setattr("pipelines.depth.da3.estimator.packed", lambda network: network)
    clips = [clip(3), clip(4, seed=2)]
    with Rounding():
        together = depths(halved_on_the_cpu(small()), *clips)
        alone = [depths(halved_on_the_cpu(small()), one)[0] for one in clips]
    assert all(map(np.array_equal, together, alone))


def test_it_is_recorded_off_by_default_and_refused_on_a_cpu():
    network, gpu = small(), torch.device("cuda")
    specs = [
        spec_of(network, RunConfig(precision=name), gpu) for name in (None, "float16", "bfloat16")
    ]
    assert [spec.precision for spec in specs] == ["float32", "float16", "bfloat16"]
    assert spec_of(network, RunConfig(), CPU).precision == "float32"
    for precision in ("float16", "bfloat16"):
        with pytest.raises(ConfigError, match=f"{precision} is for GPUs"):
            DA3Network(network, RunConfig(precision=precision), CPU)


def test_a_trial_is_of_depth_and_not_of_the_sky():
    network = small()
    assert depth_of_images(network, torch.zeros(1, 4, 3, 28, 28)).shape == (4, 28, 28)
    with Rounding():
        require_close(network, halved(network, HALF), HALF, depth_of_images)
