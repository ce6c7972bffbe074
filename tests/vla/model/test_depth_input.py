"""Depth as an input: true codes that actions see, without a loss."""

import numpy as np
import pytest
import torch

from depthtok.errors import ConfigError
from tests.vla import fakes
from tests.vla.model.test_model import draws, example, observation
from vla.data.dataset import Dataset
from vla.data.member import member
from vla.data.tokenizer import ByteTokenizer
from vla.model.batch import Guided
from vla.model.depth_input import CodesIn
from vla.model.model import build
from vla.run_options import TrainingOptions
from vla.serving.policy import Policy
from vla.training.train import train


@pytest.fixture
def model(micro, codebook):
    config = micro(model__depth__target="input").model
    return build(config, 0, torch.from_numpy(codebook.vectors))


def test_each_token_gets_the_codes_of_its_cell(micro, codebook):
    config = micro(model__depth__target="input", model__vision__patch=16).model  # 2x2 tokens
    module, vectors = CodesIn(config), torch.from_numpy(codebook.vectors)
    assert module.zoom == 2
    codes = torch.arange(16)[None, None]
    out = module(codes, torch.ones(1, 1, dtype=torch.bool), vectors)
    unit = vectors - vectors.mean(0)
    unit = unit / unit.square().mean().sqrt()
    for token, cell in enumerate(([0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15])):
        expected = module.up(unit[cell].flatten())
        assert torch.allclose(out[0, token], expected, atol=1e-6)
    assert not module(codes, torch.zeros(1, 1, dtype=torch.bool), vectors).any()


def test_actions_follow_the_codes_and_there_is_no_depth_loss(model):
    config = model.config
    batch, (noise, times) = example(config), draws(config)
    losses = model(batch, noise, times)
    assert (losses.depth.item(), losses.depth_predicted) == (0, None)
    losses.flow.backward()
    assert model.codes_in.up.weight.grad.abs().sum() > 0
    batch.depth_BMK[0] = (batch.depth_BMK[0] + 1) % config.depth.codes
    with torch.no_grad():
        changed = model(batch, noise, times).flow
        assert changed != losses.flow
        joint = model.reference(batch, noise, times).flow
    assert joint == pytest.approx(changed.item(), rel=1e-5)


def test_no_other_policy_reads_codes(micro, codebook):
    for target in ("codes", "none"):
        config = micro(model__depth__target=target).model
        model = build(config, 0, torch.from_numpy(codebook.vectors))
        batch, (noise, times) = example(config), draws(config)
        with torch.no_grad():
            before = model(batch, noise, times).flow, model.sample(batch, noise)
            batch.depth_BMK.copy_((batch.depth_BMK + 1) % config.depth.codes)
            after = model(batch, noise, times).flow, model.sample(batch, noise)
        assert all(map(torch.equal, before, after))


def test_an_observation_without_codes_is_refused(model):
    seen, (noise, _) = observation(model.config), draws(model.config)
    with pytest.raises(ConfigError, match="take true depth codes"):
        model.sample(seen, noise)
    codes = torch.zeros(3, 1, 16, dtype=torch.uint8)
    guided = Guided(**vars(seen), depth_BMK=codes, depth_valid_BM=torch.ones(3, 1) > 0)
    assert model.sample(guided, noise).isfinite().all()


@pytest.mark.parametrize("over", [{"model__depth__future": 1}, {"model__action_sees_depth": False}])
def test_what_makes_no_sense_with_it_is_refused(micro, over):
    with pytest.raises(ConfigError, match=r"depth\.target = 'input' needs"):
        micro(model__depth__target="input", **over)


def trained(out, target, steps=60):
    """A policy whose actions are what the codes say, and nothing else does: pictures and states
    are all zero."""
    config = fakes.micro(
        model__depth__target=target, train__steps=steps, train__lr=3e-3, train__batch=16
    )
    episodes = fakes.FakeEpisodes(count=8, steps=8, size=32)
    codes, rng = fakes.FakeCodes(episodes, grid=4, codes=16), np.random.default_rng(3)
    for number in range(8):
        episode = episodes.episode(number)
        side = rng.integers(0, 2)
        for grids in codes._codes[episode.key].values():
            grids[:] = 15 * side
        episode.action[:] = 2.0 * side - 1
        for images in episode.images.values():
            images[:] = 0
        episode.proprio[:] = 0
    joined = member("toy", episodes, codes, config, codebook=codes.codebook)
    data = Dataset([joined], config, ByteTokenizer())
    book = fakes.FakeCodebook(codes=16, dim=12)
    options = TrainingOptions(loader_threads=0, log_every=steps)
    return train(config, data, out, options, codebook=book).last["flow"]


def test_it_is_an_upper_bound_where_depth_decides(tmp_path):
    assert trained(tmp_path / "input", "input") < 0.7 * trained(tmp_path / "none", "none")


def test_a_policy_takes_codes_by_camera(tmp_path):
    trained(tmp_path, "input", steps=1)
    policy = Policy.load(tmp_path)
    assert policy.running.sampler == "plain"
    seen = {
        "images": {c: np.zeros((32, 32, 3), np.uint8) for c in ("main", "wrist")},
        "proprio": np.zeros(8),
        "instruction": "open the drawer",
    }
    actions = []
    for code in (0, 15):
        policy.reset(0)
        actions.append(policy.act({**seen, "codes": {"main": np.full((4, 4), code, np.uint8)}}))
    assert (actions[0] != actions[1]).any()
    with pytest.raises(ConfigError, match="codes is missing"):
        policy.act(seen)
    with pytest.raises(ConfigError, match=r"codes/main is uint8 \(4, 5\)"):
        policy.act({**seen, "codes": {"main": np.zeros((4, 5), np.uint8)}})
    with pytest.raises(ConfigError, match="one observation a pass"):
        Policy.load(tmp_path, batch=2)
