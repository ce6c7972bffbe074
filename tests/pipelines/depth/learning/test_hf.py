"""Models of transformers learn, through their own processors: tiny ones, saved as published ones
are."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from depthtok.data import DepthKind
from depthtok.errors import ConfigError, WeightsError
from depthtok.stores.depth import DepthStore
from depthtok.testing import make_rlds
from pipelines.audit.candidates import doubt_about
from pipelines.depth.hf.models import Loaded, quiet
from pipelines.depth.learning.choice import trainable
from pipelines.depth.learning.finetune import FinetuneConfig, finetune
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.depth.vida.weights import save_weights
from tests.commands.trainings import call
from tests.pipelines.depth.single_frames.test_hf import MADE, processor
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip

pytest.importorskip("transformers")
CPU = torch.device("cpu")
KIND = {"dpt": "relative_depth"}  # what is stated; the others say it


@pytest.fixture
def saved(tmp_path):
    """A function that saves a family's model and returns its name."""

    def save(family):
        torch.manual_seed(0)
        with quiet():
            MADE[family]().eval().save_pretrained(tmp_path / family)
            processor(family).save_pretrained(tmp_path / family)
        return f"hf:{tmp_path / family}"

    return save


def family_of(name):
    return trainable(name, frame=FrameConfig(kind=KIND.get(name.rpartition("/")[2], "")))


def clip():
    frames = recipe.clip(4, 32, 64, seed=1)
    depth = 0.5 + frames.mean(-1, dtype=np.float32) / 255
    return MemoryClip(frames, depth.astype(np.float32))


def run(family, out, steps=6, **more):
    losses = []
    config = FinetuneConfig(
        steps=steps, batch=2, frames=2, input_size=0, save_every=2, learning_rate=3e-3
    )
    return finetune(
        family.load(None),
        [clip()],
        config,
        checkpoint=out,
        device=CPU,
        on_step=lambda report: losses.append(report.loss),
        **more,
    ), losses


@pytest.mark.parametrize("family", list(MADE))
def test_what_learns_is_what_is_used(saved, tmp_path, family):
    """The learner's depth is the estimator's, for each family, and reaches its weights."""
    chosen = family_of(saved(family))
    learner, frames = chosen.load(None), clip().frames
    inputs = learner.inputs(torch.from_numpy(frames), 0)[None]
    learner.network.eval()
    depth = learner.depth(inputs, (32, 64))
    assert depth.shape == (1, 4, 32, 64)
    depth.mean().backward()
    gradients = [p.grad for p in learner.network.parameters() if p.grad is not None]
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    out = tmp_path / "a.safetensors"
    save_weights(chosen.tensors(learner.network), chosen.name, out, torch.float32)
    estimator = chosen.estimator(out, 0, CPU)
    assert str(estimator.origin) == f"hf:{family}, by its metadata"
    used = np.concatenate([block.depth.values for block in estimator.estimate([clip()])])
    np.testing.assert_allclose(np.maximum(depth[0].detach().numpy(), 0), used, atol=1e-5)
    assert learner.kind == estimator.spec.kind


class Torchvision:
    """What ZoeDepth's processor uses of torchvision, where that is not installed."""

    class InterpolationMode:
        BICUBIC = "bicubic"

    @staticmethod
    def resize(depth, size, interpolation, antialias):
        return torch.nn.functional.interpolate(depth[None], tuple(size), mode=interpolation)[0]


def test_zoedepth_has_a_gradient_and_no_mirror_pass(monkeypatch):
    import transformers.models.zoedepth.image_processing_pil_zoedepth as module

    monkeypatch.setattr(module, "tvF", Torchvision, raising=False)
    processor = module.ZoeDepthImageProcessorPil(size={"height": 32, "width": 32})
    loaded = Loaded("hf:a/b", *zoedepth(processor))
    inputs = loaded.inputs(recipe.clip(2, 40, 56, seed=1))
    calls = []
    loaded.model.register_forward_hook(lambda *_: calls.append(0))
    depth = loaded.depth(inputs, (40, 56), flipped=False)
    assert depth.shape == (2, 40, 56)
    assert len(calls) == 1
    depth.mean().backward()
    gradients = [p.grad for p in loaded.model.parameters() if p.grad is not None]
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    with torch.no_grad():
        loaded.depth(inputs, (40, 56))
    assert len(calls) == 3  # in use: with its mirror image


