import io
import json
import os
import pickle
import sys
from dataclasses import replace
from urllib.error import HTTPError

import pytest
import torch
from safetensors.torch import save_file

from depthtok.data import DepthKind
from depthtok.disk.digests import file_sha256
from depthtok.errors import MissingPackage, WeightsError
from pipelines.depth.vida import weights as module
from pipelines.depth.vida.config import CONFIGS, RunConfig
from pipelines.depth.vida.estimator import load_estimator
from pipelines.depth.vida.fresh import fresh_network
from pipelines.depth.vida.published import PUBLISHED, SHIPPED, licence_notice, shipped_or_cached
from pipelines.depth.vida.weights import (
    find_weights,
    load_network,
    save_network,
    weights_hash,
)
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip, tiny_network

CPU = torch.device("cpu")


@pytest.fixture
def tiny():
    return fresh_network(CONFIGS["tiny"], seed=3)


def test_pth_and_safetensors_load_to_the_same_network(tmp_path, tiny):
    torch.save(tiny.state_dict(), tmp_path / "a.pth")
    save_network(tiny, tmp_path / "a.safetensors")
    loaded = [
        load_network(CONFIGS["tiny"], tmp_path / f"a.{end}") for end in ("pth", "safetensors")
    ]
    assert {weights_hash(network) for network in loaded} == {weights_hash(tiny)}
    assert list(tmp_path.glob(".*")) == []


def test_half_precision_files_load_as_float32(tmp_path, tiny):
    save_network(tiny, tmp_path / "a.safetensors", dtype=torch.float16)
    network = load_network(CONFIGS["tiny"], tmp_path / "a.safetensors")
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


def test_weights_that_do_not_fit_say_what_is_wrong(tmp_path, tiny):
    state = tiny.state_dict()
    state["extra"] = state.pop("pretrained.cls_token")
    state["pretrained.norm.bias"] = torch.zeros(7)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"norm.bias is \[7\], not \[128\].*cls_token.*extra"):
        load_network(CONFIGS["tiny"], tmp_path / "a.safetensors")


class Payload:
    def __reduce__(self):
        return print, ("code in a checkpoint was run",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"x": Payload()}, protocol=2))
    with pytest.raises(WeightsError, match="cannot be read"):
        load_network(CONFIGS["tiny"], tmp_path / "a.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_cut_file_is_refused(tmp_path, tiny, name):
    if name.endswith("pth"):
        torch.save(tiny.state_dict(), tmp_path / name)
    else:
        save_network(tiny, tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="cannot be read"):
        load_network(CONFIGS["tiny"], tmp_path / name)


def test_a_training_checkpoint_is_refused(tmp_path, tiny):
    torch.save({"network": tiny.state_dict(), "step": 3}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="plain dictionary"):
        load_network(CONFIGS["tiny"], tmp_path / "a.pth")


def test_weights_that_are_nowhere_say_where_to_get_them(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="there is no file"):
        find_weights("vits", tmp_path / "absent.pth")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackage) as caught:
        find_weights("vits")
    for part in (
        "depthtok[hf]",
        "video_depth_anything_vits.pth",
        PUBLISHED["vits"].url,
        "--weights",
        "--estimator tiny",
    ):
        assert part in caught.value.remedy


def test_offline_the_error_names_the_file(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    def offline(*_, timeout):
        assert timeout <= 5
        raise OSError("no network")

    monkeypatch.setattr(module, "urlopen", offline)
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: pytest.fail("tried for long"))
    with pytest.raises(WeightsError) as caught:
        find_weights("metric-vitl")
    assert "metric_video_depth_anything_vitl.pth" in caught.value.remedy


def in_cache(folder, name, commit, data, ref=None):
    """A published file in a Hub cache; `ref` is the commit that `main` is."""
    repository = folder / f"models--{PUBLISHED[name].repo.replace('/', '--')}"
    file = repository / "snapshots" / commit / PUBLISHED[name].file
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    if ref:
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(ref)
    return file


