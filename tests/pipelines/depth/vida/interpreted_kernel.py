"""The kernel for attention over time, by Triton's interpreter. `test_temporal_kernel.py` runs this
in a process of its own, with TRITON_INTERPRET=1: Triton reads it when it is imported."""

import pytest
import torch
from einops import rearrange
from torch.nn import functional

from pipelines.depth.vida.halved import halved
from pipelines.depth.vida.temporal_kernel import attend
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.rounding import Rounding
from tests.pipelines.depth.vida.test_halved import HALF, require_within


@pytest.mark.parametrize(
    ("asking", "frames", "channels"), [(32, 32, 64), (8, 32, 192), (7, 7, 384), (1, 1, 64)]
)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (HALF, 2e-3)])
def test_it_is_the_fused_one(asking, frames, channels, dtype, bound):
    torch.manual_seed(0)
    joined = torch.randn(3, frames, 3 * channels).to(dtype)
    q, k, v = joined.chunk(3, dim=-1)  # views, as the network has them
    if asking != frames:
        q = torch.randn(3, asking, channels).to(dtype)
    heads = (rearrange(x.float(), "p t (a c) -> p a t c", a=8) for x in (q, k, v))
    fused = rearrange(functional.scaled_dot_product_attention(*heads), "p a t c -> p t (a c)")
    mixed = attend(q, k, v, heads=8)
    assert mixed.dtype is dtype
    assert (mixed.float() - fused).abs().max() < bound


def test_a_pixel_does_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 5, 9, 64).to(HALF)
    assert torch.equal(attend(q, k, v, 8)[2:3], attend(q[2:3], k[2:3], v[2:3], 8))


def test_a_forward_pass_stays_within_the_bounds(golden, vits):
    video = recipe.normalise(recipe.clip(8, 70, 98, seed=1))
    window = torch.from_numpy(video)[None]
    with torch.inference_mode(), Rounding():
        fused = halved(vits, HALF)(window)
        depth = halved(vits, HALF, attention="kernel")(window)
    require_within(depth.numpy(), golden("forward_vits.npz")["b1_t8_70x98"])
    assert not torch.equal(depth, fused)  # it ran indeed
    assert (depth - fused).abs().max() < 4e-3
