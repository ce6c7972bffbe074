"""Estimators of other packages learn where their class offers it: the example, and wrong offers."""

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from depthtok.data import DepthKind
from depthtok.errors import ConfigError, SourceError, WeightsError
from depthtok.stores.depth import DepthStore
from depthtok.testing import make_rlds
from pipelines.depth import outside
from pipelines.depth.learning.choice import trainable
from pipelines.depth.learning.finetune import FinetuneConfig, finetune
from pipelines.depth.registry import find
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.weights import save_weights
from tests.commands.trainings import call
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip

EXAMPLE = Path(__file__).parents[4] / "examples" / "own_estimator"
CPU = torch.device("cpu")


@pytest.fixture
def offered(monkeypatch):
    """A function that offers a class by a name, as an installed package does."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    points = {}

    def offer(name, value):
        points[name] = EntryPoint(name, value, outside.GROUP)

    def entry_points(group, name=None):
        return [point for key, point in points.items() if name in (None, key)]

    monkeypatch.setattr(outside, "entry_points", entry_points)
    offer("learns-near", "own_trainable:Learns")
    offer("low-is-near", "own_estimator:LowIsNear")
    yield offer
    for module in ("own_trainable", "own_estimator"):
        sys.modules.pop(module, None)


def clip():
    """Disparity (1/m) follows brightness; nothing is known of a corner."""
    frames = recipe.clip(6, 12, 16, seed=1)
    depth = 1 / (0.5 + frames.mean(-1, dtype=np.float32) / 255)
    depth[:, :3, :3] = 0
    return MemoryClip(frames, depth.astype(np.float32))


def run(learner, out, steps, **more):
    losses = []
    config = FinetuneConfig(
        steps=steps, batch=2, frames=3, input_size=0, save_every=2, learning_rate=0.02
    )
    network = finetune(
        learner,
        [clip()],
        config,
        checkpoint=out,
        device=CPU,
        on_step=lambda report: losses.append(report.loss),
        **more,
    )
    return network, losses


def test_the_example_learns_and_its_class_takes_what_it_learned(offered, tmp_path):
    family, out = trainable("learns-near"), tmp_path / "mine.safetensors"
    learner = family.load(None)
    learner.require([clip()])
    network, losses = run(learner, tmp_path / "a", 60)
    assert np.mean(losses[-5:]) < 0.4 * losses[0]
    save_weights(family.tensors(network), family.name, out, torch.float32, learner.kind)
    assert set(load_file(out)) == set(network.state_dict())
    family.estimator(out, 0, CPU)
    estimator = find("learns-near").build(out, RunConfig(), CPU)  # as `annotate` does
    assert str(estimator.origin) == "learns-near, by its metadata"
    (block,) = estimator.estimate([clip()])
    known = clip().depth > 0
    assert np.corrcoef(block.depth.values[known], 1 / clip().depth[known])[0, 1] > 0.95
    assert trainable("learns-near").load(out).origin.networks == ("learns-near",)


def test_the_command_teaches_the_example(offered, tmp_path):
    rlds = make_rlds(tmp_path / "rlds", episodes=3, steps=2, shards=1, size=24)
    call("convert", rlds, "--out", tmp_path / "episodes")
    annotate = ["annotate", tmp_path / "episodes", "--size", 32, "--out"]
    call(*annotate, tmp_path / "true", "--estimator", "dataset")
    out, own = tmp_path / "mine.safetensors", ["--estimator", "learns-near"]
    more = ["--steps", 2, "--batch", 1, "--frames", 2, "--held-out", 0.3, "--json"]
    text = call("finetune-depth", tmp_path / "true", *own, "--out", out, *more)
    card = json.loads(text)
    assert (card["name"], card["kind"]) == ("learns-near", "disparity")
    assert card["class"] == "own_trainable:Learns"
    assert set(card["held_out"]["figures"]) >= {"image, this network"}
    call(*annotate, tmp_path / "depth", *own, "--weights", out)
    depth = DepthStore(tmp_path / "depth")
    assert depth.estimator["weights"] == card["weights_sha256"]
    assert depth.spec.place["weights"] == "learns-near, by its metadata"


def test_a_stopped_run_ends_the_same(offered, tmp_path):
    whole, _ = run(trainable("learns-near").load(None), tmp_path / "a", 5)
    asked = []
    stopped, _ = run(
        trainable("learns-near").load(None),
        tmp_path / "b",
        5,
        should_stop=lambda: bool(asked.append(0)) or len(asked) == 3,
    )
    assert stopped is None
    resumed, losses = run(trainable("learns-near").load(None), tmp_path / "b", 5)
    assert len(losses) == 2
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_class_that_offers_nothing_is_refused_with_what_to_offer(offered):
    with pytest.raises(ConfigError, match=r"'low-is-near' .* nothing to fine-tune") as caught:
        trainable("low-is-near")
    assert "examples/own_estimator" in caught.value.remedy
    with pytest.raises(ConfigError, match="begins with the weights that its class makes"):
        trainable("learns-near").fresh(0)


class Pixels(torch.nn.Conv2d):
    """Colours to depth [n, h, w]."""

    def __init__(self):
        super().__init__(3, 1, 1)
        torch.nn.init.constant_(self.weight, 0.1)
        torch.nn.init.constant_(self.bias, 1.0)

    def forward(self, x):
        return super().forward(x)[:, 0]


class Good:
    """What the wrong ones are wrong of."""

    network = Pixels

    def __init__(self, weights=None, device="cpu"):
        self.module = self.network() if self.network else None

    def inputs(self, frames):
        return frames.permute(0, 3, 1, 2) / 255

    def depth(self, frames):
        with torch.no_grad():
            return self.module(self.inputs(torch.tensor(frames))).numpy()


class Twice(Good):
    def depth(self, frames):
        return 2 * super().depth(frames)


class Frozen(Good):
    class network(Pixels):
        def forward(self, x):
            return super().forward(x).detach()


class Channels(Good):
    class network(Pixels):
        def forward(self, x):
            return super().forward(x)[:, None]


class Tied(Good):
    class network(Pixels):
        def __init__(self):
            super().__init__()
            self.again = torch.nn.Conv2d(3, 1, 1)
            self.again.weight = self.weight

        def forward(self, x):
            return super().forward(x) + self.again(x)[:, 0]

    def __init__(self, weights=None, device="cpu"):
        super().__init__(weights, device)
        if weights:
            self.module.load_state_dict(load_file(weights))


class NoModule(Good):
    network = None


class Raises(Good):
    def inputs(self, frames):
        raise RuntimeError("no such colour")


class Nothing(Good):
    def depth(self, frames):
        return np.full(frames.shape[:3], np.nan, np.float32)


class Overflows(Good):
    class network(Pixels):
        def forward(self, x):
            return super().forward(x) * torch.tensor(torch.inf)


def learner_of(offered, name):
    offered(name.lower(), f"{__name__}:{name}")
    return trainable(name.lower(), frame=FrameConfig(kind="disparity")).load(None)


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("Twice", ConfigError, r"is not what depth.frames. gives"),
        ("Channels", ConfigError, "does not give depth of shape"),
        ("NoModule", ConfigError, "nothing to fine-tune"),
        ("Nothing", ConfigError, "gave no depth of the first frame of"),
        ("Raises", SourceError, "raised RuntimeError: no such colour"),
    ],
)
def test_wrong_offers_are_refused_before_the_first_step(offered, name, error, match):
    learner_of(offered, "Good").require([clip()])
    with pytest.raises(error, match=match):  # noqa: PT012
        learner = learner_of(offered, name)
        learner.require([clip()])


def test_what_has_no_gradient_is_refused(offered, tmp_path):
    with pytest.raises(ConfigError, match="has no gradient"):
        run(learner_of(offered, "Frozen"), tmp_path / "a", 1)


def test_a_tensor_of_two_names_is_written_under_both(offered, tmp_path):
    learner, out = learner_of(offered, "Tied"), tmp_path / "w.safetensors"
    family = trainable("tied", frame=FrameConfig(kind="disparity"))
    network, _ = run(learner, tmp_path / "a", 1)
    save_weights(family.tensors(network), "tied", out, torch.float32)
    assert set(load_file(out)) == {"weight", "bias", "again.weight", "again.bias"}
    family.estimator(out, 0, CPU)  # its class takes them


def test_what_a_class_says_of_other_weights_is_cut(offered, tmp_path):
    out = tmp_path / "w.safetensors"
    tensors = {f"layer.{number}.weight": torch.zeros(1) for number in range(99)}
    save_weights(tensors, "x", out, torch.float32)
    with pytest.raises(ConfigError, match="cannot be made with") as caught:
        trainable("learns-near").load(out)
    assert "layers.0.weight" in caught.value.problem
    assert len(caught.value.problem) < 500
    assert "\n" not in caught.value.problem


def test_a_class_that_ignores_its_weights_is_found_out(offered, tmp_path):
    offered("good", f"{__name__}:Good")
    family = trainable("good", frame=FrameConfig(kind="metres"))
    learner, out = family.load(None), tmp_path / "w.safetensors"
    assert learner.kind is DepthKind.METRES
    network, _ = run(learner, tmp_path / "a", 1)
    save_weights(family.tensors(network), "good", out, torch.float32)
    with pytest.raises(WeightsError, match="did not take the weights"):
        family.estimator(out, 0, CPU)


def test_a_loss_that_is_no_number_ends_the_training_with_the_checkpoint_as_it_was(
    offered, tmp_path
):
    """And so does a gradient: weights without numbers are never kept, nor written."""
    with pytest.raises(ConfigError, match=r"the loss of step 1 is nan") as caught:
        run(learner_of(offered, "Overflows"), tmp_path / "a", 3)
    assert "smaller --learning-rate" in caught.value.remedy
    assert not (tmp_path / "a").exists()
    learner, calls = learner_of(offered, "Good"), []
    learner.network.bias.register_hook(
        lambda gradient: gradient * (torch.inf if calls.append(0) or len(calls) == 2 else 1)
    )
    config = FinetuneConfig(steps=3, batch=2, frames=3, input_size=0, save_every=1)
    with pytest.raises(ConfigError, match=r"the gradient of the loss of step 2 is (nan|inf)"):
        finetune(learner, [clip()], config, checkpoint=tmp_path / "b", device=CPU)
    state = torch.load(tmp_path / "b", weights_only=True)
    assert state["done"] == 1
    assert all(torch.isfinite(value).all() for value in state["network"].values())


def test_a_file_that_was_taught_another_kind_is_refused(offered, tmp_path):
    """One class without a kind of its own, two stated kinds: near and far would be swapped."""
    learner, out = learner_of(offered, "Good"), tmp_path / "w.safetensors"
    state = learner.network.state_dict()
    save_weights(state, "good", out, torch.float32, learner.kind)
    assert trainable("good", frame=FrameConfig(kind="disparity")).load(out).kind == learner.kind
    metres = FrameConfig(kind="metres")
    with pytest.raises(WeightsError, match=r"taught to give disparity .* good gives metres"):
        trainable("good", frame=metres).load(out)
    with pytest.raises(WeightsError, match=r"taught to give disparity .* good gives metres"):
        find("good").build(out, RunConfig(frame=metres), CPU)