def zoedepth(processor):
    """Configuration, processor and model of the smallest kind."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.BeitConfig(
        image_size=32,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = transformers.ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_relative_features=8,
        bin_embedding_dim=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.1, "max_depth": 5.0, "name": "nyu"}],
        num_attractors=[4, 4, 2, 1],
    )
    with quiet():
        return config, processor, transformers.ZoeDepthForDepthEstimation(config).eval()


@pytest.mark.parametrize("family", list(MADE))
def test_training_lowers_the_loss_and_a_stopped_run_ends_the_same(saved, tmp_path, family):
    """GLPN drops paths by chance: what chance gives depends on seed and step alone."""
    chosen = family_of(saved(family))
    whole, losses = run(chosen, tmp_path / "a", 16)
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    asked = []
    stopped, before = run(
        chosen, tmp_path / "b", 16, should_stop=lambda: bool(asked.append(0)) or len(asked) == 7
    )
    assert stopped is None
    torch.rand(3)  # what else draws changes nothing
    resumed, after = run(chosen, tmp_path / "b", 16)
    assert before + after == losses
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_command_writes_weights_that_annotate_takes(saved, tmp_path):
    name = saved("depth_anything")
    rlds = make_rlds(tmp_path / "rlds", episodes=3, steps=2, shards=1, size=32)
    call("convert", rlds, "--out", tmp_path / "episodes")
    words = ["annotate", tmp_path / "episodes", "--size", 32, "--out"]
    call(*words, tmp_path / "true", "--estimator", "dataset")
    out = tmp_path / "mine.safetensors"
    training = ["finetune-depth", tmp_path / "true", "--estimator", name, "--steps", 2]
    more = ["--out", out, "--batch", 1, "--frames", 2, "--held-out", 0.3]
    card = json.loads(call(*training, *more, "--json"))
    assert (card["name"], card["kind"]) == ("hf:depth_anything", "disparity")
    assert card["input_size_px"] is None
    own = load_file(tmp_path / "depth_anything" / "model.safetensors")
    assert set(load_file(out)) == set(own)  # the official names
    call(*words, tmp_path / "depth", "--estimator", name, "--weights", out)
    depth = DepthStore(tmp_path / "depth")
    assert depth.estimator["weights"] == card["weights_sha256"]
    assert depth.spec.place["weights"] == "hf:depth_anything, by its metadata"
    with pytest.raises(ConfigError, match="set by its own processor"):
        call(*training, *more, "--input-size", 28)


def test_weights_of_another_model_are_refused(saved, tmp_path):
    chosen, other = family_of(saved("depth_anything")), family_of(saved("glpn"))
    state = chosen.tensors(chosen.load(None).network)
    file = tmp_path / "a.safetensors"
    problems = {"vits": r"of vits .by its metadata., not of hf:glpn"}
    problems["hf:depth_anything"] = "does not match"  # directories have any name, tensors tell
    for name, problem in problems.items():
        save_weights(state, name, file, torch.float32)
        with pytest.raises(WeightsError, match=problem):
            other.load(file)
    save_weights(state, "hf:elsewhere", file, torch.float32, DepthKind.METRES)
    with pytest.raises(WeightsError, match=r"taught to give metres .* gives disparity"):
        chosen.load(file)
    save_weights(state, "", tmp_path / "b.safetensors", torch.float32)
    with pytest.raises(WeightsError, match="does not match hf:glpn: missing"):
        other.load(tmp_path / "b.safetensors")
    origin = chosen.load(tmp_path / "b.safetensors").origin
    assert origin.networks == ()
    assert doubt_about("hf:owner/name", "d1", str(origin)).startswith("weights of unknown origin")
    assert doubt_about("hf:owner/name", "d1", "") == ""


def test_the_kind_chooses_what_is_learned_and_other_families_are_refused(saved, monkeypatch):
    name = saved("dpt")
    assert trainable(name, frame=FrameConfig(kind="disparity")).load(None).kind is DepthKind(
        "disparity"
    )
    with pytest.raises(ConfigError, match="does not say what the depth"):
        trainable(name).load(None)
    monkeypatch.setattr("pipelines.depth.learning.hf.TRAINABLE", ("glpn",))
    with pytest.raises(ConfigError, match="family dpt, which cannot be fine-tuned"):
        trainable(name, frame=FrameConfig(kind="disparity")).load(None)


def test_random_weights_follow_the_seed(saved):
    family = family_of(saved("depth_anything"))
    one, again, other = (family.fresh(seed).network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
