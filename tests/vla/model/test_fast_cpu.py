"""`train.fast_cpu` is the same function: products, norms, texts read once, whole updates."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.vla.model.test_model import draws, example
from vla.model import convolved, reading
from vla.model.convolved import ConvolvedLinear, product
from vla.model.gemma import NORM_EPS, Rope
from vla.model.masks import SEES, SeesTable
from vla.model.model import build
from vla.model.normed import RmsNormed
from vla.run_options import TrainingOptions
from vla.training import checkpoint, optim
from vla.training.order import set_order
from vla.training.train import train


@pytest.mark.parametrize("shape", [(40,), (3, 40), (2, 3, 40), (2, 2, 3, 40)])
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_is_that_of_a_linear_layer(shape, biased, monkeypatch):
    monkeypatch.setattr(convolved, "SMALLEST", 0)
    torch.manual_seed(0)
    x = torch.randn(shape).requires_grad_()
    weight = torch.randn(24, 40).requires_grad_()
    bias = torch.randn(24).requires_grad_() if biased else None
    inputs = [x, weight, bias] if biased else [x, weight]
    y = product(x, weight, bias)
    exact = F.linear(*(None if i is None else i.double() for i in (x, weight, bias)))
    assert y.shape == exact.shape
    assert torch.allclose(y.double(), exact, atol=1e-5)
    along = torch.randn_like(y)
    grads = torch.autograd.grad(y, inputs, along)
    expected = torch.autograd.grad(exact, inputs, along.double())
    for ours, theirs in zip(grads, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_small_products_and_other_dtypes_are_plain():
    x, weight = torch.randn(2, 3, 40), torch.randn(24, 40)
    assert torch.equal(product(x, weight), F.linear(x, weight))  # too small to be worth it
    big, wide = torch.randn(64, 64, 128).double(), torch.randn(128, 128).double()
    assert torch.equal(product(big, wide), F.linear(big, wide))


def test_a_norm_and_its_gradient():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, dtype=torch.float64, requires_grad=True)
    expected = F.rms_norm(x, (8,), 1 + weight, NORM_EPS)
    assert torch.allclose(RmsNormed.apply(x, weight, NORM_EPS), expected, atol=1e-14)
    assert torch.autograd.gradcheck(lambda a, b: RmsNormed.apply(a, b, NORM_EPS), (x, weight))


def test_angles_with_their_sign_turn_alike():
    rope = Rope.at(torch.arange(1, 6)[None], 8, 10_000.0)
    x = torch.randn(2, 3, 5, 8)
    assert torch.allclose(rope.signed().turn_once(x), rope.turn(x), atol=1e-6)


def test_every_text_is_read_once():
    text = torch.tensor([[5, 6, 0], [7, 0, 0], [5, 6, 0], [5, 6, 9]])
    valid = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    texts, real, which = reading.once(text, valid)
    assert len(texts) == 3  # a fourth repeats the first
    assert which[0] == which[2]
    assert torch.equal(real[which], valid)
    assert torch.equal(texts[which] * real[which], text * valid)


@pytest.mark.parametrize(("longest", "kept"), [(0, 8), (1, 8), (8, 8), (9, 16), (19, 20)])
def test_padding_is_cut_behind_the_longest_text(micro, longest, kept):
    batch = example(micro(model__max_text=20).model)
    valid = torch.arange(20) < torch.tensor([[min(longest, 1)], [longest], [0]])
    cut = reading.without_padding(replace(batch, text_valid_BL=valid))
    assert cut.text_BL.shape == cut.text_valid_BL.shape == (3, kept)
    assert torch.equal(cut.text_BL, batch.text_BL[:, :kept])
    assert cut.text_valid_BL.sum() == valid.sum()


@pytest.mark.parametrize(("mask", "apart"), [("qdepth", True)] + [(m, False) for m in [*SEES][1:]])
def test_which_masks_keep_images_and_text_apart(mask, apart):
    assert reading.apart(SeesTable.named(mask)) is apart


def one_pass(config, codebook, **settings):
    model = build(config.model, 0, torch.from_numpy(codebook.vectors))
    set_order(model, replace(config.train, **settings))
    optim.freeze(model, config.train)
    batch = example(config.model, 4)
    text = batch.text_BL.clone()
    text[2] = text[0]
    batch = replace(batch, text_BL=text, text_valid_BL=batch.text_valid_BL.clone())
    losses = model(batch, *draws(config.model, 4))
    (losses.flow + losses.depth).backward()
    grads = {n: w.grad for n, w in model.named_parameters() if w.grad is not None}
    return model, torch.stack([losses.flow, losses.depth]).detach(), grads


@pytest.mark.parametrize("head", ["distance", "linear"])
@pytest.mark.parametrize("mask", list(SEES))
def test_the_whole_model(mask, head, micro, codebook, monkeypatch):
    monkeypatch.setattr(convolved, "SMALLEST", 0)
    config = micro(model__mask=mask, **{"model__depth__head": head})
    _, losses, grads = one_pass(config, codebook)
    model, others, other_grads = one_pass(config, codebook, fast_cpu=True)
    assert isinstance(model.vlm.layer(0).gate_up, ConvolvedLinear)
    assert torch.allclose(losses, others, rtol=1e-6)
    assert grads.keys() == other_grads.keys()
    for name, grad in grads.items():
        assert (grad - other_grads[name]).norm() <= 1e-5 * grad.norm(), name


def test_a_run_is_recorded_so_and_resumes_to_the_bit(micro, toy, codebook, tmp_path):
    from depthtok.errors import StaleStore

    options = TrainingOptions(loader_threads=0, log_every=1, checkpoint_every=2)
    config, plain = micro(train__steps=4, train__fast_cpu=True), micro(train__steps=4)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(config, toy(config), whole, options, codebook=codebook)
    calls = iter([False, False, True])
    train(config, toy(config), stopped, options, codebook=codebook, should_stop=lambda: next(calls))
    assert checkpoint.steps(stopped)[-1].name != checkpoint.steps(whole)[-1].name
    with pytest.raises(StaleStore, match=r"train\.fast_cpu"):
        train(plain, toy(plain), stopped, options, codebook=codebook)
    train(config, toy(config), stopped, options, codebook=codebook)
    digests = [checkpoint.weights_sha256(checkpoint.find(out)) for out in (whole, stopped)]
    assert digests[0] == digests[1]
    train(plain, toy(plain), tmp_path / "plain", options, codebook=codebook)
    losses = [
        [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (whole, tmp_path / "plain")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


FAULTS = """
import resource
import torch
from vla.training.order import keep_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        parts = [torch.ones(2**20) for _ in range(8)]
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
keep_memory()
faults()
print(faults())
"""


@pytest.mark.unchecked
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept():
    """Eight tensors of 4 MB are 8,192 pages; given back in between, they would be fresh ones."""
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True)
    assert int(ran.stdout) < 100
