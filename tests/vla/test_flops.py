"""The arithmetic of the paper's model, part by part."""

import pytest

from vla.flops import forward_flops
from vla.named import load


def test_the_paper_model():
    found = {name: count / 1e9 for name, count in forward_flops(load("qdepth").model).items()}
    assert found["vision"] == pytest.approx(219, rel=0.01)
    assert found["vlm"] == pytest.approx(1046.7, rel=0.01)
    assert found["depth"] + found["depth_in"] + found["depth_head"] == pytest.approx(181, rel=0.02)
    assert found["total"] == pytest.approx(1451, rel=0.01)


def test_no_depth_expert_no_depth_arithmetic():
    with_depth, without = (forward_flops(load(n).model) for n in ("tiny", "tiny+no-depth-expert"))
    assert "depth" not in without
    assert without["total"] < with_depth["total"]
