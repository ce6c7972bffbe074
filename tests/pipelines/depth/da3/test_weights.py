import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from depthtok.errors import MissingPackage, WeightsError
from pipelines.audit.candidates import doubt_about
from pipelines.depth.da3.config import CONFIGS, tiny
from pipelines.depth.da3.network import DA3
from pipelines.depth.da3.published import PUBLISHED
from pipelines.depth.da3.weights import find_weights, load_network
from pipelines.depth.vida.weights import weights_hash
from tests.pipelines.depth.vida import recipe


def saved(config, path, seed=4, drop=(), add=None):
    """A file as the official ones are, of a small network; returns its tensors."""
    network = DA3(config)
    schema = {key: list(value.shape) for key, value in network.state_dict().items()}
    state = recipe.state_dict(schema, seed) | (add or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"model.{key}": value for key, value in state.items() if key not in drop}, path)
    return state


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("views", [False, True])
def test_what_is_loaded_is_what_was_written(tmp_path, views, seed):
    config, path = tiny(views=views), tmp_path / "a.safetensors"
    extra = {"cam_dec.fc_t.bias": torch.ones(3), "head.scratch.refinenet1_aux.x": torch.ones(2)}
    state = saved(config, path, seed, add=extra if views else {})
    network, origin = load_network(config, path)
    assert not network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert origin.networks == ((config.name,) if views else ())
    assert len(weights_hash(network)) == 64


@pytest.mark.parametrize("key", ["backbone.pretrained.norm.bias", "head.projects.0.weight"])
@pytest.mark.parametrize("views", [False, True])
def test_a_missing_key_is_named(tmp_path, views, key):
    saved(tiny(views=views), tmp_path / "a.safetensors", drop=(key,))
    with pytest.raises(WeightsError, match=f"missing model.{key}"):
        load_network(tiny(views=views), tmp_path / "a.safetensors")


def test_an_unknown_key_is_named_and_poses_are_no_part_of_mono(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(tiny(views=True), path, add={"head.extra.weight": torch.ones(2)})
    with pytest.raises(WeightsError, match=r"unknown head.extra.weight"):
        load_network(tiny(views=True), path)
    saved(tiny(), path, add={"cam_dec.fc_t.bias": torch.ones(3)})
    with pytest.raises(WeightsError, match=r"unknown cam_dec.fc_t.bias"):
        load_network(tiny(), path)


def test_names_without_the_official_prefix_are_refused(tmp_path):
    network = DA3(tiny())
    save_file(dict(network.state_dict()), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="missing model"):
        load_network(tiny(), tmp_path / "a.safetensors")


@pytest.mark.parametrize("folder", ["models--depth-anything--DA3METRIC-LARGE", "da3metric_large"])
def test_metres_are_not_taken_for_relative_depth(tmp_path, folder):
    path = tmp_path / folder / "snapshots" / "abc" / "model.safetensors"
    saved(tiny(), path)
    with pytest.raises(WeightsError, match="da3-metric-large") as caught:
        load_network(tiny(), path)
    assert "--estimator da3-metric-large" in caught.value.remedy


def test_a_config_beside_the_file_tells_the_network(tmp_path):
    path = tmp_path / "model.safetensors"
    saved(tiny(), path)
    (tmp_path / "config.json").write_text('{"model_name": "da3mono-large"}')
    with pytest.raises(WeightsError, match=r"da3-mono-large, by the config.json beside it"):
        load_network(tiny(), path)


@pytest.mark.parametrize(
    ("folder", "doubted"), [("mine", True), ("DA3-BASE", True), ("DA3-SMALL", False)]
)
def test_shapes_say_which_network_it_is_and_not_where_it_is_from(tmp_path, folder, doubted):
    config, path = replace(tiny(views=True), name="da3-small"), tmp_path / folder / "a.safetensors"
    saved(config, path)
    network, origin = load_network(config, path)
    assert origin.networks == ("da3-small",)
    doubt = doubt_about("da3-small", weights_hash(network), str(origin))
    assert ("only the shapes are known, perhaps random" in doubt) == doubted
    assert bool(doubt) == doubted


def test_every_published_file_is_permissive_and_says_where_it_is(monkeypatch, tmp_path):
    assert set(PUBLISHED) == set(CONFIGS)
    assert {published.licence for published in PUBLISHED.values()} == {"Apache-2.0"}
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackage) as caught:
        find_weights("da3-metric-large", None)
    url = "https://huggingface.co/depth-anything/DA3METRIC-LARGE/resolve/main/model.safetensors"
    assert url in caught.value.remedy
    with pytest.raises(WeightsError, match="there is no file"):
        find_weights("da3-small", tmp_path / "absent.safetensors")
