"""Memory grows with the patches of a window, not with their square, and suffices at 518 px.

Widths here are an eighth of the official ones (the number of blocks does not matter), so that what
is in memory at a time is in proportion: everything but the weights is a number of floats per patch
and unit of width.
"""

from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from pipelines.depth.gem.attention import attend, attend_by_parts
from pipelines.depth.gem.config import GEM_CONFIGS
from pipelines.depth.gem.network import GemDepth
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.runner import Groups, Runner, WindowInput
from pipelines.depth.windows.plan import plan

EIGHTH = replace(
    GEM_CONFIGS["gemdepth"],
    dim=128,
    depth=4,
    heads=2,
    taps=(0, 1, 2, 3),
    features=32,
    channels=(32, 64, 128, 128),
    table=10,
)
WEIGHTS = 677_219_155 * 4  # bytes
FULL = 37 * 37  # patches at 518 px
MIXING = 24_576 // 8  # floats a patch and frame: the largest step, beside two streams


def peak(run):
    """Bytes that are allocated at most at a time while it runs, beyond those before."""
    with (
        torch.inference_mode(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record,
    ):
        run()
    events = [
        event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    assert most > 0
    return most


@pytest.fixture(scope="module")
def eighth():
    torch.manual_seed(0)
    network = GemDepth(EIGHTH).eval()
    last = network.head.scratch.output_conv2  # its hidden width is 32 in every network
    last[0], last[2] = torch.nn.Conv2d(16, 4, 3, padding=1), torch.nn.Conv2d(4, 1, 1)
    return network


def test_mixing_a_window_takes_what_is_counted_for_it(eighth):
    """At two sizes, so that anything quadratic would show: scores alone would be 4 and 16 times as
    much."""
    for rows, columns in ((8, 8), (8, 16)):
        level3 = torch.randn(1, 32, 128, rows, columns)
        tokens = torch.randn(1, 32, rows * columns, 128)
        counted = 32 * rows * columns * MIXING * 4
        assert 0.8 < peak(lambda: eighth.mix(level3, tokens)) / counted < 1  # noqa: B023
        scores = (EIGHTH.dim // 32) * (32 * rows * columns) ** 2 * 4
        assert scores > 2.5 * counted


def test_a_window_at_518_px_takes_less_than_24_gb(eighth, monkeypatch):
    """All of a job as on a GPU, in float32: frames encoded, features joined, mixed, decoded."""
    filled = Groups(encode=11, decode=16, filled=True)  # those at 518 px
    assert Groups.of(torch.device("cuda"), (518, 518)) == filled
    monkeypatch.setattr(Groups, "of", classmethod(lambda *_, **__: filled))
    runner = Runner(eighth, RunConfig(input_size=112), torch.device("cpu"))
    first, second = list(plan(54, align=True))[:2]

    def job(window):
        count = window.fresh[1] - window.fresh[0]
        frames = torch.zeros(count, 112, 112, 3, dtype=torch.uint8)
        return WindowInput(0, window, frames, (112, 112), (112, 112))

    runner.depth([job(first)])
    most = peak(lambda: runner.depth([job(second)]))
    official = WEIGHTS + most * 8 * FULL / 64
    assert 8e9 < official < 14e9, f"{official / 1e9:.1f} GB"


def heads(queries, tokens, width=32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, n, width, generator=generator) for n in (queries, tokens, tokens)]


@pytest.mark.parametrize("width", [8, 32, 64])
@pytest.mark.parametrize("scores", [1, 5000, 1 << 28])
def test_attention_by_parts_is_the_fused_one(width, scores):
    q, k, v = heads(70, 90, width)
    whole = attend(q, k, v)
    parts = attend_by_parts(q, k, v, scores).transpose(1, 2).flatten(2)
    assert (whole - parts).abs().max() < 1e-5
    exact = ((q.double() @ k.double().mT) * width**-0.5).softmax(-1) @ v.double()
    assert (whole - exact.transpose(1, 2).flatten(2)).abs().max() < 1e-5


def test_without_a_fused_kernel_scores_are_taken_by_parts(monkeypatch):
    q, k, v = heads(512, 512)
    expected = attend(q, k, v)

    def missing(*_):
        raise RuntimeError("No available kernel. Aborting execution.")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", missing)
    assert (attend(q, k, v) - expected).abs().max() < 1e-5
    some = 32 * 3 * 512 * 4  # bytes: the scores of 32 queries
    assert peak(lambda: attend_by_parts(q, k, v, some)) < 4 * some + 4 * q.nbytes
    assert peak(lambda: attend_by_parts(q, k, v)) > 2 * 3 * 512 * 512 * 4

    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", full)
    with pytest.raises(torch.OutOfMemoryError):
        attend(q, k, v)
