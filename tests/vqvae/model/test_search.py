from __future__ import annotations

import torch

from vqvae.model.search import distances, kmeans, nearest


def latents(number: int = 512, dim: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed))


def test_nearest_is_exact_and_the_lowest_index_wins_ties():
    z, book = latents(200), latents(32, seed=1)
    double = torch.cdist(z.double(), book.double()).argmin(1)
    assert torch.equal(nearest(z, book), double)
    twice = torch.cat([book, book])
    assert nearest(z, twice).max() < 32


def test_the_search_is_float32_under_autocast():
    z, book = latents(2000), latents(32, seed=1)
    plain = distances(z, book)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = distances(z, book)
    assert mixed.dtype == torch.float32
    assert torch.equal(plain, mixed)


def test_kmeans_is_deterministic_and_leaves_no_centre_empty():
    z = torch.cat([latents(300) * 0.01, latents(20, seed=2) + 5])
    first, second = (kmeans(z, 32, 10, seed=0) for _ in range(2))
    assert torch.equal(first, second)
    assert len(nearest(z, first).unique()) >= 30


def test_kmeans_with_fewer_samples_than_codes():
    centres = kmeans(latents(5), 8, 3, seed=0)
    assert centres.shape == (8, 16)
    assert centres.isfinite().all()
