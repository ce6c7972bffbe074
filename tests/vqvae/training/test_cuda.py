"""Training a codebook on a GPU, stopped and resumed. Bits may differ there, the data may not.

Runs on a CPU as well, which shows that the tests are right; with tolerances for a GPU."""

import numpy as np
import pytest
import torch

from depthtok.stores.codebook import Codebook
from tests.vqvae.synthetic import array_clip, scene, tiny
from vqvae.codec import Codec
from vqvae.config import TrainOptions
from vqvae.training.train import TokeniserTrainer, train

CUDA = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("stop_at", [1, 6])
def test_a_training_resumes_where_it_runs(tmp_path, source, monkeypatch, device, stop_at):
    """Stopped in the warm-up, and after the codes were placed: the steps that are left see the
    same crops, from the weights and moments that were saved."""
    steps, plain = {}, TokeniserTrainer.advance

    def advance(trainer):
        step = trainer.step
        take = trainer.crops.take
        trainer.crops.take = lambda number: (
            steps.setdefault(step, []).append(take(number)) or (steps[step][-1])
        )
        try:
            return plain(trainer)
        finally:
            trainer.crops.take = take

    monkeypatch.setattr(TokeniserTrainer, "advance", advance)
    figures = {"whole": {}, "cb": {}}

    def run(name, stop=None):
        return train(
            tiny(10),
            [source],
            tmp_path / name,
            TrainOptions(device=device),
            on_step=lambda step, by_step: figures[name].update({step: by_step}),
            should_stop=lambda: stop in figures[name],
        )

    assert run("whole")
    assert run("cb", stop_at) is None
    assert sorted(figures["cb"]) == list(range(1, stop_at + 1))
    assert run("cb")
    assert sorted(figures["cb"]) == list(range(1, 11))
    for first, second in steps.values():  # no step twice, and each on its own crops
        assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(first, second, strict=True))
        assert first[0].device.type == device
    losses = [[f["loss"] for f in by_step.values()] for by_step in figures.values()]
    np.testing.assert_allclose(*losses, rtol=0 if device == "cpu" else 0.1)
    books = [Codebook.load(tmp_path / name) for name in figures]
    if device == "cpu":
        assert books[0].fingerprint == books[1].fingerprint


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("sticky", [0.0, 0.3])
def test_codes_of_a_gpu_do_not_depend_on_groups_and_are_a_cpus(tmp_path, source, sticky):
    """Uploads, kernels and copies back overlap over groups: nothing may mix."""
    train(tiny(20), [source], tmp_path / "cb", TrainOptions())
    clip = array_clip(scene(1, frames=300)).read(0, 300).to_disparity()
    bounds, codes = (0.3, 2.0), {}
    for device in ("cpu", "cuda"):
        codec = Codec.load(tmp_path / "cb", device)
        codes[device] = codec.encode(clip, bounds, sticky=sticky)
        assert np.array_equal(codes[device], codec.encode(clip, bounds, sticky=sticky))
    one = Codec.load(tmp_path / "cb", "cuda")
    alone = array_clip(scene(1, frames=300)).read(0, 130).to_disparity()
    assert np.array_equal(one.encode(alone, bounds, sticky=sticky), codes["cuda"][:130])
    assert (codes["cpu"] != codes["cuda"]).mean() < (0.001 if not sticky else 0.01)
