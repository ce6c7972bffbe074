"""`train.fast` is the same function: outputs, gradients and updates, up to the last bits."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.vla import fakes
from tests.vla.model import test_mixture
from tests.vla.model.test_mixture import difference
from tests.vla.model.test_model import draws, example
from tests.vla.training.test_compiling import Counted
from vla.config import ExpertConfig
from vla.model.block_attention import rows
from vla.model.gemma import Expert
from vla.model.masks import SEES, SeesTable
from vla.model.mixture import sequential
from vla.model.model import build
from vla.run_options import TrainingOptions
from vla.training import optim
from vla.training.parallel import compile_layers
from vla.training.train import train
from vla.training.update import Update


def fastened(module, fast=True):
    for part in module.modules():
        if hasattr(part, "fast"):
            part.fast = fast
    return module


def fast_sequential(made, given, table):
    return sequential({name: fastened(expert) for name, expert in made.items()}, given, table)


def grouped(groups):
    """Experts of four query heads on `groups` key heads."""
    torch.manual_seed(0)
    shared = {"layers": 2, "heads": 4, "kv_heads": groups, "head_dim": 8}
    gradients = {
        name: Expert(ExpertConfig(width=w, mlp=2 * w, **shared)).double()
        for name, w in test_mixture.WIDTHS.items()
    }
    for expert in gradients.values():
        for weight in expert.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return gradients


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("action_sees_depth", [True, False])
@pytest.mark.parametrize("mask", list(SEES))
def test_outputs_and_gradients(mask, action_sees_depth, groups, monkeypatch):
    monkeypatch.setattr(test_mixture, "experts", lambda: grouped(groups))
    table = SeesTable.named(mask, action_sees_depth)
    outputs, grads = test_mixture.gradients(fast_sequential, table)
    expected, expected_grads = test_mixture.gradients(sequential, table)
    assert difference(outputs, expected) < 1e-12
    assert difference(grads, expected_grads) < 1e-10


def test_images_attend_without_a_mask_and_text_to_text_alone():
    """The paper's mask: two calls for the prefix, one for the depth tokens, one for the actions."""
    vlm, depth, action = test_mixture.streams()
    table, like = SeesTable.named("qdepth"), torch.zeros(1)

    def shapes(queries, keys):
        return [
            (row.queries, row.keys, row.bias if row.bias is None else tuple(row.bias.shape))
            for row in rows(table, queries, keys, 4, like)
        ]

    layout = vlm.layout + depth.layout
    assert shapes(vlm.layout, vlm.layout) == [
        ((0, 6), (0, 6), None),
        ((6, 11), (6, 11), (3, 1, 1, 5)),
    ]
    assert shapes(depth.layout, layout) == [((0, 6), (0, 17), (3, 1, 1, 17))]
    # Proprio does not see the depth between: four heads of five tokens, each with its own row.
    assert shapes(action.layout, layout + action.layout) == [((0, 5), (0, 22), (3, 1, 20, 22))]
    assert shapes(depth.layout, depth.layout) == [((0, 6), (0, 6), None)]