@pytest.mark.parametrize("ref", [None, "abc"])
def test_weights_in_the_cache_are_those_that_are_known(monkeypatch, tmp_path, ref):
    """As `doctor` sees them: of any commit, and without the Hub's library."""
    file = in_cache(tmp_path, "metric-vitl", "abc", b"other bytes", ref)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match="SHA-256") as caught:
        find_weights("metric-vitl")
    assert "--weights" in caught.value.remedy
    published = replace(PUBLISHED["metric-vitl"], sha256=file_sha256(file))
    monkeypatch.setitem(PUBLISHED, "metric-vitl", published)
    assert find_weights("metric-vitl") == file == shipped_or_cached("metric-vitl", tmp_path)


def test_of_several_commits_in_the_cache_that_of_main_counts_else_the_latest(tmp_path):
    late = in_cache(tmp_path, "vits", "a", b"x")
    early = in_cache(tmp_path, "vits", "b", b"y")
    for file, when in ((early, 1000), (late, 2000)):
        os.utime(file.parent, (when, when))
    assert shipped_or_cached("vits", tmp_path) == late
    main = tmp_path / "models--depth-anything--Video-Depth-Anything-Small/refs/main"
    main.parent.mkdir()
    main.write_text("b")
    assert shipped_or_cached("vits", tmp_path) == early


def test_a_server_that_answers_is_asked_for_the_file(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    file = tmp_path / PUBLISHED["vits"].file
    file.write_bytes(b"bytes")

    def refuses(request, timeout):
        raise HTTPError(request.full_url, 401, "no", {}, io.BytesIO())

    monkeypatch.setitem(PUBLISHED, "vits", replace(PUBLISHED["vits"], sha256=file_sha256(file)))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "urlopen", refuses)
    monkeypatch.setattr(hub, "hf_hub_download", lambda repo, name, **_: str(tmp_path / name))
    assert find_weights("vits") == file


def test_weights_are_seen_where_they_lie(tmp_path):
    assert shipped_or_cached("tiny", tmp_path) == SHIPPED / "tiny.safetensors"
    assert shipped_or_cached("vits", tmp_path) is None
    assert shipped_or_cached("metric-tiny", tmp_path) is None
    snapshot = tmp_path / "models--depth-anything--Video-Depth-Anything-Small/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / PUBLISHED["vits"].file).write_bytes(b"x")
    assert shipped_or_cached("vits", tmp_path) == snapshot / PUBLISHED["vits"].file
    assert shipped_or_cached("vitl", tmp_path) is None


def test_networks_without_published_weights_need_a_path(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "SHIPPED", tmp_path)
    with pytest.raises(WeightsError, match="no published weights of metric-tiny"):
        find_weights("metric-tiny")


def test_non_commercial_weights_carry_a_notice():
    assert "CC-BY-NC-4.0" in licence_notice("vitl")
    assert licence_notice("vits") == licence_notice("tiny") == ""


def test_an_estimator_gives_depth_and_its_spec(tmp_path, tiny):
    save_network(tiny, tmp_path / "a.safetensors")
    run = RunConfig(input_size=42)
    estimator = load_estimator(CONFIGS["tiny"], tmp_path / "a.safetensors", run, CPU)
    assert estimator.spec.weights == weights_hash(tiny)
    assert estimator.spec.kind is DepthKind.DISPARITY
    assert (estimator.spec.precision, estimator.spec.input_size) == ("float32", 42)
    (block,) = estimator.estimate([MemoryClip(recipe.clip(3, 30, 40, seed=1))])
    assert block.depth.values.shape == (3, 30, 40)


def test_one_other_bit_is_another_hash(tiny):
    before = weights_hash(tiny)
    with torch.no_grad():
        tiny.pretrained.cls_token.view(-1)[0] += 1e-7
    assert weights_hash(tiny) != before
    assert weights_hash(tiny_network()) != before


def test_the_shipped_demo_model_is_the_one_on_its_card():
    card = json.loads((SHIPPED / "tiny.json").read_text())
    assert card["demo_model"]
    estimator = load_estimator(CONFIGS["tiny"], None, RunConfig(), CPU)
    assert estimator.spec.weights == card["weights_sha256"]
    (block,) = estimator.estimate([MemoryClip(recipe.clip(2, 64, 64, seed=1))])
    assert block.depth.values.std() > 0.01
