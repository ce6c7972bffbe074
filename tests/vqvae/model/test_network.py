from __future__ import annotations

import pytest
import torch

from vqvae.config import NetworkConfig
from vqvae.model.network import build


@pytest.mark.parametrize(
    ("size", "grid", "stem"),
    [(128, 16, 4), (256, 16, 4), (512, 16, 4), (256, 8, 4), (256, 32, 4), (256, 16, 2)],
)
def test_sizes_and_grids(size, grid, stem):
    config = NetworkConfig(size=size, grid=grid, stem=stem, width=32, decoder_width=32, dim=8)
    encoder, decoder = build(config, seed=0)
    with torch.no_grad():
        latents = encoder(torch.rand(1, 1, size, size))
        assert latents.shape == (1, grid, grid, 8)
        assert decoder(latents).shape == (1, 1, size, size)


def test_latents_are_normed_per_cell():
    encoder, _ = build(NetworkConfig(size=64, grid=8), seed=0)
    with torch.no_grad():
        latents = encoder(torch.rand(2, 1, 64, 64))
    torch.testing.assert_close(latents.square().mean(-1), torch.ones(2, 8, 8), rtol=0, atol=1e-2)


def test_a_code_sees_its_surroundings_only():
    encoder, _ = build(NetworkConfig(size=256, grid=16), seed=0)
    image = torch.rand(1, 1, 256, 256)
    changed = image.clone()
    changed[..., 128:144, 128:144] += 1  # cell (8, 8)
    with torch.no_grad():
        moved = (encoder(image) != encoder(changed)).any(-1)[0]
    assert moved[8, 8]
    moved[7:10, 7:10] = False
    assert not moved.any()


def test_seeded_and_the_global_random_state_is_untouched():
    before = torch.random.get_rng_state()
    first, second = (build(NetworkConfig(), seed=3)[0].state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_default_encoder_is_small():
    """0.1 to 0.5 GFLOP a frame (two a multiply-add)."""
    from torch.utils.flop_counter import FlopCounterMode

    encoder, _ = build(NetworkConfig(), seed=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.rand(1, 1, 256, 256))
    assert 0.1e9 < counter.get_total_flops() < 0.5e9
