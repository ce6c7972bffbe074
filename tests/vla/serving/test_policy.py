"""Acting from a checkpoint: units, caches, and what is refused."""

import gc
import weakref
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from depthtok.errors import ConfigError, CorruptPart, WeightsError
from tests.vla.model.test_model import observation
from vla.data.normalise import Norms, Scale
from vla.model import flow
from vla.model.model import build
from vla.run_options import TrainingOptions
from vla.serving import graph
from vla.serving.policy import Policy
from vla.serving.server import describe
from vla.training import checkpoint
from vla.training.train import train

OBSERVATION = {
    "images": {name: np.full((32, 32, 3), 90, np.uint8) for name in ("main", "wrist")},
    "proprio": np.zeros(8, np.float32),
    "instruction": "open the drawer",
}


@pytest.fixture
def run(micro, toy, codebook, tmp_path):
    config = micro(train__steps=1, train__ema=0.5)
    train(config, toy(config), tmp_path, TrainingOptions(loader_threads=0), codebook=codebook)
    return tmp_path


def test_acts_in_the_units_of_the_data(run):
    policy = Policy.load(run)
    actions = policy.act(OBSERVATION)
    assert actions.shape == (4, 7)
    assert actions.dtype == np.float32
    scale = policy.norms.action
    inside = (actions >= np.array(scale.low) - 1e-5) & (actions <= np.array(scale.high) + 1e-5)
    assert inside[:, :-1].all()
    assert np.abs(actions[:, -1]).max() <= 1


def test_the_same_seed_acts_the_same(run):
    policy = Policy.load(run)
    first, second = policy.act(OBSERVATION), policy.act(OBSERVATION)
    policy.reset()
    assert (policy.act(OBSERVATION) == first).all()
    assert (first != second).any()


def test_average_is_preferred_and_optional(run):
    averaged, plain = Policy.load(run), Policy.load(run, averaged=False)
    assert (averaged.act(OBSERVATION) != plain.act(OBSERVATION)).any()


def test_cached_sampling_equals_uncached(micro, codebook):
    """The context computed once equals the whole model run at every Euler step."""
    for over in ({}, {"model__action_sees_depth": False}, {"model__mask": "prefix"}):
        config = micro(**over)
        model = build(config.model, 0, torch.from_numpy(codebook.vectors)).eval()
        torch.manual_seed(0)
        inputs = observation(config.model)
        noise = torch.randn(3, 4, 7)
        with torch.no_grad():
            cached = model.sample(inputs, noise)
            uncached = flow.integrate(
                config.model.flow,
                lambda x, t, m=model, s=inputs: m.velocity(m.context(s), x, t, s.proprio_BP),
                noise,
            )
        assert torch.equal(cached, uncached)


@pytest.mark.parametrize("sees", [True, False])
def test_acting_can_be_recorded(micro, codebook, sees):
    """What is traced for one observation acts for another: no value steers it, and no shape hangs
    on a value. Nor is anything made on another device than the inputs'."""
    config = micro(model__action_sees_depth=sees)
    model = build(config.model, 0, torch.from_numpy(codebook.vectors)).eval()
    unit = Scale((), ())
    policy = Policy(model, config, Norms(unit, unit))

    def given(seed):
        torch.manual_seed(seed)
        return *observation(config.model).tensors(), torch.randn(3, 4, 7)

    with torch.no_grad():
        traced = make_fx(policy._eager)(*given(0))
        assert torch.equal(traced(*given(1)), policy._eager(*given(1)))
        policy.model.to("meta")
        example = [tensor.to("meta") for tensor in given(0)]
        assert policy._eager(*example).device.type == "meta"


def test_a_graph_needs_a_gpu(run):
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        Policy.load(run, cuda_graph=True)


def test_a_graph_that_cannot_be_recorded_says_what_to_type(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(graph, "DEVICE", "cpu")

    def fails(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graph.CapturedGraph, "_capture", fails)
    with pytest.raises(ConfigError, match="cannot be recorded: operation not") as raised:
        graph.CapturedGraph(torch.neg, (torch.zeros(1),))
    assert raised.value.remedy == "give --no-cuda-graph"


def test_a_graph_keeps_what_it_reads(monkeypatch):
    """A graph holds addresses: the folded sampler's masks, angles and embeddings must not be freed
    with the sampler, or later tensors would be put in their place."""
    monkeypatch.setattr(graph, "DEVICE", "cpu")
    monkeypatch.setattr(graph.CapturedGraph, "_capture", lambda self, function: None)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())

    class Sampler:
        table = torch.zeros(1)

        def of_tensors(self, x):
            return x + self.table

    sampler = Sampler()
    alive = weakref.ref(sampler)
    recorded = graph.CapturedGraph(sampler.of_tensors, (torch.zeros(1),))
    del sampler
    gc.collect()
    assert alive() is not None
    del recorded
    gc.collect()
    assert alive() is None


