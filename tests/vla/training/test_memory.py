"""The memory of a training, against its parts, against real tensors, and against measurements."""

import pytest
import torch

from tests.vla.model.test_model import draws, example
from vla.model.model import build
from vla.named_configs import load
from vla.training import optim
from vla.training.device_memory import GIB, Memory
from vla.training.memory import needed

# Peaks in GiB of the full model on an H200, eager, by samples in a pass.
MEASURED = {8: 52, 16: 62, 32: 83, 64: 125}


@pytest.fixture(scope="module")
def full():
    return needed(load("qdepth"))


def test_the_full_model_as_measured(full):
    for samples, gib in MEASURED.items():
        assert full.peak(samples) / GIB == pytest.approx(gib, rel=0.09), samples
    assert full.peak(32, passes=4) / GIB == pytest.approx(94, rel=0.09)


def test_what_fits(full):
    """What `--plan` says is the largest does fit, and one more does not."""
    for gib in (78.0, 139.0):
        for passes in (1, 4):
            most = full.fits(gib, passes)
            assert full.peak(most, passes) <= 0.95 * gib * GIB < full.peak(most + 1, passes)
    assert full.fits(78.0) < 32 < full.fits(139.0) < 64
    assert full.fits(40.0) == 0


def test_gradients_alone_may_be_the_peak():
    memory = Memory(weights=10, moments=20, average=0, gradients=100, casts=5, per_sample=10)
    assert memory.peak(2) == 130  # when the pass ends
    assert memory.peak(20) == 235
    assert memory.peak(2, passes=2) == 155
    assert Memory(0, 0, 0, GIB, 0, GIB / 4).fits(2) == 7  # 0.95 * 2 * 4


def test_recomputing_saves_what_lies_between_the_layers_only(micro):
    plain, again = (needed(micro(), recompute=on) for on in (False, True))
    assert again.per_sample < plain.per_sample / 2
    assert again.weights == plain.weights


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_real_tensors_save_as_much(micro, codebook, precision):
    config = micro(train__precision=precision)
    model = build(config.model, 0, torch.from_numpy(codebook.vectors))
    optim.freeze(model, config.train)
    weight_storages = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    counted = []
    for samples in (3, 5):
        saved_sizes = {}

        def pack(tensor, saved_sizes=saved_sizes):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weight_storages:
                saved_sizes[storage.data_ptr()] = storage
            return tensor

        batch, noise = example(config.model, samples), draws(config.model, samples)
        with (
            torch.autocast("cpu", torch.bfloat16, precision == "bf16"),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            losses = model(batch, *noise)
        counted.append(sum(storage.nbytes() for storage in saved_sizes.values()))
        del losses
    per_sample = (counted[1] - counted[0]) / 2
    assert needed(config).per_sample == pytest.approx(per_sample, rel=0.02)


def test_state_by_kind(micro):
    config = micro(train__ema=0.9)
    model = build(config.model, 0)
    optim.freeze(model, config.train)
    trained = sum(weight.numel() for weight in optim.trained(model).values())
    full, eight = needed(config), needed(micro(train__optimizer="adamw8bit"))
    assert (full.gradients, full.average, full.moments) == (
        4 * trained,
        4 * trained,
        8 * trained,
    )
    assert eight.average == 0
    assert eight.moments == pytest.approx(trained * (2 + 2 / 64))
    assert needed(config, shards=4).moments == 2 * trained
