"""Sampling in few launches: the same function as the plain path, in every shape and mask."""

import itertools

import pytest
import torch
from torch._dynamo.exc import FailOnRecompileLimitHit

from tests.vla.model.test_model import observation
from vla.model.model import build
from vla.serving import sampling
from vla.serving.policy import Policy
from vla.serving.running import Running, cast
from vla.serving.sampling import Sampler, compiled, fold, in_many_versions

NOISE = (3, 4, 7)


def made(config, codebook, seed=0):
    """A model whose norms have gains, as trained ones do."""
    model = build(config.model, seed, torch.from_numpy(codebook.vectors)).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight") or name.endswith("bias"):
            weight.data.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


@torch.no_grad()
def both(config, codebook, seed=0, dtype=torch.float32, make=Sampler):
    """Actions of the plain path in float32, of the plain path and of the sampler in `dtype`."""
    model = made(config, codebook, seed)
    torch.manual_seed(seed)
    inputs, noise = observation(config.model), torch.randn(3, config.model.chunk, 7)
    true = model.sample(inputs, noise)
    half = made(config, codebook, seed)
    cast(half, dtype)
    entrance = fold(model)
    cast(model, dtype)
    return true, half.sample(inputs, noise), make(model, entrance)(inputs, noise)


CASES = list(itertools.product((1, 2, 3), ("qdepth", "prefix", "causal"), ("sees", "blind", "no")))


@pytest.mark.parametrize(("cameras", "mask", "depth"), CASES)
def test_the_function_is_the_same(micro, codebook, cameras, mask, depth):
    config = micro(
        model__cameras=cameras,
        data__cameras=("main", "wrist", "third")[:cameras],
        model__mask=mask,
        model__action_sees_depth=depth == "sees",
        model__depth__expert=depth != "no",
        model__flow__clip=0.0,
    )
    true, _, fast = both(config, codebook, seed=cameras)
    assert true.abs().max() > 0.5
    assert (true - fast).abs().max() < 1e-6 * true.abs().max().clamp(min=1)


@pytest.mark.parametrize(
    "over",
    [
        {"model__proprio_dim": 0},
        {"model__depth__cameras": 2, "model__chunk": 7},
        {"model__flow__euler_steps": 3, "model__max_text": 41},
        {f"model__{e}__rope_theta": 100.0 for e in ("vlm", "action")},
    ],
)
def test_other_shapes_too(micro, codebook, over):
    true, _, fast = both(micro(**over), codebook)
    assert fast.shape == true.shape
    assert (true - fast).abs().max() < 1e-6


@torch.no_grad()
def test_a_folded_model_is_the_same_model(micro, codebook):
    config = micro()
    model, inputs = made(config, codebook), observation(config.model)
    depth = model.predict_depth(inputs)
    fold(model)
    assert all(
        (n.weight == 0).all()
        for n in model.vlm.modules()
        if hasattr(n, "mlp_norm")
        for n in (n.mlp_norm, n.attention_norm)
    )
    assert (model.predict_depth(inputs) - depth).abs().max() < 1e-4


def test_bfloat16_is_no_coarser_than_the_plain_path(micro, codebook):
    """Mean and largest error over twelve models, against float32."""
    errors = []
    for seed in range(12):
        true, plain, fast = both(micro(), codebook, seed, torch.bfloat16)
        errors.append([(plain - true).abs(), (fast - true).abs()])
    plain, fast = (torch.stack(column) for column in zip(*errors, strict=True))
    assert fast.dtype == torch.float32
    assert 1e-4 < fast.mean() < 1.25 * plain.mean()
    assert fast.max() < 1.5 * plain.max()


def test_the_depth_head_is_never_half(micro, codebook):
    model = made(micro(), codebook)
    cast(model, torch.bfloat16)
    assert model.predict_depth(observation(micro().model)).dtype == torch.float32
    kinds = {weight.dtype for weight in model.depth_head.parameters()}
    assert kinds == {torch.float32} != {weight.dtype for weight in model.vlm.parameters()}


def test_padding_and_stale_rows_are_not_seen(micro, codebook):
    """Other tokens where the prompt is padded change nothing, nor does an earlier call."""
    config = micro()
    model = made(config, codebook)
    sampler = Sampler(model, fold(model))
    torch.manual_seed(0)
    inputs, noise = observation(config.model), torch.randn(3, 4, 7)
    first = sampler(inputs, noise)
    other = torch.where(inputs.text_valid_BL, inputs.text_BL, inputs.text_BL.flip(1))
    assert (other != inputs.text_BL).any()
    sampler(observation(config.model), -noise)
    changed = type(inputs)(inputs.images_BIHW3, other, inputs.text_valid_BL, inputs.proprio_BP)
    assert torch.equal(sampler(changed, noise), first)


@pytest.mark.unchecked
def test_compiled_parts_are_the_same_function_without_a_break(micro, codebook):
    """By the compiler's front end (Inductor itself takes half a minute a model): whole graphs, one
    for every shape that a part meets, none at a second call."""
    counted = []

    def backend(graph, example):
        counted.append(graph)
        return graph.forward

    def make(function):
        return torch.compile(function, backend=backend, dynamic=False, fullgraph=True)

    config = micro()

    def twice(model, entrance):
        sampler = Sampler(model, entrance, compiled(make))

        def call(seen, noise):
            sampler(seen, noise)
            first = len(counted)
            actions = sampler(seen, noise)
            assert len(counted) == first
            return actions

        return call

    torch._dynamo.reset()
    true, _, fast = both(config, codebook, make=twice)
    assert (true - fast).abs().max() < 1e-6
    assert 3 <= len(counted) <= 12


@pytest.mark.unchecked
def test_policies_of_many_sizes_compile_in_one_process(monkeypatch):
    """Torch by itself gives up after eight versions of a part; so does a policy, after more."""
    torch._dynamo.reset()
    usual, limit = torch.compile, torch._dynamo.config.recompile_limit
    monkeypatch.setattr(torch, "compile", lambda part, **how: usual(part, backend="eager", **how))
    monkeypatch.setattr(sampling, "VERSIONS", limit + 3)
    gate = in_many_versions(compiled().gate)
    for width in range(2, limit + 5):
        assert gate(torch.ones(1, 2 * width)).shape == (1, width)
    with pytest.raises(FailOnRecompileLimitHit):
        gate(torch.ones(1, 2 * (limit + 5)))
    assert torch._dynamo.config.recompile_limit == limit


@pytest.mark.unchecked
def test_a_policy_raises_the_limit_once_a_chunk(micro, codebook, monkeypatch):
    """To raise it takes a tenth of a millisecond, and a chunk has hundreds of parts."""
    settings, patched = type(torch._dynamo.config), []
    patch = settings.patch
    noted = lambda self, **how: patched.append(how) or patch(self, **how)  # noqa: E731
    monkeypatch.setattr(settings, "patch", noted)
    monkeypatch.setattr(torch, "compile", lambda part, **how: part)
    policy = object.__new__(Policy)
    config, running = micro(), Running(sampler="compiled", cuda_graph=False)
    vars(policy).update(config=config, running=running, device=torch.device("cpu"))
    sample = policy._prepared(made(config, codebook))
    inputs, noise = observation(config.model), torch.randn(NOISE)
    assert sample(*inputs.tensors(), noise).shape == NOISE
    assert patched == [{"recompile_limit": sampling.VERSIONS}]
