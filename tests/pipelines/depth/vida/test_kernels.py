"""Packed linear layers and torch.compile: the same depth, and a spec that says what made it."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn

from depthtok.errors import ConfigError
from pipelines.depth.vida.compiling import can_compile, compiled
from pipelines.depth.vida.config import CONFIGS, RunConfig
from pipelines.depth.vida.estimator import load_estimator, spec_of
from pipelines.depth.vida.infer import estimate
from pipelines.depth.vida.packed import PackedLinear, packed
from pipelines.depth.vida.runner import Runner, WindowInput
from pipelines.depth.windows.plan import plan
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip, tiny_network

CPU = torch.device("cpu")


def no_compiler(part, **_):
    def fails(*_):
        raise RuntimeError("no compiler\nanywhere\nand much more")

    return fails


def as_it_is(part, **_):
    return part


def test_a_packed_twin_gives_the_same_and_leaves_the_network_alone():
    network = tiny_network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    twin = packed(network)
    linear = sum(isinstance(module, nn.Linear) for module in network.modules())
    assert sum(isinstance(module, PackedLinear) for module in twin.modules()) == linear > 20
    frames = torch.rand(1, 4, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (twin(frames) - network(frames)).abs().max() < 1e-6
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert twin.head.scratch is not network.head.scratch
    assert twin.head.projects[0].weight is network.head.projects[0].weight


def test_a_cpu_runs_packed(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "pipelines.depth.vida.runner.packed", lambda it: (calls.append(it), packed(it))[1]
    )
    network = tiny_network()
    Runner(network, RunConfig(input_size=28), CPU)
    assert calls == [network]


def test_where_nothing_compiles_it_says_so_and_the_spec_does_too(caplog, monkeypatch):
    monkeypatch.setattr(torch, "compile", no_compiler)
    assert not can_compile(CPU)
    assert caplog.text.count("no compiler") == 1
    assert "much more" not in caplog.text
    run = RunConfig(input_size=28)
    plain = load_estimator(CONFIGS["tiny"], None, run, CPU)
    asked = load_estimator(CONFIGS["tiny"], None, RunConfig(input_size=28, compile=True), CPU)
    assert asked.spec == plain.spec


def test_a_network_that_does_not_compile_is_refused_with_a_remedy(monkeypatch):
    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(ConfigError, match="no compiler") as raised:
        compiled(lambda x: x)(1)
    assert "--compile" in raised.value.remedy


def test_running_out_of_memory_is_not_taken_for_a_failure_to_compile(monkeypatch):
    def out_of_memory(x):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch, "compile", as_it_is)
    with pytest.raises(torch.OutOfMemoryError):
        compiled(out_of_memory)(1)


def test_compiling_is_part_of_what_makes_the_depth():
    network = tiny_network()
    specs = [spec_of(network, RunConfig(compile=compile), CPU) for compile in (False, True)]
    assert specs[0] != specs[1]
    assert ("compile", "yes") in specs[1].settings


@pytest.mark.parametrize("lengths", [(5, 23, 26), (26, 5, 23)])
def test_compiled_groups_have_one_size_and_give_the_same_depth(monkeypatch, lengths):
    shapes = set()

    def recording(part, *, fullgraph, dynamic):
        assert fullgraph
        assert dynamic is False

        def run(*inputs):
            shapes.add((part.__name__, *(tuple(getattr(value, "shape", ())) for value in inputs)))
            return part(*inputs)

        return run

    clips = [MemoryClip(recipe.clip(length, 16, 20, seed=length)) for length in lengths]
    network = tiny_network()
    expected = depth_of(network, clips)
    monkeypatch.setattr(torch, "compile", recording)
    assert np.abs(depth_of(network, clips, compile=True) - expected).max() < 1e-5
    assert len(shapes) == 3  # encode, mix, decode


def jobs_of(lengths):
    """Windows of clips of these lengths, as a batch for a GPU."""
    return [
        WindowInput(
            clip,
            window,
            torch.zeros(len(range(*window.fresh)), 16, 20, 3, dtype=torch.uint8),
            (28, 42),
            (16, 20),
        )
        for clip, length in enumerate(lengths)
        for window in plan(length, align=True)
    ]


@pytest.mark.unchecked
def test_other_batches_compile_nothing_anew(monkeypatch):
    """In full graphs, without breaks, three in all; no size in them is a symbol. The device without
    memory stands for a GPU."""
    compiler, graphs = torch.compile, []

    def backend(graph, inputs):
        graphs.append(inputs)
        return graph.forward

    monkeypatch.setattr(
        torch, "compile", lambda part, **how: compiler(part, backend=backend, **how)
    )
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    run = RunConfig(input_size=28, precision="float16", compile=True, attention="explicit")
    runner = Runner(tiny_network(), run, torch.device("meta"))
    for lengths in ((60,), (23, 1), (90, 26, 5)):
        depth = runner.depth(jobs_of(lengths))
        assert sum(map(len, depth)) >= sum(lengths)
    assert len(graphs) == 3  # encode, mix, decode
    assert all(isinstance(value, torch.Tensor) for inputs in graphs for value in inputs)
    assert torch._dynamo.utils.counters["graph_break"] == {}
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_more_sizes_than_torch_compiles_by_itself(monkeypatch):
    """Cameras of many sizes in one process: torch gives up after eight versions of a function."""
    with_inductor = torch.compile
    eager = lambda part, **how: with_inductor(part, backend="eager", **how)  # noqa: E731
    monkeypatch.setattr(torch, "compile", eager)
    before = torch._dynamo.config.recompile_limit
    double = compiled(lambda x: x * 2)
    for size in range(2, before + 5):
        assert double(torch.ones(size)).tolist() == [2.0] * size
    assert torch._dynamo.config.recompile_limit == before


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # inside torch
@pytest.mark.unchecked
def test_compiled_code_gives_the_same_depth():
    part = tiny_network().head.decode
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.rand(2, 32, side, side, generator=generator) for side in (4, 8, 4)]
    with torch.inference_mode():
        assert (compiled(part)(*inputs) - part(*inputs)).abs().max() < 1e-5


def depth_of(network, clips, **settings):
    """Depth of all clips in a row."""
    runner = Runner(network, RunConfig(input_size=28, **settings), CPU)
    return np.concatenate([block.depth.values for block in estimate(runner, clips)])
