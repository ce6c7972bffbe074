"""The emulation of half precision rounds each operator once, from a float32 result."""

import torch

from tests.pipelines.depth.vida.rounding import Rounding

HALF = torch.float16


def values(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(HALF)


def test_sums_are_float32_and_rounded_once():
    a, b = values(5, 4096), values(4096, 3, seed=1)
    exact = a.double() @ b.double()
    with Rounding():
        product = a @ b
        full = torch.mm(a, b, out_dtype=torch.float32)
    assert product.dtype is HALF
    assert full.dtype is torch.float32
    assert torch.equal(product, full.to(HALF))
    assert (full - exact).abs().max() < 1e-3  # a running sum in float16 would be off by 0.1


def test_results_have_the_dtype_that_torch_gives():
    x, wide = values(4), torch.ones(4)
    with Rounding():
        assert (x + x).dtype is HALF
        assert (x + wide).dtype is torch.float32
        assert (x * torch.tensor(2.0)).dtype is HALF  # a scalar does not promote
        assert torch.cat((x, wide)).dtype is torch.float32
        assert (wide + wide).dtype is torch.float32
    assert torch.equal(x * 3.0, (x.float() * 3).to(HALF))


def test_each_operator_rounds():
    x = torch.tensor([2049.0, 0.1], dtype=HALF)  # 2049 is not a float16
    with Rounding():
        assert (x[:1] + 1).item() == 2048
        assert ((x[1:] * 3) / 3).item() != 0.1
