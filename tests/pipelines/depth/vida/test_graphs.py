"""CUDA graphs by a stand-in: the same bytes as the functions that were recorded."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from depthtok.errors import ConfigError, WorkerDied
from pipelines.depth.vida import compiling
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.graphs import MOST, WARM_UPS, CudaRecorder, ShapedGraphs
from pipelines.depth.vida.halved import halved
from pipelines.depth.vida.infer import _to_host, estimate
from pipelines.depth.vida.runner import Groups, Runner
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip, tiny_network
from tests.pipelines.depth.vida.replaying import Replaying
from tests.pipelines.depth.vida.rounding import Rounding
from tests.pipelines.depth.vida.test_halved import HALF

CPU = torch.device("cpu")


def test_a_graph_takes_new_inputs_and_its_outputs_are_not_overwritten():
    record = Replaying()
    graphed = ShapedGraphs(lambda x, y: (x @ y, (x.T + 1).relu()), record)
    inputs = [(torch.full((2, 3), float(n)), torch.arange(12.0).view(3, 4) - n) for n in range(3)]
    results = [graphed(*pair) for pair in inputs]
    for (x, y), (product, other) in zip(inputs, results, strict=True):
        assert torch.equal(product, x @ y)
        assert torch.equal(other, (x.T + 1).relu())
    assert (record.runs, record.replays) == (1, 3)


def test_a_gpu_that_fails_is_not_the_fault_of_graphs_or_of_the_compiler(monkeypatch):
    def failing(x):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")

    monkeypatch.setattr(compiling, "_compile", lambda part: part)
    for way in (ShapedGraphs(failing, Replaying()), compiling.compiled(failing)):
        with pytest.raises(WorkerDied, match="the GPU failed: CUDA error: an illegal memory acc"):
            way(torch.ones(1))


def test_each_shape_and_dtype_has_its_graph_and_only_the_latest_are_kept():
    record = Replaying()
    graphed = ShapedGraphs(lambda x: x * 2, record)
    for size in (1, 2, 1, 2):
        assert graphed(torch.ones(size)).tolist() == [2.0] * size
    assert graphed(torch.ones(2, dtype=torch.float64)).dtype is torch.float64
    assert record.runs == 3
    for size in range(3, 3 + MOST):
        graphed(torch.ones(size))
    assert record.runs == 3 + MOST
    assert graphed(torch.ones(1)).tolist() == [2.0]
    assert record.runs == 4 + MOST


def test_an_order_in_memory_has_its_graph():
    """Libraries choose kernels by it, so that the first frames would decide the bits of others."""
    record = Replaying()
    orders = []

    def part(x):
        orders.append(x.stride())
        return x * 2

    graphed = ShapedGraphs(part, record)
    plain = torch.arange(24.0).view(1, 2, 3, 4)
    last = plain.contiguous(memory_format=torch.channels_last)
    for images in (plain, last, plain, last):
        assert torch.equal(graphed(images), plain * 2)
    assert orders == [plain.stride(), last.stride()]
    assert record.runs == 2


class Cuda:
    """Stands for what `CudaRecorder` and `_to_host` call of torch.cuda; notes on which device."""

    def __init__(self, monkeypatch):
        self.current, self.entered, self.events = torch.device("cuda:0"), [], []
        for name in ("device", "stream", "graph", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "Stream", self.current_stream)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=list))

    @contextmanager
    def device(self, device):
        before, self.current = self.current, device
        yield
        self.current = before

    @contextmanager
    def stream(self, stream):
        yield

    @contextmanager
    def graph(self, graph, pool, capture_error_mode):
        yield

    def current_stream(self, device=None):
        stream_device = device or self.current
        self.entered.append(stream_device)
        event = SimpleNamespace(synchronize=lambda: None)
        note = lambda: self.events.append(stream_device) or event  # noqa: E731
        return SimpleNamespace(wait_stream=lambda other: None, record_event=note)


def test_a_graph_is_recorded_on_the_device_of_its_tensors(monkeypatch):
    cuda, second = Cuda(monkeypatch), torch.device("cuda:1")
    on = []
    outputs, _ = CudaRecorder(second)(lambda: on.append(cuda.current) or len(on))
    assert on == [second] * (WARM_UPS + 1)
    assert outputs == WARM_UPS + 1
    assert set(cuda.entered) == {second}
    assert cuda.current == torch.device("cuda:0")


def test_a_result_is_waited_for_on_the_device_that_makes_it(monkeypatch):
    """An event of another device's stream would have happened before the copy has begun."""
    cuda, second = Cuda(monkeypatch), torch.device("cuda:1")
    with FakeTensorMode():
        values = torch.empty(2, 3, 4, device=second)
        _to_host(values)
    assert cuda.events == [second]


