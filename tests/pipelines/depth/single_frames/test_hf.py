"""`hf:` models: tiny random ones, saved to disk as published ones are."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from depthtok.data import DepthKind
from depthtok.errors import ConfigError, MissingPackage, WeightsError
from pipelines.audit.candidates import doubt_about
from pipelines.depth.here import may_fetch, only_here
from pipelines.depth.hf import estimator as hf_estimator
from pipelines.depth.hf.estimator import load_estimator
from pipelines.depth.hf.families import kind_of, require_packages
from pipelines.depth.hf.models import open_source, quiet
from pipelines.depth.hf.reference import Reference
from pipelines.depth.registry import find
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.depth.vida.config import RunConfig
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip

transformers = pytest.importorskip("transformers")
CPU = torch.device("cpu")


def backbone():
    return transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )


def depth_anything(kind="relative"):
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone(),
        reassemble_hidden_size=16,
        patch_size=14,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=5 if kind == "metric" else 1,
    )
    return transformers.DepthAnythingForDepthEstimation(config)


def dpt():
    config = transformers.DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        fusion_hidden_size=8,
        neck_hidden_sizes=[8, 8, 8, 8],
        use_auxiliary_head=False,
        is_hybrid=False,
    )
    return transformers.DPTForDepthEstimation(config)


def glpn():
    config = transformers.GLPNConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=8,
    )
    return transformers.GLPNForDepthEstimation(config)


def processor(family):
    if family == "glpn":
        return transformers.GLPNImageProcessorPil(size_divisor=32)
    size = (
        {"height": 28, "width": 28} if family.startswith("depth") else {"height": 32, "width": 32}
    )
    return transformers.DPTImageProcessorPil(size=size)


MADE = {
    "depth_anything": depth_anything,
    "depth_anything_metric": lambda: depth_anything("metric"),
    "dpt": dpt,
    "glpn": glpn,
}
KINDS = {"depth_anything": "disparity", "dpt": "relative_depth"}  # others: metres


@pytest.fixture
def saved(tmp_path):
    """A function that saves a family's model; returns its directory, and the model."""

    def save(family):
        torch.manual_seed(0)
        with quiet():
            model = MADE[family]().eval()
            model.save_pretrained(tmp_path / family)
            processor(family).save_pretrained(tmp_path / family)
        return tmp_path / family, model

    return save


def loaded(path, **frame):
    return load_estimator(f"hf:{path}", None, RunConfig(frame=FrameConfig(**frame)), CPU)


@pytest.mark.parametrize("family", list(MADE))
def test_depth_is_what_the_library_itself_gives(saved, family):
    path, model = saved(family)
    kind = KINDS.get(family, "metres")
    network = loaded(path, kind=kind if family == "dpt" else "")
    clip = MemoryClip(recipe.clip(3, 40, 64, seed=1))
    blocks = list(network.estimate([clip]))
    values = np.concatenate([block.depth.values for block in blocks])
    preprocess = processor(family)
    for step in range(3):  # one image at a time, by the library's own steps
        inputs = preprocess(images=clip.frames[step], return_tensors="pt")
        with torch.inference_mode():
            outputs = model(**inputs)
        expected = preprocess.post_process_depth_estimation(outputs, target_sizes=[(40, 64)])[0]
        depth = expected["predicted_depth"].numpy()
        np.testing.assert_allclose(values[step], np.maximum(depth, 0), atol=1e-5)
    assert np.ptp(values) > 0
    assert network.spec.kind == kind
    settings = dict(network.spec.settings)
    assert settings["revision"] == "a directory"
    assert settings["family"] == family.removesuffix("_metric")
    assert len(network.spec.weights) == 64
    assert network.spec.name == f"hf:{path.name}"


def test_bytes_depend_on_the_clip_alone(saved):
    path, _ = saved("depth_anything")
    clips = [MemoryClip(recipe.clip(n, 40, 64, seed=n)) for n in (3, 5)]
    together = [block.depth.values for block in loaded(path).estimate(clips)]
    alone = [block.depth.values for clip in clips for block in loaded(path).estimate([clip])]
    assert all(map(np.array_equal, together, alone))


def test_the_driver_needs_no_gpu_and_float32_is_exact_on_one(saved, monkeypatch):
    """By a stand-in for one: nothing is moved there before the first frames are."""
    path, _ = saved("depth_anything")
    made = load_estimator(f"hf:{path}", None, RunConfig(), torch.device("cuda"))
    settings, on_cpu = dict(made.spec.settings), dict(loaded(path).spec.settings)
    assert (settings["device"], settings["algorithm"]) == ("cuda", "2")
    assert (on_cpu["device"], on_cpu["algorithm"]) == ("cpu", "1")  # its stores go on
    entered, moved = [], []

    @contextmanager
    def exact(device):
        entered.append(device.type)
        yield

    monkeypatch.setattr(hf_estimator, "exact_float32", exact)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *_, **__: self)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, **how: moved.append(how) or self)
    (block,) = made.estimate([MemoryClip(recipe.clip(2, 40, 64, seed=1))])
    assert block.depth.values.shape == (2, 40, 64)
    assert entered == ["cuda"]
    assert [str(how["device"]) for how in moved] == ["cuda"]


def test_the_spec_tells_models_and_their_processors_apart(saved):
    path, _ = saved("depth_anything")
    before = loaded(path).spec
    assert loaded(path).spec == before
    with quiet():
        transformers.DPTImageProcessorPil(size={"height": 42, "width": 42}).save_pretrained(path)
    assert loaded(path).spec.settings != before.settings
    assert loaded(path).spec.weights == before.weights


