"""Flow matching: where time begins and ends, and that a perfect velocity finds the data."""

import math

import pytest
import torch

from vla.config import FlowConfig
from vla.model import flow


def test_time_zero_is_noise_and_one_is_data():
    data, noise = torch.randn(2, 4, 7), torch.randn(2, 4, 7)
    config = FlowConfig(sigma_min=0.001)
    start, velocity = flow.interpolate(config, data, noise, torch.zeros(2))
    end, _ = flow.interpolate(config, data, noise, torch.ones(2))
    assert torch.equal(start, noise)
    assert torch.allclose(end, data + 0.001 * noise, atol=1e-6)
    assert torch.allclose(velocity, end - start, atol=1e-5)


def test_the_true_velocity_leads_to_the_data():
    config = FlowConfig(clip=0.0)
    data, noise = torch.randn(3, 4, 7), torch.randn(3, 4, 7)
    _, target = flow.interpolate(config, data, noise, torch.rand(3))
    actions = flow.integrate(config, lambda x, t: target, noise)
    assert torch.allclose(actions, data + config.sigma_min * noise, atol=1e-5)


def test_euler_steps_run_from_zero_towards_one():
    times = []
    config = FlowConfig(euler_steps=4)
    flow.integrate(config, lambda x, t: times.append(t[0].item()) or x, torch.zeros(1, 2, 2))
    assert times == [0, 0.25, 0.5, 0.75]


def test_actions_are_clipped():
    big = torch.full((1, 2, 2), 5.0)
    assert flow.integrate(FlowConfig(), lambda x, t: 0 * x, big).max() == 1
    assert flow.integrate(FlowConfig(clip=0.0), lambda x, t: 0 * x, big).max() == 5


@pytest.mark.parametrize(
    ("sampling", "mean"), [("uniform", 0.5), ("beta", 0.999 * (1 - 1.5 / 2.5))]
)
def test_time_sampling(sampling, mean):
    """Beta(1.5, 1) has mean 0.6: training dwells on early, noisy times."""
    generator = torch.Generator().manual_seed(0)
    times = flow.sample_times(FlowConfig(sampling=sampling), 40_000, generator)
    assert times.mean().item() == pytest.approx(mean, abs=0.005)
    assert times.min() >= 0
    assert times.max() < 1
    if sampling == "beta":  # P(t < x) = 1 - (1 - x / 0.999) ** 1.5
        assert (times < 0.3).float().mean().item() == pytest.approx(1 - 0.6997**1.5, abs=0.01)


def test_loss_ignores_what_lies_after_the_end():
    valid = torch.tensor([[True, True, False], [True, False, False]])
    target = torch.zeros(2, 3, 2)
    velocity = torch.where(valid[..., None], 2.0, 1e6).expand(2, 3, 2)
    assert flow.loss(velocity, target, valid).item() == 4
    assert flow.loss(velocity, target, torch.zeros_like(valid)).item() == 0


def test_time_embedding():
    embedded = flow.embed_time(torch.tensor([0.0, 0.5]), 8, 100.0)
    assert embedded.shape == (2, 8)
    assert embedded[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert embedded[1, 0].item() == pytest.approx(math.sin(0.5))
    assert embedded[1, 3].item() == pytest.approx(math.sin(0.5 / 100))