def test_the_stand_in_tells_what_depends_on_the_host():
    """As a real graph, it would repeat a number that Python read from an earlier input."""
    graphed = ShapedGraphs(lambda x: x + float(x.max()), Replaying())
    assert graphed(torch.tensor([1.0])).item() == 2
    assert graphed(torch.tensor([5.0])).item() != 10


def test_what_cannot_be_recorded_is_refused_with_a_remedy():
    def fails(_):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    with pytest.raises(ConfigError, match="stream is capturing") as caught:
        ShapedGraphs(fails, Replaying())(torch.ones(1))
    assert "--graphs" in caught.value.remedy
    assert "and more" not in caught.value.problem


def test_running_out_of_memory_is_not_taken_for_it():
    def full(_):
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        ShapedGraphs(full, Replaying())(torch.ones(1))


def test_graphs_are_for_gpus():
    with pytest.raises(ConfigError, match="CUDA graphs") as caught:
        Runner(tiny_network(), RunConfig(graphs=True), CPU)
    assert "--graphs" in caught.value.remedy


@pytest.fixture
def filled(monkeypatch):
    groups = Groups(encode=11, decode=16, filled=True)
    monkeypatch.setattr(Groups, "of", classmethod(lambda *_, **__: groups))


def depth_of(runner, clips):
    parts = [[] for _ in clips]
    for block in estimate(runner, clips):
        parts[block.clip].append(block.depth.values)
    return [np.concatenate(values).tobytes() for values in parts]


def runner_of(windows, graphs):
    runner = Runner(tiny_network(), RunConfig(input_size=28, windows=windows), CPU)
    for name in ("_encode", "_mix", "_decode") if graphs else ():
        setattr(runner, name, ShapedGraphs(getattr(runner, name), graphs))
    return runner


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_graphed_parts_give_the_same_bytes_in_any_company(monkeypatch, filled, precision):
    if precision == "float16":
        monkeypatch.setattr("pipelines.depth.vida.runner.packed", lambda it: halved(it, HALF))
    clips = [MemoryClip(recipe.clip(n, 16, 20, seed=n)) for n in (1, 26, 5, 23)]
    with Rounding():  # of half precision only
        expected = depth_of(runner_of(1, None), clips)
        for windows in (1, 3):
            record = Replaying()
            assert depth_of(runner_of(windows, record), clips) == expected
            assert record.runs == 3  # encode, mix, decode: whatever the batch
        backwards = depth_of(runner_of(3, Replaying()), clips[::-1])[::-1]
    assert backwards == expected


@pytest.mark.parametrize("way", ["compiled", "graphs"])
def test_out_of_memory_with_one_window_does_not_change_the_groups_midway(filled, way):
    runner = runner_of(4, None)
    setattr(runner, way, True)
    sizes = []

    def full(jobs, groups):
        sizes.append((len(jobs), groups.encode))
        raise torch.OutOfMemoryError

    runner._attempt = full
    with pytest.raises(ConfigError, match="too little memory") as caught:
        depth_of(runner, [MemoryClip(recipe.clip(60, 16, 20, seed=1))])
    assert "--set input_size" in caught.value.remedy
    assert sizes == [(3, 11), (1, 11)]  # a smaller batch changes no byte, a smaller group may
