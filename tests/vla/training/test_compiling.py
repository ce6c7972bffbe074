"""Compiled layers: the same function, code for each size, and none silently eager."""

import threading
from dataclasses import dataclass

import pytest
import torch
import torch._inductor.config as inductor
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.exc import TorchDynamoException

from depthtok.errors import ConfigError, TrainingError
from tests.vla.model.test_model import draws, example
from vla.model.model import build
from vla.run_options import TrainingOptions
from vla.training import compiling
from vla.training.deterministic import reproducible
from vla.training.parallel import compile_layers

# The compiler looks at .grad itself.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute")


@dataclass
class Counted:
    """A backend of torch.compile that runs graphs as they are, and counts them."""

    forward: int = 0
    backward: int = 0
    symbolic: int = 0
    fail: bool = False

    def backend(self):
        return aot_autograd(fw_compiler=self._forward, bw_compiler=self._backward)

    def _forward(self, graph, inputs):
        self.forward += 1
        return self._looked_at(graph, inputs)

    def _backward(self, graph, inputs):
        if self.fail:
            raise TorchDynamoException("no such tiling")
        self.backward += 1
        return self._looked_at(graph, inputs)

    def _looked_at(self, graph, inputs):
        sizes = [value.shape if hasattr(value, "shape") else (value,) for value in inputs]
        self.symbolic += any(isinstance(n, torch.SymInt) for shape in sizes for n in shape)
        return make_boxed_func(graph.forward)


@pytest.fixture(autouse=True)
def _compiled_anew():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def made(config, codebook, **compiled):
    model = build(config, 0, torch.from_numpy(codebook.vectors))
    if compiled:
        compile_layers(model, **compiled)
    return model


def gradients(model, config, rows):
    """Of one pass, with the losses before them."""
    model.zero_grad()
    losses = model(example(config, rows), *draws(config, rows))
    (losses.flow + losses.depth).backward()
    grads = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    return [losses.flow.detach(), losses.depth.detach(), *grads]


@pytest.mark.unchecked
def test_compiled_layers_compute_the_same(micro, codebook):
    config = micro().model
    plain, compiled = made(config, codebook), made(config, codebook, backend="eager")
    for rows in (3, 2):
        pairs = zip(gradients(plain, config, rows), gradients(compiled, config, rows), strict=True)
        assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in pairs)


@pytest.mark.unchecked
def test_every_size_has_code_of_its_own_and_none_is_symbolic(micro, codebook):
    """Sizes come again, as in the passes of one step: only new ones are compiled, and more of them
    than torch allows by itself, whose limit is as before afterwards."""
    limit, config, counted = torch._dynamo.config.recompile_limit, micro().model, Counted()
    model, graphs = made(config, codebook, backend=counted.backend()), []
    for rows in (2, 2, 1, 3, 2):
        gradients(model, config, rows)
        graphs.append((counted.forward, counted.backward))
    # For a size: SigLIP's, and of Gemma's one function the prefix, its end, depth, actions.
    assert graphs == [(5, 5), (5, 5), (10, 10), (15, 15), (15, 15)]
    assert counted.symbolic == 0
    assert limit < 3 * 4
    assert torch._dynamo.config.recompile_limit == limit


@pytest.mark.unchecked
def test_torch_by_itself_makes_symbolic_code(micro, codebook, monkeypatch):
    """The negative control: without `dynamic=False` the counter above is not zero."""
    real, config, counted = torch.compile, micro().model, Counted()
    monkeypatch.setattr(torch, "compile", lambda f, dynamic, **how: real(f, **how))
    model = made(config, codebook, backend=counted.backend())
    for rows in (3, 2):
        model.see(example(config, rows)).sum().backward()
    assert (counted.forward, counted.symbolic) == (2, 2)  # the second's forward and backward


