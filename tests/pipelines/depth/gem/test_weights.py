"""GemDepth's checkpoints: loaded strictly, but for what has no effect; and what a store says."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from depthtok.data import DepthKind
from depthtok.errors import ConfigError, WeightsError
from pipelines.audit.candidates import doubt_about
from pipelines.depth.families import fresh
from pipelines.depth.fitting import fitting
from pipelines.depth.gem.config import GEM_CONFIGS
from pipelines.depth.gem.estimator import load_estimator
from pipelines.depth.gem.published import PUBLISHED
from pipelines.depth.gem.tensors import POSE
from pipelines.depth.gem.weights import load_network
from pipelines.depth.learning.choice import trainable
from pipelines.depth.registry import ESTIMATORS
from pipelines.depth.vida.config import CONFIGS, RunConfig
from pipelines.depth.vida.fresh import fresh_network
from pipelines.depth.vida.weights import find_weights, save_network, weights_hash
from pipelines.depth.vida.weights import load_network as load_vida

CPU = torch.device("cpu")
TINY = GEM_CONFIGS["gemdepth-tiny"]
WITHOUT_EFFECT = (
    "frame_blocks.1.norm1.weight",
    "global_blocks.1.attn.qkv.bias",
    "head.proj.2.weight",
    "head.motion_modules.3.temporal_transformer.fusion_gate1.0.bias",
    "head.motion_modules.0.temporal_transformer.layer_norm.weight",
    "pretrained.mask_token",
    "head.scratch.refinenet4.resConfUnit1.conv2.bias",
    "pos_encoder.pe",
)


@pytest.fixture(scope="module")
def tensors():
    return fresh(TINY, seed=3).state_dict()


@pytest.fixture
def official(tmp_path, tensors):
    """A file as it is published: with tensors that have no effect."""
    torch.save(tensors | {name: torch.ones(3) for name in WITHOUT_EFFECT}, tmp_path / "gem.pth")
    return tmp_path / "gem.pth"


def test_what_has_no_effect_is_dropped_and_may_be_missing(tmp_path, tensors, official):
    save_file(tensors, tmp_path / "mine.safetensors")
    one, other = load_network(TINY, official), load_network(TINY, tmp_path / "mine.safetensors")
    assert weights_hash(one) == weights_hash(other)
    assert one.state_dict().keys() == tensors.keys()
    assert str(one.origin) == "gemdepth-tiny, by the names and shapes of its tensors"


def test_shapes_say_which_network_it_is_and_not_where_it_is_from(tmp_path, tensors):
    """Random weights have them as well: nothing is recommended on them."""
    snapshot = tmp_path / "models--a--b" / "snapshots" / "c0ffee" / "gemdepth.pth"
    snapshot.parent.mkdir(parents=True)
    torch.save(tensors, snapshot)
    save_file(tensors, tmp_path / "random.safetensors")
    save_network(load_network(TINY, snapshot), tmp_path / "trained.safetensors")
    save_file(tensors, tmp_path / "carded.safetensors")
    card = {"name": TINY.name, "weights_sha256": weights_hash(load_network(TINY, snapshot))}
    (tmp_path / "carded.json").write_text(json.dumps(card))
    doubts = {}
    for path in (snapshot, *sorted(tmp_path.glob("*.safetensors"))):
        network = load_network(TINY, path)
        origin = str(network.origin)
        doubts[path.stem] = doubt_about(TINY.name, weights_hash(network), origin), origin
    assert doubts == {
        "gemdepth": (
            "",
            "gemdepth-tiny, by the names and shapes of its tensors, of revision c0ffee",
        ),
        "trained": ("", "gemdepth-tiny, by its metadata"),
        "carded": ("", "gemdepth-tiny, by the card beside it"),
        "random": (
            "weights of which only the shapes are known, perhaps random",
            "gemdepth-tiny, by the names and shapes of its tensors",
        ),
    }


def test_without_poses_nothing_that_predicts_them_is_loaded(tmp_path, official, tensors):
    network = load_network(replace(TINY, pose=False), official)
    rest = [name for name in tensors if not POSE.match(name)]
    assert list(network.state_dict()) == rest
    assert len(tensors) - len(rest) == 107
    torch.save(network.state_dict(), tmp_path / "off.pth")
    load_network(replace(TINY, pose=False), tmp_path / "off.pth")
    with pytest.raises(WeightsError, match=r"predict no poses(.|\n)*--set pose=off"):
        load_network(TINY, tmp_path / "off.pth")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"time_blocks.0.norm1.weight": None}, r"missing time_blocks\.0\.norm1\.weight"),
        ({"camera_token": None}, "missing camera_token"),
        ({"time_blocks.2.norm1.weight": torch.ones(3)}, "unknown time_blocks"),
        ({"module.camera_token": torch.ones(3)}, "unknown module"),
        ({"dec_norm.weight": torch.ones(3)}, r"dec_norm\.weight is \[3\], not \[128\]"),
    ],
)
def test_any_other_tensor_is_required_and_nothing_more(tmp_path, tensors, change, fault):
    state = {name: value for name, value in (tensors | change).items() if value is not None}
    torch.save(state, tmp_path / "gem.pth")
    with pytest.raises(WeightsError, match=fault):
        load_network(TINY, tmp_path / "gem.pth")


def test_weights_of_the_other_family_are_refused_with_the_estimator_they_fit(tmp_path, official):
    vida = fresh_network(CONFIGS["tiny"], seed=3)
    save_file(vida.state_dict(), tmp_path / "vida.safetensors")
    with pytest.raises(WeightsError, match=r"those of tiny and metric-tiny"):
        load_network(TINY, tmp_path / "vida.safetensors")
    with pytest.raises(WeightsError, match=r"those of gemdepth-tiny: give that --estimator"):
        load_vida(CONFIGS["tiny"], official)


def test_the_official_schema_fits_the_official_network_only(golden):
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in golden("schema_vitl.json").items()}
    assert fitting(state) == ["gemdepth"]


def test_the_specification_records_the_variant(official):
    specs = [
        load_estimator(TINY, official, RunConfig(pose=pose), CPU).spec for pose in (True, False)
    ]
    assert [dict(spec.settings)["pose"] for spec in specs] == ["on", "off"]
    assert specs[0] != specs[1]
    assert {spec.kind for spec in specs} == {DepthKind.DISPARITY}
    assert {spec.licence for spec in specs} == {"that of your own weights"}


def test_what_was_never_tried_is_refused():
    for way in ({"compile": True}, {"attention": "kernel"}):
        with pytest.raises(ConfigError, match=f"'gemdepth' does not take `{next(iter(way))}`"):
            ESTIMATORS["gemdepth"].require_taken(RunConfig(**way))


def test_the_licence_is_said_to_be_unproven():
    entry = ESTIMATORS["gemdepth"]
    assert entry.licence == "unproven; treated as CC-BY-NC-4.0"
    assert "not for commercial use" in entry.notice
    assert "YuechengLiu/GemDepth" in entry.notice
    assert entry.input_size == 518


def test_where_the_weights_are_is_told_where_they_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def nowhere(_):
        raise OSError("no network")

    monkeypatch.setattr("pipelines.depth.vida.weights._reach", nowhere)
    url = "https://huggingface.co/YuechengLiu/GemDepth/resolve/main/gemdepth.pth"
    with pytest.raises(WeightsError) as caught:
        find_weights("gemdepth", None, PUBLISHED)
    assert f"gemdepth.pth from {url}" in caught.value.remedy
    with pytest.raises(WeightsError, match="no published weights of gemdepth-tiny"):
        find_weights("gemdepth-tiny", None, PUBLISHED)


def test_a_file_in_the_hubs_cache_says_its_revision(tmp_path, official):
    folder = tmp_path / "models--YuechengLiu--GemDepth" / "snapshots" / "abc123"
    folder.mkdir(parents=True)
    official.rename(folder / "gemdepth.pth")
    network = load_network(TINY, folder / "gemdepth.pth")
    assert str(network.origin).endswith("its tensors, of revision abc123")


def test_a_folder_called_snapshots_is_no_hubs_cache(tmp_path, official):
    folder = tmp_path / "snapshots" / "run1"
    folder.mkdir(parents=True)
    mine = official.rename(folder / "mine.pth")
    origin = str(load_network(TINY, mine).origin)
    assert "only the shapes are known" in doubt_about("gemdepth", "0", origin)


def test_poses_are_a_choice_of_this_family_only():
    assert trainable("gemdepth-tiny", "off").config.variant == "gemdepth-tiny, pose off"
    assert trainable("vits", "on").config.variant == "vits"
    with pytest.raises(ConfigError, match="vits predicts no poses"):
        trainable("vits", "off")
    with pytest.raises(ConfigError, match="`pose` cannot be 'maybe'"):
        trainable("gemdepth-tiny", "maybe")
