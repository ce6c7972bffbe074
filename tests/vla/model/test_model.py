"""The whole model: sizes, starts, dropped experts, padding."""

import math
from dataclasses import replace

import pytest
import torch

from vla.model.batch import Batch, Observation
from vla.model.model import QDepthVLA, build
from vla.named_configs import load


def observation(model, batch=3):
    torch.manual_seed(0)
    size = model.vision.image_size
    length = torch.randint(5, model.max_text - 5, (batch, 1))
    return Observation(
        torch.randint(0, 256, (batch, model.cameras, size, size, 3), dtype=torch.uint8),
        torch.randint(4, 260, (batch, model.max_text)),
        torch.arange(model.max_text)[None] < length,
        torch.randn(batch, model.proprio_dim),
    )


def example(model, batch=3):
    inputs = observation(model, batch)
    grid = model.depth.grid**2
    return Batch(
        **vars(inputs),
        actions_BCA=torch.rand(batch, model.chunk, model.action_dim) * 2 - 1,
        action_valid_BC=torch.ones(batch, model.chunk, dtype=torch.bool),
        depth_BMK=torch.randint(0, model.depth.codes, (batch, model.depth.cameras, grid)),
        depth_valid_BM=torch.ones(batch, model.depth.cameras, dtype=torch.bool),
    )


def draws(model, batch=3):
    torch.manual_seed(1)
    return torch.randn(batch, model.chunk, model.action_dim), torch.rand(batch)


def billions(module):
    return sum(weight.numel() for weight in module.parameters()) / 1e9


def test_sizes_of_the_paper_model():
    with torch.device("meta"):
        model = QDepthVLA(load("qdepth").model)
    depth = sum(billions(part) for part in (model.depth_in, model.depth, model.depth_head))
    assert billions(model) == pytest.approx(3.55, abs=0.005)
    assert depth == pytest.approx(0.314, abs=0.0005)
    assert billions(model.vision) == pytest.approx(0.412, abs=0.0005)
    assert billions(model.vlm) == pytest.approx(1.982, abs=0.0005)
    assert billions(model.embed) == pytest.approx(0.527, abs=0.0005)


def test_first_cross_entropy_is_near_ln_k(micro, codebook):
    config = micro().model
    model = build(config, 0, torch.from_numpy(codebook.vectors))
    losses = model(example(config), *draws(config))
    assert losses.depth.item() == pytest.approx(math.log(16), rel=0.1)


@pytest.mark.parametrize("mask", ["qdepth", "prefix", "causal"])
def test_dropped_depth_expert_equals_a_model_without(micro, codebook, mask):
    """With action_sees_depth = false, acting is bit-equal to a model that never had the expert."""
    config = micro(model__action_sees_depth=False, model__mask=mask).model
    model = build(config, 0, torch.from_numpy(codebook.vectors))
    bare = QDepthVLA(replace(config, depth=replace(config.depth, expert=False)))
    shared_weights = {k: v for k, v in model.state_dict().items() if k in bare.state_dict()}
    bare.load_state_dict(shared_weights)
    inputs, (noise, _) = observation(config), draws(config)
    with torch.no_grad():
        assert torch.equal(model.sample(inputs, noise), bare.sample(inputs, noise))


def test_actions_see_depth_tokens(micro, codebook):
    config = micro().model
    model = build(config, 0, torch.from_numpy(codebook.vectors))
    inputs, (noise, _) = observation(config), draws(config)
    with torch.no_grad():
        before = model.sample(inputs, noise)
        model.depth_in.up.weight.add_(0.5)
        assert not torch.equal(model.sample(inputs, noise), before)


@pytest.mark.parametrize("mask", ["qdepth", "prefix", "causal"])
def test_padding_changes_nothing(micro, codebook, mask):
    """Neither what stands in the padding nor how much of it there is."""
    config = micro(model__mask=mask).model
    model = build(config, 0, torch.from_numpy(codebook.vectors)).double()
    batch, (noise, time) = example(config), draws(config)
    noise = noise.double()
    batch = replace(
        batch, proprio_BP=batch.proprio_BP.double(), actions_BCA=batch.actions_BCA.double()
    )
    other = replace(
        batch,
        text_BL=torch.nn.functional.pad(
            torch.where(batch.text_valid_BL, batch.text_BL, 7), (0, 9), value=9
        ),
        text_valid_BL=torch.nn.functional.pad(batch.text_valid_BL, (0, 9)),
    )
    a, b = model(batch, noise, time), model(other, noise, time)
    assert torch.allclose(a.flow, b.flow, rtol=0, atol=1e-12)
    assert torch.allclose(a.depth, b.depth, rtol=0, atol=1e-6)


def test_fresh_weights_follow_the_seed(micro):
    config = micro().model
    a, b, c = (build(config, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["projector.weight"], c["projector.weight"])
    assert all(torch.isfinite(x).all() for x in a.values())


def test_detached_prefix_stops_the_depth_gradient(micro, codebook):
    """Gemma learns nothing from depth then; SigLIP still does, through the depth input."""
    reaches = {}
    for detach in (False, True):
        config = micro(model__depth__detach_prefix=detach).model
        model = build(config, 0, torch.from_numpy(codebook.vectors))
        model(example(config), *draws(config)).depth.backward()
        reaches[detach] = model.vlm.layers[0].qkv.weight.grad is not None
        assert model.vision.patches.weight.grad.abs().max() > 0
    assert reaches == {False: True, True: False}


@pytest.mark.parametrize("target", ["latents", "none"])
def test_other_targets(micro, codebook, target):
    config = micro(model__depth__target=target).model
    model = build(config, 0, torch.from_numpy(codebook.vectors))
    losses = model(example(config), *draws(config))
    assert (losses.depth.item() > 0) == (target == "latents")


def test_linear_head_and_finer_grids(micro, codebook):
    config = micro(model__depth__head="linear", model__depth__grid=8).model
    model = build(config, 0, torch.from_numpy(codebook.vectors))
    losses = model(example(config), *draws(config))
    assert losses.depth_predicted.shape == (3, 1, 64, 16)


def test_no_proprio_and_no_expert(micro):
    config = micro(model__proprio_dim=0, model__depth__expert=False).model
    model = build(config, 0)
    losses = model(example(config), *draws(config))
    assert losses.depth.item() == 0
    assert not hasattr(model, "depth")


@pytest.mark.parametrize("over", [{}, {"model__action_sees_depth": False}])
def test_the_whole_model_equals_its_reference(micro, codebook, over):
    """Losses and every gradient, in float64."""
    config = micro(**over).model
    batch, (noise, time) = example(config), draws(config)
    batch = replace(
        batch, proprio_BP=batch.proprio_BP.double(), actions_BCA=batch.actions_BCA.double()
    )
    layers = []
    for way in ("forward", "reference"):
        model = build(config, 0, torch.from_numpy(codebook.vectors)).double()
        losses = getattr(model, way)(batch, noise.double(), time)
        (losses.flow + losses.depth).backward()
        layers.append((losses.flow, losses.depth, dict(model.named_parameters())))
    (flow, depth, a), (other_flow, other_depth, b) = layers
    assert abs(flow - other_flow) < 1e-6
    assert abs(depth - other_depth) < 1e-6
    for name, weight in a.items():
        if weight.grad is not None:
            assert torch.allclose(weight.grad, b[name].grad, rtol=1e-5, atol=1e-7), name
