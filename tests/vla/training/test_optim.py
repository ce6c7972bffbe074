"""Schedules, groups, and what is frozen."""

import pytest
import torch

from vla.config import TrainConfig
from vla.model.model import build
from vla.training import optim


def test_lambda_of_the_paper():
    config = TrainConfig()
    weights = [optim.depth_weight(config, step) for step in (0, 7000, 19_000, 30_000)]
    assert weights == pytest.approx([0.01, 0.0050, 0.0015, 0.0005], abs=5e-5)


def test_other_lambda_schedules():
    constant = TrainConfig(depth_schedule="constant")
    cosine = TrainConfig(depth_schedule="cosine", steps=100)
    assert optim.depth_weight(constant, 5000) == 0.01
    assert [optim.depth_weight(cosine, s) for s in (0, 50, 100)] == pytest.approx([0.01, 0.005, 0])


def test_learning_rate():
    config = TrainConfig(steps=1000, warmup=100, lr_end=0.1)
    assert optim.lr_factor(config, 0) == pytest.approx(0.01)
    assert optim.lr_factor(config, 99) == 1
    assert optim.lr_factor(config, 550) == pytest.approx(0.55)
    assert optim.lr_factor(config, 1000) == pytest.approx(0.1)
    constant = TrainConfig(schedule="constant", warmup=0)
    assert optim.lr_factor(constant, 18_000) == 1


def test_groups(micro):
    config = micro(train__vlm_lr=1e-5, train__weight_decay=0.1)
    model = build(config.model, 0)
    groups = {
        weight: group
        for group in optim.optimizer(model, config.train).param_groups
        for weight in group["params"]
    }
    assert groups[model.vision.patches.weight]["lr"] == 1e-5
    assert groups[model.action.layers[0].qkv.weight]["lr"] == config.train.lr
    assert groups[model.depth_head.log_scale]["lr"] == config.train.scale_lr
    assert groups[model.vision.patches.weight]["weight_decay"] == 0.1
    assert groups[model.vision.patches.bias]["weight_decay"] == 0


@pytest.mark.parametrize(
    "over",
    [
        {},
        {"model__action_sees_depth": False},
        {"model__depth__target": "none"},
        {"model__depth__target": "none", "model__action_sees_depth": False},
        {"model__depth__head": "linear"},
        {"model__depth__expert": False},
    ],
)
def test_all_that_trains_gets_a_gradient(micro, codebook, over):
    """So that distributed training needs no search for unused parameters."""
    from tests.vla.model.test_model import draws, example

    config = micro(**over)
    model = build(config.model, 0, torch.from_numpy(codebook.vectors))
    optim.freeze(model, config.train)
    losses = model(example(config.model), *draws(config.model))
    (losses.flow + losses.depth).backward()
    without = [name for name, weight in optim.trained(model).items() if weight.grad is None]
    assert without == []


def test_frozen_parts(micro):
    config = micro(train__freeze=("embed", "vision"))
    model = build(config.model, 0)
    optim.freeze(model, config.train)
    names = {name.split(".")[0] for name in optim.trained(model)}
    assert names == {"projector", "vlm", "action", "door", "depth_in", "depth", "depth_head"}


def test_moving_average():
    weight = torch.nn.Parameter(torch.zeros(3))
    average = optim.MovingAverage({"w": weight}, 0.9)
    for step in (1000, 1001):
        weight.data += 1
        average.update([weight], step)
    assert average.weights["w"].tolist() == pytest.approx([0.29] * 3)
    with average.in_place_of({"w": weight}):
        assert weight.tolist() == pytest.approx([0.29] * 3)
    assert weight.tolist() == [2.0] * 3
    assert average.weights["w"].tolist() == pytest.approx([0.29] * 3)


def test_a_young_average_forgets_where_it_began():
    weight = torch.nn.Parameter(torch.zeros(1))
    average = optim.MovingAverage({"w": weight}, 0.999)
    weight.data += 1
    average.update([weight], 0)
    assert average.weights["w"].item() == pytest.approx(0.9)
