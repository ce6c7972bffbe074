"""GemDepth on a GPU: the reference outputs, and bytes that depend on nothing but the clip."""

import re

import numpy as np
import pytest
import torch

from tests.pipelines.depth.gem.test_half import CLIPS
from tests.pipelines.depth.gem.test_infer import CASES
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip
from tests.pipelines.depth.vida.test_cuda import depth_of, require_alone, runner_of
from tests.pipelines.depth.vida.test_halved import require_within

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
WAYS = {
    "float32": {"precision": "float32"},
    "float16": {},
    "graphs": {"graphs": True},
    "compiled": {"compile": True},
    "compiled-graphs": {"compile": True, "graphs": True},
}
EAGER = ["float32", "float16", "graphs"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", EAGER)
def test_depth_is_within_the_bounds(golden, networks, way, case):
    frames, height, width, _ = map(int, re.findall(r"\d+", case))
    clip = MemoryClip(recipe.clip(frames, height, width, seed=1))
    (depth,) = depth_of(runner_of(networks[case.split("_")[0]], **WAYS[way]), clip)
    expected = golden("infer_vits.npz")[case]
    step = -(-height // expected.shape[1])
    depth = depth[:, ::step, ::step]
    if way == "float32":
        assert np.abs(depth - expected).max() < (1e-4 if frames > 25 else 1e-5)
    else:
        require_within(depth, expected, CLIPS)


@pytest.mark.parametrize("way", EAGER)
def test_company_does_not_change_a_byte(networks, way):
    require_alone(networks["on"], **WAYS[way])


@pytest.mark.unchecked
@pytest.mark.parametrize("way", ["compiled", "compiled-graphs"])
def test_compiled_company_does_not_change_a_byte(networks, way):
    require_alone(networks["on"], **WAYS[way])
