"""On a GPU, every way to run the networks: the reference outputs, and bytes that depend on nothing
but the clip."""

import re

import numpy as np
import pytest
import torch
from einops import rearrange
from torch.nn import functional

from pipelines.depth.vida.config import CONFIGS, RunConfig
from pipelines.depth.vida.infer import estimate
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.runner import Runner
from pipelines.depth.vida.temporal import HEADS
from pipelines.depth.vida.temporal_kernel import attend
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip
from tests.pipelines.depth.vida.test_halved import HALF, require_within
from tests.pipelines.depth.vida.test_infer import CASES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
WAYS = {
    "float32": {"precision": "float32"},
    "float32-graphs": {"precision": "float32", "graphs": True},
    "float16": {},
    "graphs": {"graphs": True},
    "explicit": {"attention": "explicit"},
    "kernel": {"attention": "kernel", "graphs": True},
}
COMPILED = {
    "compiled": {"compile": True},
    "compiled-float32": {"compile": True, "precision": "float32"},
    "compiled-graphs": {"compile": True, "graphs": True},
    "compiled-explicit": {"compile": True, "graphs": True, "attention": "explicit"},
    "compiled-kernel": {"compile": True, "graphs": True, "attention": "kernel"},
}


def runner_of(network, input_size=70, **way):
    return Runner(network, RunConfig(input_size=input_size, **way), torch.device("cuda"))


def depth_of(runner, *clips):
    parts = [[] for _ in clips]
    for block in estimate(runner, clips):
        assert not block.error
        parts[block.clip].append(block.depth.values)
    return [np.concatenate(values) for values in parts]


def require_golden(golden, runner, cases):
    for case in cases:
        frames, height, width, _ = map(int, re.findall(r"\d+", case))
        (depth,) = depth_of(runner, MemoryClip(recipe.clip(frames, height, width, seed=1)))
        expected = golden("infer_vits.npz")[case]
        step = -(-height // expected.shape[1])
        depth = depth[:, ::step, ::step]
        if runner.precision == "float32":
            bound = 1e-4 if case.startswith("rel") and frames > 25 else 1e-5
            assert np.abs(depth - expected).max() < bound, case
        else:
            require_within(depth, expected)


def require_alone(network, **way):
    """The same bytes for batches of any size, in any order, again, and made anew."""
    clips = [MemoryClip(recipe.clip(n, 48, 64, seed=n)) for n in (1, 26, 5, 40, 23)]
    runner = runner_of(network, windows=1, **way)
    alone = [depth_of(runner, clip)[0].tobytes() for clip in clips]
    for runner.windows in (3, 16, 1):
        assert [depth.tobytes() for depth in depth_of(runner, *clips)] == alone
        backwards = depth_of(runner, *clips[::-1])[::-1]
        assert [depth.tobytes() for depth in backwards] == alone
    anew = depth_of(runner_of(network, readers=2, **way), *clips)
    assert [depth.tobytes() for depth in anew] == alone


@pytest.mark.parametrize("way", WAYS)
def test_depth_is_within_the_bounds(golden, vits, vits_weights, way):
    metric = VideoDepth(CONFIGS["metric-vits"])
    metric.load_state_dict(vits_weights)
    for kind, network in (("rel", vits), ("metric", metric)):
        cases = [case for case in CASES if case.startswith(kind)]
        require_golden(golden, runner_of(network, **WAYS[way]), cases)


@pytest.mark.parametrize("way", WAYS)
def test_company_does_not_change_a_byte(vits, way):
    require_alone(vits, **WAYS[way])


@pytest.mark.parametrize("way", COMPILED)
@pytest.mark.unchecked  # a compiler cannot trace checked functions
def test_compiled_depth_is_within_the_bounds_and_does_not_depend_on_company(golden, vits, way):
    require_alone(vits, **COMPILED[way])
    require_golden(golden, runner_of(vits, **COMPILED[way]), CASES[3:4])


def test_a_graph_changes_no_byte(vits):
    clip = MemoryClip(recipe.clip(40, 48, 64, seed=3))
    for way in ({"precision": "float32"}, {}, {"attention": "kernel"}):
        eager, graphed = (
            depth_of(runner_of(vits, graphs=g, **way), clip)[0] for g in (False, True)
        )
        assert eager.tobytes() == graphed.tobytes()


@pytest.mark.parametrize("width", [8, 16, 24, 48, 128])
@pytest.mark.parametrize("asking", [32, 1, 7])
def test_the_kernel_for_attention_over_time_is_attention(width, asking):
    generator = torch.Generator("cuda").manual_seed(0)
    shape = (500, 32, HEADS * width)
    q, k, v = (torch.randn(shape, generator=generator, device="cuda").to(HALF) for _ in range(3))
    q = q[:, :asking]
    by_head = [rearrange(x, "p t (a c) -> p a t c", a=HEADS) for x in (q, k, v)]
    exact, fused = (
        rearrange(functional.scaled_dot_product_attention(*inputs), "p a t c -> p t (a c)")
        for inputs in ([x.double() for x in by_head], by_head)
    )
    assert (attend(q, k, v, HEADS) - exact).abs().max() < 1.5 * (fused - exact).abs().max()


def test_half_precision_at_full_size_is_close(vits):
    clip = MemoryClip(recipe.clip(24, 256, 256, seed=1))
    exact, half = (
        depth_of(runner_of(vits, 518, precision=p), clip)[0] for p in ("float32", "float16")
    )
    assert np.abs(half - exact).mean() < 2e-3 * np.abs(exact).mean()