def test_the_licence_is_the_model_cards(saved):
    path, _ = saved("glpn")
    assert loaded(path).spec.licence.startswith("unknown")
    (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert loaded(path).spec.licence == "apache-2.0"
    assert "model card" in find(f"hf:{path}").notice


def test_a_kind_that_the_family_does_not_say_is_asked_for(saved):
    path, _ = saved("dpt")
    with pytest.raises(ConfigError, match="does not say what the depth") as caught:
        loaded(path)
    assert "kind=" in caught.value.remedy
    path, _ = saved("glpn")
    with pytest.raises(ConfigError, match="gives metres"):
        loaded(path, kind="disparity")


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "depth_anything", "depth_estimation_type": "relative"}, "disparity"),
        ({"model_type": "depth_anything", "depth_estimation_type": "metric"}, "metres"),
        ({"model_type": "glpn"}, "metres"),
        ({"model_type": "zoedepth"}, "metres"),
        ({"model_type": "tipsv2_dpt"}, "metres"),
        ({"model_type": "depth_pro"}, "metres"),
    ],
)
def test_families_say_their_kind(config, kind):
    assert kind_of("hf:a/b", config, "") == DepthKind(kind)
    assert kind_of("hf:a/b", {"model_type": "dpt"}, "disparity") is DepthKind.DISPARITY


@pytest.mark.parametrize(
    ("family", "why"),
    [("prompt_depth_anything", "measured depth"), ("chmv2", "trees"), ("bert", "none of the fam")],
)
def test_what_is_no_depth_of_an_image_is_refused(family, why):
    with pytest.raises(ConfigError, match=why):
        kind_of("hf:a/b", {"model_type": family}, "disparity")


def test_names_are_read_with_their_revision(tmp_path):
    assert Reference.of("hf:a/b") == Reference("a/b")
    assert Reference.of("hf:a/b@abc1") == Reference("a/b", "abc1")
    assert Reference.of(f"hf:{tmp_path}").local
    for name in ("hf:", "hf:alone", "hf:./absent", "hf:/absent/dir", "hf:a/b/c"):
        with pytest.raises(ConfigError, match="names no model"):
            find(name)


def test_a_directory_without_a_model_says_how_to_get_one(tmp_path):
    with pytest.raises(WeightsError, match="cannot be loaded") as caught:
        loaded(tmp_path)
    assert "hf download" in caught.value.remedy


def test_what_the_processor_decides_is_not_asked(saved):
    path, _ = saved("glpn")
    for run in (RunConfig(input_size=28), RunConfig(precision="float16")):
        with pytest.raises(ConfigError):
            load_estimator(f"hf:{path}", None, run, CPU)
    for absent in (path, path / "absent.safetensors"):
        with pytest.raises(WeightsError, match="there is no file of weights"):
            load_estimator(f"hf:{path}", absent, RunConfig(), CPU)


def test_processors_that_want_torchvision_say_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match="torchvision"):
        require_packages("zoedepth")
    require_packages("glpn")


def test_a_directory_that_was_downloaded_says_of_which_commit_it_is(saved):
    """As `hf download --local-dir` leaves it; a file that changed since is of unknown origin."""
    path, _ = saved("glpn")
    assert loaded(path).origin is None
    weights = path / "model.safetensors"
    records = path / ".cache" / "huggingface" / "download"
    records.mkdir(parents=True)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (records / "model.safetensors.metadata").write_text(f"{'c' * 40}\n{digest}\n1790000000.5\n")
    origin = loaded(path).origin
    assert str(origin) == f"hf:glpn, by the Hub's record beside it, commit {'c' * 40}"
    assert doubt_about("hf:glpn", "d1", str(origin)) == ""
    (records / "model.safetensors.metadata").write_text(f"{'c' * 40}\n{'0' * 64}\n1790000000.5\n")
    assert loaded(path).origin is None


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 3), (2, 70)])
def test_frames_of_odd_sizes_are_frames(saved, size):
    """Three rows of pixels are no channels."""
    path, _ = saved("depth_anything")
    network = loaded(path)
    red = np.zeros((2, *size, 3), np.uint8)
    red[..., 0] = 255
    inputs = network.network.prepare(red)
    assert inputs[:, 0].min() > 0 > inputs[:, 1:].max()
    (block,) = network.estimate([MemoryClip(red)])
    assert block.depth.values.shape == (2, *size)


def test_frames_that_a_processor_cannot_take_are_the_clips_failure(saved):
    """GLPN's makes sides multiples of 32 px, so that 20 become none."""
    path, _ = saved("glpn")
    clips = [MemoryClip(recipe.clip(2, *size, seed=1)) for size in ((20, 40), (32, 40))]
    first, second = loaded(path).estimate(clips)
    assert "the processor of hf:glpn takes no frames of [20, 40] px" in first.error
    assert second.depth.values.shape == (2, 32, 40)


def test_a_damaged_checkpoint_is_named(saved):
    path, _ = saved("depth_anything")
    (path / "model.safetensors").write_bytes(b"garbage, not tensors")
    with pytest.raises(WeightsError, match=f"{path.name} cannot be loaded as a depth model"):
        loaded(path)


def test_a_thread_that_a_plan_starts_fetches_nothing_either():
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(may_fetch).result()
        with only_here(), only_here():
            pass
        with only_here():
            assert not threads.submit(may_fetch).result()
        assert threads.submit(may_fetch).result()


def test_what_is_here_and_no_depth_model_is_not_said_to_be_absent(saved, monkeypatch):
    """As in a plan, which fetches nothing."""
    path, _ = saved("depth_anything")
    description = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**description, "model_type": "no such"}))
    monkeypatch.setattr(Reference, "of", lambda _: Reference(str(path)))
    with only_here(), pytest.raises(WeightsError, match="cannot be loaded as a depth model"):
        open_source("hf:some/model", "")
