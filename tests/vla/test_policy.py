"""Acting from a checkpoint: units, caches, and what is refused."""

import numpy as np
import pytest
import torch
from test_model import observation

from depthtok.errors import ConfigError, WeightsError
from vla import checkpoint, flow
from vla.config import RunOptions
from vla.model import build
from vla.policy import Policy
from vla.train import train

OBSERVATION = {
    "images": {name: np.full((32, 32, 3), 90, np.uint8) for name in ("main", "wrist")},
    "proprio": np.zeros(8, np.float32),
    "instruction": "open the drawer",
}


@pytest.fixture
def run(micro, toy, codebook, tmp_path):
    config = micro(train__steps=1, train__ema=0.5)
    train(config, toy(config), tmp_path, RunOptions(workers=0), codebook=codebook)
    return tmp_path


def test_acts_in_the_units_of_the_data(run):
    policy = Policy.load(run)
    actions = policy.act(OBSERVATION)
    assert actions.shape == (4, 7)
    assert actions.dtype == np.float32
    scale = policy.norms.action
    inside = (actions >= np.array(scale.low) - 1e-5) & (actions <= np.array(scale.high) + 1e-5)
    assert inside[:, :-1].all()
    assert np.abs(actions[:, -1]).max() <= 1


def test_the_same_seed_acts_the_same(run):
    policy = Policy.load(run)
    first, second = policy.act(OBSERVATION), policy.act(OBSERVATION)
    policy.reset()
    assert (policy.act(OBSERVATION) == first).all()
    assert (first != second).any()


def test_average_is_preferred_and_optional(run):
    averaged, plain = Policy.load(run), Policy.load(run, averaged=False)
    assert (averaged.act(OBSERVATION) != plain.act(OBSERVATION)).any()


def test_cached_sampling_equals_uncached(micro, codebook):
    """The context computed once equals the whole model run at every Euler step."""
    for over in ({}, {"model__action_sees_depth": False}, {"model__mask": "prefix"}):
        config = micro(**over)
        model = build(config.model, 0, torch.from_numpy(codebook.vectors)).eval()
        torch.manual_seed(0)
        seen = observation(config.model)
        noise = torch.randn(3, 4, 7)
        with torch.no_grad():
            cached = model.sample(seen, noise)
            whole = flow.integrate(
                config.model.flow,
                lambda x, t, m=model, s=seen: m.velocity(m.context(s), x, t, s.proprio_BP),
                noise,
            )
        assert torch.equal(cached, whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {"main": np.zeros((8, 8, 3), np.uint8)}}, "no camera 'wrist'"),
        ({"images": {n: np.zeros((8, 8, 3)) for n in ("main", "wrist")}}, "is float64"),
        ({"proprio": np.zeros(3)}, "proprio has shape"),
        ({"proprio": np.full(8, np.nan)}, "finite"),
        ({"instruction": 3}, "instruction is int"),
    ],
)
def test_bad_observations_name_the_field(run, change, message):
    with pytest.raises(ConfigError, match=message):
        Policy.load(run).act(OBSERVATION | change)


def test_missing_field(run):
    observation = {k: v for k, v in OBSERVATION.items() if k != "proprio"}
    with pytest.raises(ConfigError, match="no 'proprio'"):
        Policy.load(run).act(observation)


def test_what_is_no_checkpoint(run, tmp_path_factory):
    with pytest.raises(WeightsError, match="no checkpoint"):
        Policy.load(tmp_path_factory.mktemp("empty"))
    (checkpoint.find(run) / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(WeightsError, match="cannot be read"):
        Policy.load(run)


def test_other_data_sets_units(run):
    with pytest.raises(ConfigError, match="was trained on toy"):
        Policy.load(run, dataset="bridge")
