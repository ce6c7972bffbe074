"""The whole video algorithm with GemDepth against reference outputs, and as a stream."""

import re

import numpy as np
import pytest
import torch

from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.infer import estimate
from pipelines.depth.vida.runner import Groups, Runner
from pipelines.depth.windows.align import Stitcher
from tests.pipelines.depth.gem.made import tiny_network
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip
from tests.pipelines.depth.vida.test_infer import depth_of, tensor_bytes

CPU = torch.device("cpu")
CASES = [
    "on_n20_96x96_s70",
    "on_n26_96x96_s70",
    "off_n26_96x96_s70",
    "on_n50_96x96_s70",
    "off_n50_96x96_s70",
    "on_n40_64x128_s70",
]


@pytest.mark.parametrize("case", CASES)
def test_depth_equals_the_reference(golden, networks, case, monkeypatch):
    fits, add = [], Stitcher.add

    def noted(stitcher, window, depth):
        final = add(stitcher, window, depth)
        fits.append(stitcher.fitted.numpy())
        return final

    monkeypatch.setattr(Stitcher, "add", noted)
    frames, height, width, input_size = map(int, re.findall(r"\d+", case))
    clip = MemoryClip(recipe.clip(frames, height, width, seed=1))
    (depth,) = depth_of(networks[case.split("_")[0]], [clip], input_size)
    reference = golden("infer_vits.npz")
    step = -(-height // reference[case].shape[1])
    bound = 1e-4 if frames > 25 else 1e-5
    assert np.abs(depth[:, ::step, ::step] - reference[case]).max() < bound
    exact = depth.astype(np.float64)
    statistics = [getattr(exact, name)((1, 2)) for name in ("mean", "std", "min", "max")]
    assert np.abs(np.stack(statistics, -1) - reference[f"{case}_stats"]).max() < bound
    aligned = reference[f"{case}_align"]
    assert len(fits) == len(aligned) + 1
    assert all(np.abs(fits[k + 1] - row).max() < bound for k, row in enumerate(aligned))


def made_clips():
    """Clips of several lengths, of one window and of two."""
    return [MemoryClip(recipe.clip(n, 16, 20, seed=n)) for n in (1, 26, 5, 23)]


@pytest.mark.parametrize("pose", [True, False])
def test_company_does_not_change_a_byte(pose):
    network = tiny_network(pose=pose)
    alone = [depth_of(network, [clip])[0] for clip in made_clips()]
    for settings in ({"windows": 1}, {"windows": 8, "readers": 2}):
        together = depth_of(network, made_clips(), **settings)
        reverse = depth_of(network, reversed(made_clips()), **settings)[::-1]
        for one, other, third in zip(alone, together, reverse, strict=True):
            assert one.tobytes() == other.tobytes() == third.tobytes()


def test_filled_groups_give_the_same_depth_and_bytes_in_any_company(monkeypatch):
    """The way of working on a GPU, on the CPU."""
    network, clips = tiny_network(), made_clips()
    expected = depth_of(network, clips)
    filled = Groups(encode=11, decode=16, filled=True)
    monkeypatch.setattr(Groups, "of", classmethod(lambda *_, **__: filled))
    alone = [depth_of(network, [clip])[0] for clip in clips]
    for windows in (1, 3):
        depths = depth_of(network, clips, windows=windows)
        for one, other, single in zip(expected, depths, alone, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)
            assert other.tobytes() == single.tobytes()


def test_each_frame_is_read_and_encoded_once():
    clip, encoded, mixed = MemoryClip(recipe.clip(50, 16, 20, seed=1)), [], []
    network = tiny_network()
    network.pretrained.register_forward_hook(lambda _, images, __: encoded.append(len(images[0])))
    network.dec_norm.register_forward_hook(lambda *_: mixed.append(1))
    depth_of(network, [clip])
    assert [frame for read in clip.reads for frame in range(*read)] == list(range(50))
    assert sum(encoded) == 50
    assert len(mixed) == 3
    depth_of(network, [MemoryClip(clip.frames[:25])])
    assert len(mixed) == 4  # the second window would add nothing


def test_blocks_stream_and_caches_do_not_grow():
    """What is held between windows is the same after 3 windows and after 15."""
    clip = MemoryClip(recipe.clip(8, 14, 14, seed=1)[np.arange(350) % 8])
    runner = Runner(tiny_network(), RunConfig(input_size=14), CPU)
    held, frames = [], 0
    for number, block in enumerate(estimate(runner, [clip])):
        frames += len(block.depth)
        if number in (3, 14):
            held.append(tensor_bytes())
    assert frames == 350
    assert held[0] == held[1]
    assert len(runner._carried.level4) == 0  # nothing is carried past the end


@pytest.mark.parametrize("length", [1, 2, 22, 24, 27])
@pytest.mark.parametrize("shape", [(31, 29), (1, 1), (10, 17)])
def test_every_length_and_shape_gives_finite_depth(length, shape):
    for value in (0, 255):
        (depth,) = depth_of(tiny_network(), [MemoryClip(np.full((length, *shape, 3), value, "u1"))])
        assert depth.shape == (length, *shape)
        assert np.isfinite(depth).all()
        assert (depth >= 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_any_seed_gives_what_the_whole_network_does(seed):
    """The parts, as the clip algorithm calls them, against `forward` on the same window. (Norms of
    few values, as of smaller networks and images, would amplify what is rounded.)"""
    network = tiny_network(channels=(8, 16, 64, 64))
    schema = {key: list(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(recipe.state_dict(schema, seed=seed))
    frames = recipe.clip(32, 70, 98, seed=seed)
    with torch.inference_mode():
        expected = network(torch.from_numpy(recipe.normalise(frames))[None])[0].numpy()
    (depth,) = depth_of(network, [MemoryClip(frames)], 70)
    np.testing.assert_allclose(depth[:24], expected[:24], rtol=0, atol=2e-5)
