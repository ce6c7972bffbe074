from __future__ import annotations

import pytest
import torch

from depthtok.errors import ConfigError
from vqvae.config import QuantizerConfig
from vqvae.model.quantizer import build

KINDS = ["ema", "gradient", "simvq", "fsq"]


def latents(number: int = 512, dim: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed))


def ready(dim: int = 16, **settings):
    quantizer = build(QuantizerConfig(**{"codes": 32, **settings}), dim, seed=0)
    quantizer.initialise(latents(dim=dim), seed=0)
    return quantizer


def test_codes_are_the_same_under_autocast():
    quantizer, z = ready(), latents(2000)
    plain = quantizer.codes(z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.codes(z), plain)
        assert quantizer(z).vectors.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_before_initialisation_latents_pass_through_in_training_and_in_eval(kind):
    quantizer = build(QuantizerConfig(kind=kind, codes=32), 16, seed=0)
    for mode in (True, False):
        done = quantizer.train(mode)(latents())
        assert done.codes is None
        assert not quantizer.initialised
    if kind != "fsq":
        assert torch.equal(done.vectors, latents())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", ["straight", "rotation"])
@pytest.mark.parametrize("cosine", [False, True])
def test_the_decoder_sees_the_chosen_vector_and_the_latents_get_a_gradient(kind, estimator, cosine):
    quantizer = ready(kind=kind, estimator=estimator, cosine=cosine)
    z = latents().requires_grad_()
    done = quantizer(z)
    expected = quantizer.vectors()[done.codes]
    torch.testing.assert_close(done.vectors, expected, rtol=1e-4, atol=1e-4)
    (done.vectors.square().sum() + done.loss).backward()
    assert z.grad.abs().sum() > 0
    assert torch.equal(done.codes, quantizer.codes(z))


@pytest.mark.parametrize("kind", KINDS)
def test_forward_changes_no_state(kind):
    quantizer = ready(kind=kind).train()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(latents())
    assert all(torch.equal(before[name], v) for name, v in quantizer.state_dict().items())


def test_flags_travel_with_the_state_dict():
    quantizer = ready()
    quantizer.update(latents(), quantizer.codes(latents()))
    other = build(QuantizerConfig(codes=32), 16, seed=9)
    other.load_state_dict(quantizer.state_dict())
    assert other.initialised
    assert other.step == 1
    assert torch.equal(other.codes(latents()), quantizer.codes(latents()))


def test_ema_moves_a_code_to_the_mean_of_its_latents():
    quantizer = ready(decay=0.5, reseed=0.0)
    z = latents()
    for _ in range(60):
        codes = quantizer.codes(z)
        quantizer.update(z, codes)
    means = torch.stack([z[codes == k].mean(0) for k in codes.unique()])
    torch.testing.assert_close(quantizer.vectors()[codes.unique()], means, rtol=1e-3, atol=1e-3)


def test_a_reseeded_code_takes_count_and_sum_along():
    quantizer = ready(decay=0.5)
    with torch.no_grad():
        quantizer.book[3] = 1e3  # far from every latent
        quantizer.sums[3] = 1e3
    z = latents()
    for _ in range(12):
        quantizer.update(z, quantizer.codes(z))
    assert quantizer.vectors()[3].abs().max() < 10
    torch.testing.assert_close(
        quantizer.sums[3] / quantizer.counts[3], quantizer.vectors()[3], rtol=1e-4, atol=1e-5
    )
    assert len(quantizer.codes(z).unique()) == 32


def test_fsq_codes_are_the_rounded_levels():
    quantizer = ready(kind="fsq", levels=(4, 3, 2))
    assert quantizer.vectors().shape == (24, 16)
    places = quantizer.searched(latents())
    assert torch.equal(quantizer.points[quantizer.codes(latents())], places.round())


def test_fsq_refuses_more_codes_than_a_byte_holds():
    with pytest.raises(ConfigError, match="280"):
        build(QuantizerConfig(kind="fsq", levels=(8, 7, 5)), 16, seed=0)


def test_continuous_has_no_codes():
    quantizer = build(QuantizerConfig(kind="none"), 16, seed=0)
    quantizer.initialise(latents(), seed=0)
    done = quantizer(latents())
    assert done.codes is None
    assert torch.equal(done.vectors, latents())
    with pytest.raises(ConfigError):
        quantizer.codes(latents())


def test_cosine_compares_directions():
    quantizer = ready(cosine=True)
    z = latents()
    assert torch.equal(quantizer.codes(z), quantizer.codes(z * 7))
    torch.testing.assert_close(quantizer.vectors().square().mean(1), torch.ones(32))


@pytest.mark.parametrize("number", [1, 2, 17, 64])
def test_reseeding_draws_as_if_only_the_dead_were_drawn_for(number):
    """How many are dead is not fetched from a GPU, so rows are drawn for all codes: the first ones
    are those that would be drawn for the dead alone."""
    quantizer = build(QuantizerConfig(codes=64, reseed=0.1), 16, seed=0)
    dead = torch.randperm(64, generator=torch.Generator().manual_seed(number))[:number]
    quantizer.counts[dead] = 1e-3
    quantizer.step += 41
    before = quantizer.book.clone()
    latents = torch.randn(100, 16, generator=torch.Generator().manual_seed(1))
    threshold = 0.1 * quantizer.counts.mean()
    marks = quantizer.counts < threshold
    pick = torch.randint(100, (int(marks.sum()),), generator=torch.Generator().manual_seed(41))
    quantizer._reseed(latents)
    assert torch.equal(quantizer.book[marks], latents[pick])
    assert torch.equal(quantizer.book[~marks], before[~marks])
    assert torch.equal(quantizer.sums[marks], latents[pick] * threshold)
    assert (quantizer.counts[marks] == threshold).all()