class Operators(TorchDispatchMode):
    """Counts what would be launched."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func._schema.name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


def one_pass(config, codebook, fast):
    """The losses, the gradients by name, and the operators that they took."""
    model = build(config, 0, torch.from_numpy(codebook.vectors))
    optim.freeze(model, fakes.micro().train)
    fastened(model, fast)
    with Operators() as operators:
        losses = model(example(config), *draws(config))
        (losses.flow + losses.depth).backward()
    grads = {n: w.grad for n, w in model.named_parameters() if w.grad is not None}
    return torch.stack([losses.flow, losses.depth]).detach(), grads, operators.calls


def test_the_whole_model_in_float32(micro, codebook):
    config = micro().model
    (losses, grads, plain), (others, other_grads, fast) = (
        one_pass(config, codebook, fast) for fast in (False, True)
    )
    assert torch.allclose(losses, others, rtol=1e-6)
    assert grads.keys() == other_grads.keys()
    for name, grad in grads.items():
        assert (grad - other_grads[name]).norm() <= 1e-6 * grad.norm(), name
    # Six layers, of which five have an MLP and attention: no sum over the heads of one key head,
    # twice in each backward pass.
    assert plain["sum"] - fast["sum"] == 2 * 5


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.unchecked
def test_compiled_it_needs_no_more_graphs(micro, codebook):
    torch._dynamo.reset()
    config, counted = micro().model, Counted()
    model = fastened(build(config, 0, torch.from_numpy(codebook.vectors)))
    compile_layers(model, counted.backend())
    for size in (2, 1, 2):
        losses = model(example(config, size), *draws(config, size))
        (losses.flow + losses.depth).backward()
    assert (counted.forward, counted.backward, counted.symbolic) == (10, 10, 0)
    torch._dynamo.reset()


# Steps


def updated(config, codebook, data, micro_batch=2, steps=2, backend=None):
    """The weights after some steps, and the figures of the last."""
    from vla.data.loader import Loader
    from vla.training.parallel import Ranks

    model = build(config.model, 0, torch.from_numpy(codebook.vectors)).train()
    optim.freeze(model, config.train)
    fastened(model, config.train.fast)
    if backend:
        compile_layers(model, backend)
    trained, cpu = optim.trained(model), torch.device("cpu")
    update = Update(
        config,
        model,
        model,
        trained,
        optim.optimizer(model, config.train),
        None,
        Ranks(),
        cpu,
        micro_batch,
    )
    with Loader(data, config.train.batch, seed=0, threads=0, device=cpu) as loader:
        for step, batch in zip(range(steps), loader, strict=False):
            figures = update(batch, step)
    assert [*model.state_dict()] == [*build(config.model, 0).state_dict()]
    assert all(isinstance(w, torch.nn.Parameter) for w in model.parameters())
    return trained, figures


@pytest.mark.parametrize("lora", [0, 2])
def test_weights_cast_once_have_the_bits_of_autocast(micro, toy, codebook, monkeypatch, lora):
    """With frozen parts and adapters, in two passes a step."""
    config = micro(train__precision="bf16", train__fast=True, train__lora_rank=lora)
    monkeypatch.setattr("vla.training.update.cast_once", _counting(casts := []))
    once, _ = updated(config, codebook, toy(config))
    assert len(casts) == 2
    monkeypatch.setattr(Update, "_cast", lambda self: _nothing())
    update, _ = updated(config, codebook, toy(config))
    assert all(torch.equal(once[name], update[name]) for name in update)


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.unchecked
def test_compiled_layers_take_the_cast_weights(micro, toy, codebook):
    """New copies in every update, and no new code for them."""
    torch._dynamo.reset()
    config, counted = micro(train__precision="bf16", train__fast=True), Counted()
    _, figures = updated(config, codebook, toy(config), steps=3, backend=counted.backend())
    torch._dynamo.reset()
    assert (counted.forward, counted.backward, counted.symbolic) == (5, 5, 0)
    _, plain = updated(config, codebook, toy(config), steps=3)
    assert figures["loss"].item() == pytest.approx(plain["loss"].item(), rel=1e-2)


def _counting(calls):
    from vla.model.casts import cast_once

    def counting(*given):
        calls.append(given)
        return cast_once(*given)

    return counting


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize("limit", [0.05, 1e3])
def test_a_fused_step_clips_as_a_plain_one(limit):
    """Where the norm is beyond the limit, and where it is not."""
    norms = []
    for fused in (False, True):
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(5))]
        adam = torch.optim.AdamW(weights, lr=0.1, fused=True)
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.randn_like(weight) * 3
            norm = optim.clipped_step(adam, weights, limit, fused)
        moments = [adam.state[w][name] for w in weights for name in ("exp_avg", "exp_avg_sq")]
        norms.append([norm, *weights, *moments])
    assert norms[0][0] > 0.05
    for plain, fused in zip(*norms, strict=True):
        assert torch.allclose(plain, fused, rtol=1e-6, atol=1e-9)


def test_another_optimiser_clips_as_before():
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), 30.0)
    adam = torch.optim.SGD([weight], lr=1.0)
    optim.clipped_step(adam, [weight], 1.0, True)
    assert weight.tolist() == pytest.approx([1 - 2**-0.5] * 2)


def test_a_run_is_recorded_as_fast_and_goes_on_so(micro, toy, codebook, tmp_path):
    import json

    from depthtok.errors import StaleStore

    config, options = (
        micro(train__steps=2, train__fast=True),
        TrainingOptions(loader_threads=0, log_every=1),
    )
    plain = micro(train__steps=2)
    for out, settings in ((tmp_path / "fast", config), (tmp_path / "plain", plain)):
        train(settings, toy(settings), out, options, codebook=codebook)
    losses = [
        [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (tmp_path / "fast", tmp_path / "plain")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    with pytest.raises(StaleStore, match=r"train\.fast"):
        train(plain, toy(plain), tmp_path / "fast", options, codebook=codebook)


def test_padding_is_where_the_layout_says(micro, codebook):
    """What stands in padded places changes neither losses nor gradients of a fast model."""
    config = micro().model
    model = fastened(build(config, 0, torch.from_numpy(codebook.vectors)))
    batch = example(config)
    other = replace(batch, text_BL=torch.where(batch.text_valid_BL, batch.text_BL, 7))
    assert not torch.equal(batch.text_BL, other.text_BL)
    a, b = (model(example_batch, *draws(config)) for example_batch in (batch, other))
    assert (a.flow.item(), a.depth.item()) == (b.flow.item(), b.depth.item())