@pytest.mark.unchecked
def test_one_version_too_many_is_refused(micro, codebook, monkeypatch):
    monkeypatch.setattr(compiling, "VERSIONS", 4)
    config = micro().model
    model = made(config, codebook, backend="eager")
    gradients(model, config, 3)
    with pytest.raises(TrainingError, match="micro_batch"):
        gradients(model, config, 2)


@pytest.mark.unchecked
def test_a_backward_pass_without_code_is_refused(micro, toy, codebook, tmp_path, monkeypatch):
    """By the training, in words."""
    from vla.training import train as training

    backend = Counted(fail=True).backend()
    monkeypatch.setattr(training, "compile_layers", lambda m, budget: compile_layers(m, backend))
    config, options = micro(train__steps=1), TrainingOptions(loader_threads=0, compile=True)
    with pytest.raises(TrainingError, match="no such tiling"):
        training.train(config, toy(config), tmp_path, options, codebook=codebook)


@pytest.mark.unchecked
def test_a_layer_that_breaks_into_pieces_is_refused(micro, codebook):
    config = micro().model
    model = made(config, codebook)
    layer = model.vlm.layers[0]
    forward = layer.forward

    def broken(*given):
        torch._dynamo.graph_break()
        return forward(*given)

    layer.forward = broken
    compile_layers(model, backend="eager")
    with pytest.raises(TrainingError, match="cannot compile the layers"):
        gradients(model, config, 2)


def test_switched_off_is_refused(micro, codebook):
    with (
        torch._dynamo.config.patch(disable=True),
        pytest.raises(ConfigError, match="TORCHDYNAMO_DISABLE"),
    ):
        made(micro().model, codebook, backend="eager")


@pytest.mark.unchecked
@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_code_is_made_so_for_the_backward_pass_too(micro, codebook, wanted):
    """On CUDA that pass runs in a thread of its own, where settings of this thread do not hold."""
    made_with = {"forward": set(), "backward": set()}

    def noting(which):
        def compiler(graph, inputs):
            made_with[which].add((threading.current_thread().name, inductor.deterministic))
            return make_boxed_func(graph.forward)

        return compiler

    backend = aot_autograd(fw_compiler=noting("forward"), bw_compiler=noting("backward"))
    config = micro().model
    model = made(config, codebook, backend=backend)
    with reproducible(wanted, torch.device("cpu"), compiled=True):
        losses = model(example(config, 2), *draws(config, 2))
        loss = losses.flow + losses.depth
        thread = threading.Thread(target=loss.backward, name="of CUDA")
        thread.start()
        thread.join()
    here = threading.current_thread().name
    assert made_with["forward"] == {(here, wanted)}
    assert made_with["backward"] == {(here, True) if wanted else ("of CUDA", False)}
    assert not inductor.deterministic


@pytest.mark.unchecked
def test_a_budget_of_activations(micro, codebook):
    """Fewer bytes saved for the backward pass, the same gradients."""
    config, saved, grads = micro(model__vlm__mlp=512).model, [], []
    nothing_else = aot_autograd(
        fw_compiler=lambda graph, _: make_boxed_func(graph.forward),
        bw_compiler=lambda graph, _: make_boxed_func(graph.forward),
        partition_fn=min_cut_rematerialization_partition,
    )
    for budget in (1.0, 0.3):
        torch._dynamo.reset()
        model = made(config, codebook, backend=nothing_else, budget=budget)
        saved_tensors = {}

        def pack(tensor, saved_tensors=saved_tensors):
            saved_tensors[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            losses = model(example(config, 3), *draws(config, 3))
        saved.append(sum(saved_tensor.nbytes() for saved_tensor in saved_tensors.values()))
        (losses.flow + losses.depth).backward()
        grads.append(model.vlm.layers[0].qkv.weight.grad)
    assert saved[1] < 0.7 * saved[0]
    assert torch.allclose(*grads, rtol=1e-5, atol=1e-7)


def test_a_budget_needs_compiled_layers():
    with pytest.raises(ConfigError, match="set compile, too"):
        TrainingOptions(activations=0.5)
    assert TrainingOptions(activations=0.5, compile=True).activations == 0.5
