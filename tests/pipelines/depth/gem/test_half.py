"""Half precision, rounded as a GPU rounds, against the float32 reference outputs: within the bounds
of Video-Depth-Anything's."""

import re

import pytest
import torch

from pipelines.depth.vida.halved import halved, require_close
from pipelines.depth.vida.runner import Groups
from tests.pipelines.depth.gem.made import tiny_network
from tests.pipelines.depth.gem.test_network import FORWARDS, window
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip
from tests.pipelines.depth.vida.rounding import Rounding
from tests.pipelines.depth.vida.test_halved import require_within
from tests.pipelines.depth.vida.test_infer import depth_of

HALF = torch.float16
CLIPS = 1.3e-3  # mean, relative: 1.18e-3 to 1.24e-3 by the sizes of groups, so by orders of sums


@pytest.mark.parametrize("case", FORWARDS)
def test_a_forward_pass_stays_within_the_bounds(golden, networks, case):
    images, expected = window(case), golden("forward_vits.npz")[case]
    with torch.inference_mode(), Rounding():
        depth = halved(networks[case.split("_")[0]], HALF)(images)
    assert depth.dtype is torch.float32
    step = -(-images.shape[-2] // expected.shape[1])
    require_within(depth[0, :, ::step, ::step].numpy(), expected)


@pytest.mark.parametrize(
    "case", ["on_n20_96x96_s70", "on_n26_96x96_s70", "off_n26_96x96_s70", "on_n40_64x128_s70"]
)
def test_whole_clips_stay_within_the_bounds(golden, networks, case, monkeypatch):
    frames, height, width, input_size = map(int, re.findall(r"\d+", case))
    filled = Groups(encode=11, decode=16, filled=True)
    monkeypatch.setattr(Groups, "of", classmethod(lambda *_, **__: filled))
    monkeypatch.setattr("pipelines.depth.vida.runner.packed", lambda network: halved(network, HALF))
    clip = MemoryClip(recipe.clip(frames, height, width, seed=1))
    with Rounding():
        (depth,) = depth_of(networks[case.split("_")[0]], [clip], input_size)
    expected = golden("infer_vits.npz")[case]
    step = -(-height // expected.shape[1])
    require_within(depth[:, ::step, ::step], expected, CLIPS)


def test_what_stays_float32(networks):
    """Poses, and what is embedded of them; the streams with their norms and scales."""
    half = halved(networks["on"], HALF)
    whole = {name for name, value in half.state_dict().items() if value.dtype is torch.float32}
    stream = re.compile(
        r"pretrained\.(cls_token|pos_embed|norm\.|blocks\.\d+\.(norm\d\.|ls\d\.gamma))"
        r"|(frame_blocks|global_blocks|spatial_blocks|time_blocks)\.\d\.(norm\d\.|ls\d\.gamma)"
        r"|dec_norm\.|camera_head\.|cam_\w+_encoder\.|head\.scratch\.output_conv2\.2\.bias"
    )
    assert whole == {name for name in half.state_dict() if stream.match(name)}
    assert half.camera_head is networks["on"].camera_head
    assert half.camera_token.dtype is HALF


def test_half_precision_is_tried_where_it_will_run(networks):
    half = halved(networks["on"], HALF)
    with Rounding():
        require_close(networks["on"], half, HALF)


def test_angles_are_float32_in_half_precision():
    network, seen = halved(tiny_network(), HALF), set()
    for name in ("cam_trans_encoder", "camera_head"):
        getattr(network, name).register_forward_hook(
            lambda _, inputs, out: seen.add(
                (inputs[0].dtype, (out if torch.is_tensor(out) else out[-1]).dtype)
            )
        )
    with torch.inference_mode(), Rounding():
        network(torch.zeros(1, 3, 3, 28, 42))
    assert seen == {(torch.float32, torch.float32)}