def test_a_graph_copies_in_and_out(monkeypatch):
    """On a stand-in for CUDA that runs the function again at every replay."""
    recorded, entered = [], []

    class Recorder:
        def replay(self):
            recorded[0]()

    @contextmanager
    def recording(graph):
        yield

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorder)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", recording)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered.append(device) or recording(0))
    monkeypatch.setattr(graph, "DEVICE", "cpu")
    example = (torch.zeros(2), torch.zeros(2))
    double = graph.CapturedGraph(lambda x, y: 2 * x + y, example)
    recorded.append(lambda: double._output.copy_(2 * double._inputs[0] + double._inputs[1]))
    first, second = (double(torch.full((2,), x), torch.ones(2)) for x in (1.0, 5.0))
    assert (first.tolist(), second.tolist()) == ([3, 3], [11, 11])
    assert example[0].tolist() == [0, 0]
    assert entered == [torch.device("cpu")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {"main": np.zeros((8, 8, 3), np.uint8)}}, "images/wrist is missing"),
        ({"images": {n: np.zeros((8, 8, 3)) for n in ("main", "wrist")}}, "images/main is float64"),
        ({"images": {1: np.zeros((8, 8, 3), np.uint8)}}, "images/main is missing"),
        ({"images": {"main": [[1, 2], [3]]}}, "images/main has type list, not an array"),
        ({"images": None}, "images has type NoneType"),
        ({"images": np.zeros((8, 8, 3), np.uint8)}, "images has type ndarray"),
        ({"proprio": "a"}, "proprio has type str, not an array"),
        ({"proprio": np.zeros(3)}, "proprio has shape"),
        ({"proprio": np.full(8, np.nan)}, "finite"),
        ({"instruction": 3}, "instruction has type int"),
        ({"instruction": "\ud800"}, "instruction is not valid text"),
    ],
)
def test_bad_observations_name_the_field(run, change, message):
    with pytest.raises(ConfigError, match=message):
        Policy.load(run).act(OBSERVATION | change)


def test_missing_field(run):
    observation = {k: v for k, v in OBSERVATION.items() if k != "proprio"}
    with pytest.raises(ConfigError, match="proprio is missing"):
        Policy.load(run).act(observation)


@pytest.mark.unchecked
def test_what_is_no_observation(run):
    with pytest.raises(ConfigError, match="images is missing"):
        Policy.load(run).act({1: 2})
    with pytest.raises(ConfigError, match="the observation has type NoneType"):
        Policy.load(run).act(None)


def test_what_is_no_checkpoint(run, tmp_path_factory):
    with pytest.raises(WeightsError, match="no checkpoint"):
        Policy.load(tmp_path_factory.mktemp("empty"))
    (checkpoint.find(run) / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CorruptPart, match="not the file that was written"):
        Policy.load(run)
    (checkpoint.find(run) / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="is missing"):
        Policy.load(run)


def test_what_a_server_tells_of_its_weights_is_what_acts(run):
    """`serve --last` acts otherwise: an evaluation must not take it for the same policy."""
    averaged, last = (describe(Policy.load(run, averaged=choice)) for choice in (True, False))
    assert sorted(averaged["weights"]) == ["average.safetensors", "model.safetensors"]
    assert last == averaged | {
        "weights": {"model.safetensors": averaged["weights"]["model.safetensors"]}
    }


def test_a_server_of_several_data_sets_tells_in_whose_units_it_acts(run, tmp_path):
    assert "dataset" not in describe(Policy.load(run))
    step = checkpoint.find(run)
    state = checkpoint.read_state(step)
    toy, meaning = state.norms["toy"], state.meanings["toy"]
    wide = replace(toy, action=replace(toy.action, high=tuple(2 * x for x in toy.action.high)))
    both = {"norms": {"toy": toy, "wide": wide}, "meanings": {"toy": meaning, "wide": meaning}}
    tensors = {"model": checkpoint.read_tensors(step, "model")}
    there = tmp_path / "both"
    checkpoint.write(there, checkpoint.read_config(step), replace(state, **both), tensors)
    policies = [Policy.load(there, dataset=name) for name in both["norms"]]
    acted = [policy.act(OBSERVATION) for policy in policies]
    assert not np.array_equal(*acted)
    assert [describe(policy).pop("dataset") for policy in policies] == ["toy", "wide"]


def test_a_lost_average_is_missed(run):
    """The weights beside it would load, too: they are others than those that were judged."""
    (checkpoint.find(run) / "average.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"average\.safetensors is missing"):
        Policy.load(run)
    Policy.load(run, averaged=False)


def test_other_data_sets_units(run):
    with pytest.raises(ConfigError, match="was trained on toy"):
        Policy.load(run, dataset="bridge")
