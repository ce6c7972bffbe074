"""The network against reference outputs made with the official implementation in float32."""

import re

import numpy as np
import pytest
import torch

from pipelines.depth.vida.config import CONFIGS
from pipelines.depth.vida.network import VideoDepth
from tests.pipelines.depth.vida import recipe


def windows(name):
    """The input of a reference case, from its name."""
    batch, frames, height, width = map(int, re.findall(r"\d+", name)[:4])
    video = recipe.clip(batch * frames, height, width, seed=1)
    return torch.from_numpy(recipe.normalise(video)).unflatten(0, (batch, frames))


@pytest.mark.parametrize("name", ["vits", "vitb", "vitl"])
def test_state_dict_has_the_official_keys(golden, name):
    with torch.device("meta"):
        network = VideoDepth(CONFIGS[name])
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == golden(
        f"schema_{name}.json"
    )


@pytest.mark.parametrize("name", ["b1_t8_70x98", "b2_t4_56x56"])
def test_forward_equals_the_reference(golden, vits, name):
    with torch.inference_mode():
        depth = vits(windows(name)).numpy()
    assert np.abs(depth - golden("forward_vits.npz")[name]).max() < 1e-5


def test_forward_at_the_size_of_the_position_table(golden, vits):
    with torch.inference_mode():
        depth = vits(windows("b1_t1_518x518")).numpy()
    expected = golden("forward_vits.npz")["b1_t1_518x518_stride7"]
    assert np.abs(depth[:, :, ::7, ::7] - expected).max() < 1e-5


def test_forward_shows_the_epsilon_of_every_norm(golden, vits_weights):
    network = VideoDepth(CONFIGS["vits"]).eval()
    network.load_state_dict(recipe.shrink(vits_weights, recipe.VIDA_NORMS))
    with torch.inference_mode():
        depth = network(windows("b1_t8_70x98")).numpy()
    assert np.abs(depth - golden("forward_vits.npz")["b1_t8_70x98_shrink"]).max() < 1e-5


def test_position_table_is_resampled_as_upstream_does(golden, vits):
    for name, expected in golden("pos_embed_vits.npz").items():
        height, width = map(int, re.findall(r"\d+", name))
        with torch.inference_mode():
            table = vits.pretrained.positions(height // 14, width // 14)[0, :, :8].numpy()
        assert np.abs(table - expected).max() < 1e-6, name


def test_mixing_returns_the_slots_asked_for(vits):
    with torch.inference_mode():
        pyramid = vits.encode(windows("b1_t8_70x98")[0])
        coarse = (pyramid.level3[None], pyramid.level4[None])
        everything = vits.head.mix(*coarse)
        some = vits.head.mix(*coarse, [1, 5])
    torch.testing.assert_close(some, everything[:, [1, 5]], rtol=0, atol=1e-5)
