"""Half precision, rounded as a GPU rounds, against the float32 reference outputs."""

import re

import numpy as np
import pytest
import torch

from depthtok.errors import ConfigError
from pipelines.depth.vida.config import CONFIGS, RunConfig
from pipelines.depth.vida.estimator import spec_of
from pipelines.depth.vida.halved import TOLERANCE, halved, require_close
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.runner import Groups
from pipelines.depth.vida.temporal import explicit_attention
from pipelines.depth.vida.weights import find_weights, load_network
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip, tiny_network
from tests.pipelines.depth.vida.rounding import Rounding
from tests.pipelines.depth.vida.test_infer import CASES, depth_of

HALF = torch.float16
LARGEST, MEAN_RELATIVE = 8e-3, 1.2e-3  # the bounds of float16
FORWARDS = ["b1_t8_70x98", "b2_t4_56x56", "b1_t1_518x518_stride7"]


def require_within(depth, expected, mean_relative=MEAN_RELATIVE):
    difference = np.abs(depth - expected)
    assert difference.max() < LARGEST
    assert difference.mean() < mean_relative * np.abs(expected).mean()
    assert difference.max() > 1e-5  # it was rounded indeed


@pytest.mark.parametrize("way", ["eager", "explicit", "as compiled"])
@pytest.mark.parametrize("name", FORWARDS)
def test_a_forward_pass_stays_within_the_bounds(golden, vits, name, way, monkeypatch):
    if way == "as compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    batch, frames, height, width = map(int, re.findall(r"\d+", name)[:4])
    video = recipe.normalise(recipe.clip(batch * frames, height, width, seed=1))
    windows = torch.from_numpy(video).unflatten(0, (batch, frames))
    with torch.inference_mode(), Rounding():
        depth = halved(vits, HALF, attention="fused" if way == "eager" else "explicit")(windows)
    assert depth.dtype is torch.float32
    step = int(name.partition("stride")[2] or 1)
    require_within(depth.numpy()[..., ::step, ::step], golden("forward_vits.npz")[name])


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Runners work as on a GPU: in half precision, in groups that are filled."""
    filled = Groups(encode=11, decode=16, filled=True)
    monkeypatch.setattr(Groups, "of", classmethod(lambda *_, **__: filled))
    monkeypatch.setattr("pipelines.depth.vida.runner.packed", lambda network: halved(network, HALF))
    with Rounding():
        yield


@pytest.mark.parametrize("case", CASES)
def test_whole_clips_stay_within_the_bounds(golden, vits, vits_weights, as_on_a_gpu, case):
    frames, height, width, input_size = map(int, re.findall(r"\d+", case))
    network = vits
    if case.startswith("metric"):
        network = VideoDepth(CONFIGS["metric-vits"])
        network.load_state_dict(vits_weights)
    clip = MemoryClip(recipe.clip(frames, height, width, seed=1))
    (depth,) = depth_of(network, [clip], input_size)
    expected = golden("infer_vits.npz")[case]
    step = -(-height // expected.shape[1])
    require_within(depth[:, ::step, ::step], expected)


def test_company_does_not_change_a_byte_of_half_precision(as_on_a_gpu):
    lengths = (1, 26, 5, 23)
    network = tiny_network()
    clips = [MemoryClip(recipe.clip(n, 16, 20, seed=n)) for n in lengths]
    alone = [depth_of(network, [clip])[0] for clip in clips]
    for windows in (1, 3):
        together = depth_of(network, clips, windows=windows)
        assert [one.tobytes() for one in alone] == [one.tobytes() for one in together]


def test_what_stays_float32_and_what_does_not():
    network = tiny_network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    half = halved(network, HALF)
    full_precision = {
        key for key, value in half.state_dict().items() if value.dtype is torch.float32
    }
    stream = re.compile(r"(cls_token|pos_embed|mask_token|norm\d?\.(weight|bias)|gamma)$")
    encoder = {key for key in before if key.startswith("pretrained.") and stream.search(key)}
    assert full_precision == encoder | {"head.scratch.output_conv2.2.bias"}
    attention = half.head.motion_modules[0].temporal_transformer.transformer_blocks[0]
    first = attention.attention_blocks[0]
    assert first.to_k.weight.data_ptr() == first.joined[len(first.joined) // 3 :].data_ptr()
    assert half.pretrained.norm.weight is network.pretrained.norm.weight
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_residual_stream_is_float32():
    dtypes = set()
    half = halved(tiny_network(), HALF)
    for block in half.pretrained.blocks:
        block.register_forward_hook(
            lambda _, inputs, output: dtypes.add((inputs[0].dtype, output.dtype))
        )
    with torch.inference_mode(), Rounding():
        levels = half.encode(torch.zeros(2, 3, 28, 42))
    assert dtypes == {(torch.float32, torch.float32)}
    assert {level.dtype for level in levels} == {HALF}


def test_patches_by_a_product_are_those_of_the_convolution():
    patches = tiny_network().pretrained.patch_embed
    images = torch.rand(2, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (patches._product(images) - patches(images)).abs().max() < 1e-5


def test_filled_groups_are_another_algorithm():
    """Stores that a GPU made in groups across windows are not gone on with; those of a CPU are."""
    network, gpu, cpu = tiny_network(), torch.device("cuda"), torch.device("cpu")
    for precision in ("float32", "float16", "bfloat16"):
        spec = spec_of(network, RunConfig(precision=precision), gpu)
        assert spec.settings == (("algorithm", "4"), ("device", "cuda"))
    for run, number in ((RunConfig(), "2"), (RunConfig(compile=True), "4")):
        assert dict(spec_of(network, run, cpu).settings)["algorithm"] == number


def test_explicit_attention_is_the_fused_one():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 5, 8, 32, 24, generator=generator)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert (explicit_attention(q, k, v) - fused).abs().max() < 1e-5
    some = explicit_attention(q[:, :, 3:5], k, v)
    assert (some - fused[:, :, 3:5]).abs().max() < 1e-5


def test_half_precision_is_tried_where_it_will_run(vits, monkeypatch):
    half = halved(vits, HALF)
    with Rounding():
        require_close(vits, half, HALF)
    half.head.scratch.output_conv2[2].bias = torch.nn.Parameter(torch.full((1,), 0.5))
    with Rounding(), pytest.raises(ConfigError, match=r"float16 on cpu is off by (.|\n)*float32"):
        require_close(vits, half, HALF)
    half.head.scratch.output_conv2[2].bias.data.fill_(torch.nan)
    with Rounding(), pytest.raises(ConfigError, match="off by nan"):
        require_close(vits, half, HALF)


def test_a_device_that_lacks_an_operator_is_told(monkeypatch):
    network = tiny_network()  # a CPU has no `mm(out_dtype=)`
    with pytest.raises(ConfigError, match=r"float16 fails on cpu: (.|\n)*--set precision=float32"):
        require_close(network, halved(network, HALF), HALF)


@pytest.mark.parametrize("dtype", [HALF, torch.bfloat16])
def test_trained_weights_are_far_within_what_is_allowed(dtype, monkeypatch):
    network = load_network(CONFIGS["tiny"], find_weights("tiny", None))
    monkeypatch.setitem(TOLERANCE, dtype, TOLERANCE[dtype] / 10)
    with Rounding():
        require_close(network, halved(network, dtype), dtype)


def test_depth_that_is_zero_everywhere_is_no_reason_to_refuse():
    network = tiny_network()
    network.head.scratch.output_conv2[2].bias.data.fill_(-1e4)  # what the last ReLU cuts off
    with Rounding():
        require_close(network, halved(network, HALF), HALF)
